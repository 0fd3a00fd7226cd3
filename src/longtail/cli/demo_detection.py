"""The detection half of the demo: Cascade R-CNN against MEC and the other ensembles of its stages, on synthetic scenes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from longtail.settings import from_dict
from longtail.training.detection_config import DetectionConfig, DetectionMethodConfig

#: One budget for both methods, chosen for two CPU cores on the losses and scores of the baseline.
SETTINGS: dict[str, Any] = {
    "data": {
        "dataset": "longtail-scenes",
        "options": {"size": [96, 96]},
        "val_split": "",  # validated once, when the run is scored
        "groups": {"edges": [75, 250]},
    },
    "augmentation": {"short_sides": [96], "short_side": 96, "max_side": None},
    "model": {
        # from random weights: batch norms are trained, and nothing is frozen
        "backbone": "lcnet_050",
        "backbone_options": {"channels": 32, "frozen_stages": 0, "norm": "trained"},
        "options": {
            "head_channels": 128,
            "mask_channels": 32,
            "mask_convolutions": 1,
            "samples": 32,
            "pooling_samples": 1,
            "proposals": {
                "anchor_sizes": [12, 20, 32, 64, 128],
                "samples": 64,
                "candidates_train": 200,
                "kept_train": 100,
                "candidates_test": 150,
                "kept_test": 40,
            },
            "postprocess": {"max_detections": 30, "score_threshold": 0.01},
        },
    },
    "optimiser": {"name": "adamw", "lr": 0.002, "warmup_iterations": 20, "schedule": "poly"},
    "loading": {"batch_size": 8, "workers": 0},
    "hardware": {"accelerator": "cpu", "devices": 1, "gradient_clip": 10.0},
    "logging": {"logger": "none", "log_interval": 50, "val_interval": 0, "checkpoint_interval": 200},
    "evaluation": {"batch_size": 8, "pictures": 6},
}

#: The baseline's stages read as MEC's are: what the ensemble does without experts (MEC Table 2c, row 2).
_FURTHER: dict[str, Any] = {"dynamic_aligned": "dynamic"}
#: Without the plain average, which is the baseline itself.
_BASELINE_READOUTS = ["baseline", "dynamic_aligned", "stage_1", "stage_2", "stage_3"]


def detection_demo_configs(iterations: int, seed: int) -> dict[str, DetectionConfig]:
    """Run name -> settings, the baseline first; both have ``iterations``."""
    base = from_dict(DetectionConfig, {**SETTINGS, "seed": seed, "iterations": {"train": iterations}})
    return {
        "baseline": replace(
            base,
            method=DetectionMethodConfig("baseline", further=_FURTHER),
            evaluation=replace(base.evaluation, readouts=_BASELINE_READOUTS),
        ),
        "mec": replace(base, method=DetectionMethodConfig("mec")),
    }


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
            score_detection_run(run.path, split="val")
        runs.append(run.path)
    return runs
