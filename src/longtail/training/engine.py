"""One training phase in Lightning: the module, its watch, and the trainer."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import torch
import torch.distributed as dist
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from torch import Tensor, nn

from longtail.distributed import all_gather_objects, all_reduce_sum, is_distributed
from longtail.errors import ConfigError, TrainingError
from longtail.losses.base import ClassificationLoss
from longtail.training.checkpoints import read_state, save_weights, write_whole
from longtail.training.config import RunConfig
from longtail.training.console import PhaseProgress
from longtail.training.failures import checked
from longtail.training.metrics_file import MetricsFile
from longtail.training.optimisers import build_optimiser, build_schedule
from longtail.training.randomness import generator_states, isolated_randomness, restore_generators, seed_generators
from longtail.training.run_folder import RunFolder
from longtail.training.signals import StopSignals
from longtail.training.task import Task, phases_of


class PhaseModule(lightning.LightningModule):
    """Any method of any task as Lightning wants it.

    Args:
        task: The method and how its batches are read.
        phase: The phase that the method is in.
        config: Settings of the run.
    """

    def __init__(self, task: Task, phase: str, config: RunConfig) -> None:
        super().__init__()
        self.task = task
        self.method = task.method
        self.phase = phase
        self.config = config
        self.terms: dict[str, Tensor] = {}

    def training_step(self, batch: Any, index: int) -> Tensor:
        """Sum of the named losses of the phase."""
        losses = self.method.losses(*self.task.inputs(checked(batch)))  # type: ignore[operator]
        self.terms = {name: value.detach() for name, value in losses.items()}
        return torch.stack(list(losses.values())).sum()

    def configure_optimizers(self) -> Any:
        """Optimiser and per-iteration schedule of the phase."""
        settings = self.config.optimiser_of(self.phase)
        optimiser = build_optimiser(self.method, settings)
        schedule = build_schedule(optimiser, settings, self.config.iterations_of(self.phase))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class PhaseWatch(Callback):
    """Looks at every iteration: losses, logs, validation, checkpoints, signals.

    On the CPU every loss is checked as it comes. On a GPU, and with several ranks, they are kept on the device and
    checked together every ``log_interval`` iterations, and always before anything is written.

    Args:
        task: What is trained.
        phase: The current phase.
        done: Phases before it.
        config: Settings of the run.
        run: The run folder.
        progress: Where to show the progress.
        metrics: The table of metrics.
        signals: Whether to stop.
    """

    def __init__(
        self,
        task: Task,
        phase: str,
        done: tuple[str, ...],
        config: RunConfig,
        run: RunFolder,
        progress: PhaseProgress,
        metrics: MetricsFile,
        signals: StopSignals,
    ) -> None:
        self.task = task
        self.phase = phase
        self.done = done
        self.config = config
        self.run = run
        self.progress = progress
        self.metrics = metrics
        self.signals = signals
        self.iterations = config.iterations_of(phase)
        self.iteration = progress.first
        self.best: float | None = None
        self.stop_signal = 0
        self._lr = 0.0
        self._losses: list[ClassificationLoss] = []
        self._names: list[str] = []
        self._pending: list[Tensor] = []
        self._first_pending = self.iteration + 1
        self._random_states: list | None = None
        self._owes_validation = False

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Take the signals back from Lightning, and set the generators."""
        self.signals.install()
        self._losses = [m for m in module.modules() if isinstance(m, ClassificationLoss)]
        self._pending = [values.to(module.device) for values in self._pending]
        if self._random_states is None:
            seed_generators(self.config.seed, self.phase, "run", trainer.global_rank)
        elif trainer.global_rank < len(self._random_states):
            restore_generators(self._random_states[trainer.global_rank])
        if self._owes_validation:
            assert isinstance(module, PhaseModule)
            self._validate(trainer, module)

    def on_train_batch_start(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, batch: Any, index: int
    ) -> None:
        """Note the learning rate before the schedule moves on; tell the losses how far the phase is."""
        self._lr = trainer.optimizers[0].param_groups[0]["lr"]
        for loss in self._losses:
            loss.set_progress(trainer.global_step / self.iterations)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Look at an iteration."""
        assert isinstance(module, PhaseModule)
        self._names = list(module.terms)
        self._pending.append(torch.stack([module.terms[name].float() for name in self._names]))
        if trainer.global_step == self.iteration:
            return  # gradients are still being accumulated
        self.iteration = trainer.global_step
        self.progress.advance(self.iteration)
        logging = self.config.logging
        last = self.iteration == self.iterations
        log = last or self.iteration % logging.log_interval == 0
        validate = bool(logging.val_interval) and (last or self.iteration % logging.val_interval == 0)
        save = last or self.iteration % logging.checkpoint_interval == 0
        every = module.device.type == "cpu" and not is_distributed()
        if not (every or log or validate or save):
            return
        means, self.stop_signal = self._synchronise()
        if log:
            self._log(trainer, means)
        if validate:
            if not last:  # a validation may take longer than a scheduler waits after SIGTERM
                self._owes_validation = True
                trainer.save_checkpoint(self.run.last, weights_only=False)
            self._validate(trainer, module)
        elif last:
            share_buffers(module.method)
            self._keep(trainer)
        if last and trainer.is_global_zero and len(phases_of(module.method)) > 1:
            path = self.run.phase_weights(self.phase)
            save_weights(module.method, path, phases=" ".join((*self.done, self.phase)))
        if save or validate or self.stop_signal:
            trainer.save_checkpoint(self.run.last, weights_only=False)
        if self.stop_signal:
            trainer.should_stop = True

    def _synchronise(self) -> tuple[dict[str, float], int]:
        """Mean of the losses since the last line, and the signal received; both agreed on by all ranks.

        Raises:
            TrainingError: A loss is not finite.
        """
        pending = torch.stack(self._pending).cpu()
        broken = (~pending.isfinite()).nonzero()
        found = None
        if len(broken):
            step, term = broken[0].tolist()
            iteration = self._first_pending + step // self.config.hardware.accumulate
            found = (iteration, self._names[term], pending[step, term].item())
        agreed = [(found, self.signals.received)]
        if is_distributed():
            agreed = all_gather_objects(agreed[0])
        for problem, _ in agreed:
            if problem is not None:
                iteration, name, value = problem
                last = self.run.last
                begin = f" or, with the weights saved before it, another one --from {last}" if last.is_file() else ""
                raise TrainingError(
                    f"loss {name!r} is {value} in iteration {iteration} of phase {self.phase!r}",
                    fix="lower optimiser.lr, lengthen the warm-up or set hardware.gradient_clip, and begin the run again "
                    f"(--overwrite){begin}; resumed, it would come to the same loss",
                )
        means = dict(zip(self._names, pending.mean(dim=0).tolist(), strict=True))
        return {"loss": sum(means.values()), **means}, max(received for _, received in agreed)

    def _log(self, trainer: lightning.Trainer, means: dict[str, float]) -> None:
        if is_distributed():
            total = all_reduce_sum(torch.tensor(list(means.values()), device=trainer.strategy.root_device))
            means = dict(zip(means, (total / trainer.world_size).tolist(), strict=True))
        self._pending.clear()
        self._first_pending = self.iteration + 1
        self.progress.report(self.iteration, means, self._lr)
        self._write(
            trainer,
            {
                "loss": means.pop("loss"),
                **{f"loss/{k}": v for k, v in means.items()},
                "lr": self._lr,
                "iterations_per_second": self.progress.speed(self.iteration),
            },
        )

    def _validate(self, trainer: lightning.Trainer, module: PhaseModule) -> None:
        share_buffers(module.method)
        self._owes_validation = False
        with self.progress.pause(), isolated_randomness():
            training = [m for m in module.method.modules() if m.training]
            module.method.eval()
            outcome = self.task.validate(module.device)
            for part in training:
                part.training = True
        if outcome is not None:
            self._write(trainer, {f"val/{name}": value for name, value in outcome.values.items()})
            if outcome.shown is not None:
                self.progress.console.say(outcome.shown)
        score = 0.0 if outcome is None else outcome.score
        if self.best is None or score > self.best or outcome is None:
            self.best = score
            self._keep(trainer)

    def _keep(self, trainer: lightning.Trainer) -> None:
        if trainer.is_global_zero:
            self.task.save(self.run, (*self.done, self.phase))

    def _write(self, trainer: lightning.Trainer, values: dict[str, float]) -> None:
        if trainer.is_global_zero:
            self.metrics.append(self.phase, self.iteration, values)
        for logger in trainer.loggers:
            logger.log_metrics({f"{self.phase}/{name}": value for name, value in values.items()}, self.iteration)

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add what is ours to the state."""
        checkpoint["longtail"] = {
            "phase": self.phase,
            "iteration": self.iteration,
            "finished": self.iteration == self.iterations,
            "done": list(self.done),
            "best": self.best,
            "data_fingerprint": self.task.data_fingerprint,
            "owes_validation": self._owes_validation,
            "world_size": trainer.world_size,
            "random_states": all_gather_objects(generator_states()),
            "pending": torch.stack(self._pending).cpu() if self._pending else None,
            "first_pending": self._first_pending,
        }

    def on_load_checkpoint(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take what is ours from the state."""
        state = checkpoint["longtail"]
        self.best = state["best"]
        self._owes_validation = state.get("owes_validation", False)
        self._random_states = state["random_states"]
        self._first_pending = state["first_pending"]
        if state["pending"] is not None:
            self._pending = list(state["pending"])


def share_buffers(method: nn.Module) -> None:
    """Give every rank the buffers of the first one (running statistics), as DDP does before each forward pass."""
    if is_distributed():
        for buffer in method.buffers():
            dist.broadcast(buffer, src=0)


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints that replace the last one when they are whole, and are read without executing anything."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write the state."""
        write_whole(Path(path), lambda part: torch.save(checkpoint, part))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read the state."""
        return read_state(Path(path))


def build_trainer(config: RunConfig, iterations: int, run: RunFolder, watch: list[Callback]) -> lightning.Trainer:
    """The trainer of one phase.

    Raises:
        ConfigError: Lightning refuses the hardware or the further arguments.
    """
    hardware = config.hardware
    cuda = torch.cuda.is_available() and hardware.accelerator in ("auto", "gpu", "cuda")
    loggers: list[Logger] = []
    if config.logging.logger == "tensorboard":
        loggers.append(TensorBoardLogger(run.path, name="tensorboard", version=""))
    arguments: dict[str, Any] = {
        "max_steps": iterations,
        "max_epochs": -1,
        "accelerator": hardware.accelerator,
        "devices": hardware.devices,
        "num_nodes": hardware.num_nodes,
        "strategy": hardware.strategy,
        "precision": hardware.precision,
        "accumulate_grad_batches": hardware.accumulate,
        "gradient_clip_val": hardware.gradient_clip,
        # cuDNN's search may choose another kernel on each run: off where the run is to be repeated exactly
        "deterministic": "warn" if hardware.deterministic else None,
        "benchmark": cuda and not hardware.deterministic,
        "sync_batchnorm": hardware.sync_batch_norm and cuda,
        "use_distributed_sampler": False,
        "logger": loggers or False,
        "callbacks": watch,
        "plugins": [WholeCheckpoints()],
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "limit_val_batches": 0,
        **config.trainer,
    }
    try:
        return lightning.Trainer(**arguments)
    except (TypeError, ValueError, RuntimeError, ImportError, MisconfigurationException) as error:
        raise ConfigError(
            f"the trainer cannot be built: {error}", fix="check hardware.* and trainer.* in the settings"
        ) from error


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Lightning without its adverts, tips and warnings about itself; its errors are raised, not logged."""
    names = ("lightning.pytorch", "lightning.fabric")
    before = {name: logging.getLogger(name).level for name in names}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\..*")
        warnings.filterwarnings("ignore", message=r".*treespec.*|.*LeafSpec.*|.*all_gather.*deprecated.*")
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in before.items():
                logging.getLogger(name).setLevel(level)
