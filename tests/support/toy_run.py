"""A method and task small enough to train in milliseconds, with all that makes resuming hard: dropout, batch norm,
momentum, random augmentation, two phases. As a script it trains itself, for tests that need processes of their own.
"""

import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from longtail.samplers.shuffled import Shuffled
from longtail.training.checkpoints import save_weights
from longtail.training.config import HardwareConfig, LoadingConfig, LoggingConfig, OptimiserConfig, RunConfig
from longtail.training.run import fit
from longtail.training.run_folder import RunFolder
from longtail.training.tasks.base import Validation


class ToyMethod(nn.Module):
    phases = ("experts", "ensemble")

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3))
        self.head = nn.Linear(8, 3)
        self.scale = nn.Parameter(torch.ones(3))
        self.phase = "experts"

    def start_phase(self, phase: str) -> None:
        self.phase = phase
        for name, parameter in self.named_parameters():
            parameter.requires_grad_((name == "scale") == (phase == "ensemble"))

    def losses(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.head(self.encoder(x))
        if self.phase == "ensemble":
            return {"ensemble": F.cross_entropy(logits * self.scale, y)}
        return {"cross_entropy": F.cross_entropy(logits, y), "decay": 1e-3 * logits.square().mean()}


class ToyData(Dataset):
    """Noisy samples: the noise is drawn from all three global generators."""

    def __init__(self, size: int = 37, pause: float = 0.0, poison: int | None = None) -> None:
        self.x = torch.randn(size, 4, generator=torch.Generator().manual_seed(1))
        self.pause = pause
        self.poison = poison

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> dict:
        time.sleep(self.pause)
        x = self.x[index] + 0.1 * torch.randn(4) + 0.1 * float(np.random.rand())  # noqa: NPY002
        if index == self.poison:
            x = x * float("nan")
        return {"x": x, "y": int(self.x[index].sum() > 0)}


class ToyTask:
    collate = None
    data_fingerprint = "toy"

    def __init__(self, pause: float = 0.0, poison: int | None = None) -> None:
        torch.manual_seed(5)
        self.method = ToyMethod()
        self.train_data = ToyData(pause=pause, poison=poison)
        self.order = Shuffled(len(self.train_data))
        self.validated: list[str] = []

    def inputs(self, batch: dict) -> tuple:
        return batch["x"], batch["y"]

    def prepare(self, fabric, run, console) -> None:
        pass

    def validate(self, device: torch.device) -> Validation:
        assert not self.method.training
        torch.rand(3)  # validation may draw; training must not notice
        self.validated.append(self.method.phase)
        score = self.method.scale.sum().item()
        return Validation(score, {"score": score}, f"score {score:.3f}")

    def save(self, run: RunFolder, phases: tuple[str, ...]) -> None:
        save_weights(self.method, run.weights, phases=" ".join(phases))

    def describe(self) -> list[tuple[str, str]]:
        return [("method", "toy")]


def toy_config(workers: int = 0, **changes: object) -> RunConfig:
    settings: dict = {
        "optimiser": OptimiserConfig(lr=0.05),
        "iterations": {"experts": 30, "ensemble": 20},
        "loading": LoadingConfig(batch_size=8, workers=workers),
        "hardware": HardwareConfig(accelerator="cpu", devices=1),
        "logging": LoggingConfig(logger="none", log_interval=10, val_interval=15, checkpoint_interval=7),
        "seed": 3,
    }
    return RunConfig(**{**settings, **changes})


def train(
    folder: str, workers: int, pause: float, resume: bool = False, devices: int = 1, accumulate: int = 1
) -> ToyTask:
    """Target of a process that a test kills."""
    torch.set_num_threads(1)
    hardware = HardwareConfig(accelerator="cpu", devices=devices, accumulate=accumulate)
    task = ToyTask(pause)
    fit(toy_config(workers, hardware=hardware), Path(folder), task=task, resume=resume)
    return task


def train_and_hang(folder: str) -> None:
    """Target of a process that a test kills in its first validation."""

    class Hangs(ToyTask):
        def validate(self, device: torch.device) -> Validation:
            (Path(folder) / "validating").touch()
            time.sleep(600)
            raise AssertionError("nobody came")

    torch.set_num_threads(1)
    fit(toy_config(), Path(folder), task=Hangs(), quiet=True)


def train_rank(folder: str, rank: int, world_size: int, port: int, resume: bool) -> None:
    """One rank of a run that something else has launched."""
    os.environ |= {
        "LOCAL_RANK": str(rank),
        "NODE_RANK": "0",
        "WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    task = train(folder, 0, 0.004, resume, devices=world_size)
    save_weights(task.method, Path(folder) / f"rank_{rank}.safetensors")


if __name__ == "__main__":
    where, how_many, wait, again, ranks = sys.argv[1:]
    train(where, int(how_many), float(wait), bool(int(again)), int(ranks))
