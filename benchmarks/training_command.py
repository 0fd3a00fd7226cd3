"""A whole training run of the baseline against the same model in a plain PyTorch loop, after start-up."""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from harness import measure
from torch.utils.data import DataLoader

from longtail.settings import from_dict
from longtail.training.run import build_task, fit
from longtail.training.segmentation_config import SegmentationConfig
from longtail.training.tasks.data_task import DataTask

SETTINGS: dict[str, Any] = {
    "data": {"dataset": "longtail-scenes", "size": [128, 128], "num_images": 64, "val_split": ""},
    "augmentation": {"crop": [128, 128], "cat_max_ratio": 1.0},
    "model": {
        "name": "deeplabv3plus",
        "encoder": "resnet18",
        "output_stride": 16,
        "channels": 128,
        "auxiliary": False,
    },
    "method": {"name": "baseline"},
    "loading": {"batch_size": 4, "workers": 0},
    "hardware": {"accelerator": "cpu", "devices": 1},
    "logging": {"logger": "none", "log_interval": 50, "val_interval": 0, "checkpoint_interval": 100},
}


def plain_loop(task: DataTask, iterations: int) -> None:
    """What one writes by hand: a shuffling loader, cross-entropy of upsampled logits, SGD with a polynomial decay."""
    model = task.method.model.train()
    loader = DataLoader(task.train_data, SETTINGS["loading"]["batch_size"], shuffle=True, drop_last=True)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimiser, iterations, 0.9)
    done = 0
    while done < iterations:
        for batch in loader:
            logits = model.expert(model.encode(batch["image"])).logits
            full = F.interpolate(logits, batch["image"].shape[-2:], mode="bilinear", align_corners=False)
            loss = F.cross_entropy(full, batch["mask"].long(), ignore_index=255)
            if not loss.isfinite():
                raise ValueError("the loss is not finite")
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            done += 1
            if done == iterations:
                break


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--allocator", choices=["kept", "default"], default="kept")
    options = parser.parse_args()
    config = from_dict(SegmentationConfig, {**SETTINGS, "iterations": {"train": options.iterations}})
    with tempfile.TemporaryDirectory() as folder:
        tasks = [build_task(config) for _ in range(2)]
        measure(
            "training_command",
            {
                "plain PyTorch loop": lambda: plain_loop(tasks[0], options.iterations),
                "longtail fit": lambda: fit(config, Path(folder) / "run", task=tasks[1], overwrite=True, quiet=True),
            },
            options,
            note=f"{options.iterations} iterations of DeepLabv3+ on ResNet-18, 4 images of 128x128, weights saved",
            memory={},
        )


if __name__ == "__main__":
    main()
