"""The detection half of the demo: Cascade R-CNN against MEC, on synthetic scenes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from longtail.training.config_file import from_dict
from longtail.training.detection_config import DetectionConfig, DetectionMethodConfig

#: One budget for both methods, chosen for two CPU cores.
SETTINGS: dict[str, Any] = {
    "data": {
        "dataset": "longtail-scenes",
        "options": {"size": [96, 96]},
        "val_options": {"num_images": 100},
        "groups": {"edges": [40, 150]},
    },
    "augmentation": {"short_sides": [96, 112, 128], "short_side": 112, "max_side": 256},
    "model": {
        "backbone": "torchvision/mobilenet_v2",
        "backbone_options": {"channels": 48, "frozen_stages": 0, "norm": "trained"},
        "options": {
            "head_channels": 128,
            "mask_channels": 32,
            "mask_convolutions": 2,
            "samples": 64,
            "proposals": {
                "anchor_sizes": [8, 16, 32, 64, 128],
                "candidates_train": 300,
                "kept_train": 150,
                "candidates_test": 150,
                "kept_test": 60,
            },
            "postprocess": {"max_detections": 50, "score_threshold": 0.01},
        },
    },
    "optimiser": {"name": "adamw", "lr": 0.001, "warmup_iterations": 20},
    "loading": {"batch_size": 8, "workers": 0},
    "hardware": {"accelerator": "cpu", "devices": 1, "gradient_clip": 10.0},
    "logging": {"logger": "none", "log_interval": 50, "val_interval": 0, "checkpoint_interval": 200},
    "evaluation": {"pictures": 6},
}


def detection_demo_configs(iterations: int, seed: int) -> dict[str, DetectionConfig]:
    """Run name -> settings, the baseline first."""
    base = from_dict(DetectionConfig, {**SETTINGS, "seed": seed, "iterations": {"train": iterations}})
    return {name: replace(base, method=DetectionMethodConfig(name)) for name in ("baseline", "mec")}


def run_detection_demo(out: Path, *, iterations: int, seed: int, overwrite: bool) -> list[Path]:
    """Train and score both methods; returns their run folders, the baseline first.

    A run that is finished already is not run again.
    """
    from longtail.training.detection_task import score_detection_run
    from longtail.training.fit import fit

    runs = []
    for name, config in detection_demo_configs(iterations, seed).items():
        run = fit(config, out / name, resume=not overwrite, overwrite=overwrite)
        if overwrite or not run.results.is_file():
            score_detection_run(run.path)
        runs.append(run.path)
    return runs
