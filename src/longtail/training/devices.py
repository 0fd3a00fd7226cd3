"""Devices, precision, ranks and loggers of a run, by Lightning Fabric."""

import logging
import os
import sys

import torch
from lightning.fabric import Fabric
from lightning.fabric.loggers import Logger, TensorBoardLogger
from lightning.fabric.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import nn

from longtail.errors import ConfigError
from longtail.training.config import HardwareConfig, LoggingConfig
from longtail.training.run_folder import RunFolder, environment_rank


def launch(hardware: HardwareConfig, loggers: list[Logger]) -> Fabric:
    """Choose the devices and start the other ranks; from here on all ranks run the same lines.

    Args:
        hardware: Where and in what precision to compute.
        loggers: Where metrics go besides ``metrics.csv``.

    Raises:
        ConfigError: This machine has no such devices, or the strategy parts the weights among the ranks.
    """
    for name in ("lightning.fabric", "lightning.pytorch"):  # no tips and no list of ranks
        logging.getLogger(name).setLevel(logging.ERROR)
    if hardware.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        fabric = Fabric(
            accelerator=hardware.accelerator,
            devices=hardware.devices,
            num_nodes=hardware.num_nodes,
            strategy=hardware.strategy,
            precision=hardware.precision,  # type: ignore[arg-type]
            loggers=loggers,
        )
        if not isinstance(fabric.strategy, (SingleDeviceStrategy, DDPStrategy)):
            raise ConfigError(
                f"hardware.strategy {hardware.strategy} parts the weights, which are saved whole",
                fix="choose auto or ddp",
            )
        fabric.launch()
    except (TypeError, ValueError, RuntimeError, ImportError, MisconfigurationException) as error:
        raise ConfigError(
            f"cannot compute with these devices: {error}", fix="check hardware.* in the settings"
        ) from error
    if fabric.device.type == "cuda":
        # cuDNN's search may choose another kernel on each run: off where the run is to be repeated exactly
        torch.backends.cudnn.benchmark = not hardware.deterministic
    return fabric


def build_loggers(settings: LoggingConfig, run: RunFolder) -> list[Logger]:
    """Loggers of a run other than ``metrics.csv``, by Lightning; a resumed run goes on in its own logs.

    Raises:
        ConfigError: A logger's package is not installed, or its service does not answer.
    """
    return [built for name in settings.loggers if (built := _logger(name, settings, run)) is not None]


def _logger(name: str, settings: LoggingConfig, run: RunFolder) -> Logger | None:
    if name == "tensorboard":
        return TensorBoardLogger(run.path, name="tensorboard", version="")
    if name == "none":
        return None
    saved = run.path / f"{name}_run"  # its id in the service
    earlier = saved.read_text().strip() if saved.is_file() else None
    try:
        if name == "wandb":
            from lightning.pytorch.loggers import WandbLogger

            found: Logger = WandbLogger(
                project=settings.project, name=run.path.name, save_dir=run.path, id=earlier, resume="allow"
            )
        else:
            from lightning.pytorch.loggers import MLFlowLogger

            where = os.environ.get("MLFLOW_TRACKING_URI") or f"file:{(run.path / 'mlruns').resolve()}"
            found = MLFlowLogger(settings.project, run_name=run.path.name, tracking_uri=where, run_id=earlier)
        if environment_rank() == 0:
            _ = found.experiment  # type: ignore[attr-defined]  # begins the run
            saved.write_text(f"{found.version}\n")
    except Exception as error:  # of a package that is not there, or of its service
        raise ConfigError(
            f"cannot log with {name}: {error}",
            fix=f"install it (pip install 'longtail[{name}]') and see that it runs, or leave it out of logging.logger",
        ) from error
    return found


def share_batch_statistics(method: nn.Module, hardware: HardwareConfig, fabric: Fabric) -> None:
    """Let batch norm take its statistics over all GPUs, if the settings ask for it."""
    if hardware.sync_batch_norm and fabric.world_size > 1 and fabric.device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(method)


def begin_peak(device: torch.device) -> None:
    """Measure the peak from here on; on a CPU it is the peak of the whole process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_gb(device: torch.device) -> float:
    """Peak memory in 10^9 bytes.

    On a GPU what torch's allocator held at once. On a CPU, where torch does not count, the largest resident memory of
    the process, libraries and loaded images included; NaN where the system does not tell.

    Args:
        device: Where the model is trained.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
