"""``RunFolder``: files of a run. This module does not import torch."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from longtail.errors import ConfigError

_OURS = (
    "config.yaml",
    "train.log",
    "metrics.csv",
    "results.json",
    "results.npz",
    "best.safetensors",
    "config.json",
    "checkpoints",
    "pictures",
    "features",
    "wandb",
    "wandb_run",
    "mlruns",
    "mlflow_run",
    "tensorboard",
    "report.html",
)


@dataclass(frozen=True)
class RunFolder:
    """The layout of a run folder.

    Args:
        path: The folder, usually ``runs/NAME``.
    """

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))

    @property
    def settings(self) -> Path:
        """Resolved settings; ``--config`` replays them."""
        return self.path / "config.yaml"

    @property
    def log(self) -> Path:
        """Text of the console."""
        return self.path / "train.log"

    @property
    def metrics(self) -> Path:
        """Losses, learning rate and validation scores by iteration."""
        return self.path / "metrics.csv"

    @property
    def results(self) -> Path:
        """Final evaluation."""
        return self.path / "results.json"

    @property
    def weights(self) -> Path:
        """Best weights of the last phase begun."""
        return self.path / "best.safetensors"

    @property
    def card(self) -> Path:
        """Description of the weights: model, method, classes, groups."""
        return self.path / "config.json"

    @property
    def last(self) -> Path:
        """State from which training resumes."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def pictures(self) -> Path:
        """Label maps of a few images, for the report."""
        return self.path / "pictures"

    def phase_weights(self, phase: str) -> Path:
        """Weights at the end of a phase."""
        return self.path / "checkpoints" / f"{phase}.safetensors"

    def prepare(self, *, resume: bool = False, overwrite: bool = False) -> None:
        """Create the folder and check that a run may begin in it; only in the first process of a run.

        Nothing is removed: what ``overwrite`` replaces is there until ``clear``, should the settings not work.

        Raises:
            ConfigError: The folder holds something and neither ``resume`` nor ``overwrite`` says what to do with it.
        """
        if environment_rank() > 0:
            return
        self.check(resume=resume, overwrite=overwrite)
        try:
            self.last.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"cannot write to {self.path}: {error.strerror}", fix="give a folder that you may write to"
            ) from error

    def check(self, *, resume: bool = False, overwrite: bool = False) -> None:
        """See that a run may begin in the folder.

        Raises:
            ConfigError: See ``prepare``.
        """
        if resume and overwrite:
            raise ConfigError("a run is either resumed or overwritten, not both", fix="give one of the two")
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"{self.path} is a file", fix="give a folder for the run")
        if self._holds_something() and not (resume or overwrite):
            raise ConfigError(
                f"{self.path} is not empty",
                fix="continue that run with --resume, replace it with --overwrite, or give another folder",
            )

    def _holds_something(self) -> bool:
        """Whether it holds more than an empty folder ``checkpoints``."""
        checkpoints = self.last.parent
        if not self.path.is_dir():
            return False
        return any(e != checkpoints or not e.is_dir() or any(e.iterdir()) for e in self.path.iterdir())

    def clear(self) -> None:
        """Remove only files that a run writes; only in the first process of a run."""
        if environment_rank() > 0:
            return
        for name in _OURS:
            entry = self.path / name
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink(missing_ok=True)
        self.last.parent.mkdir(parents=True)


def environment_rank() -> int:
    """Rank of this process as its launcher says, before a process group exists."""
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK", "JSM_NAMESPACE_RANK", "OMPI_COMM_WORLD_RANK"):
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return 0
