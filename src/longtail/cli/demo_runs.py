"""The runs of the demo: a baseline next to MEDOE, and Cascade R-CNN next to MEC, on synthetic scenes."""

from pathlib import Path
from typing import Any

from longtail.settings import from_dict
from longtail.training.detection_config import DetectionConfig
from longtail.training.segmentation_config import SegmentationConfig

#: One budget for both methods, chosen for two CPU cores.
SEGMENTATION: dict[str, Any] = {
    "task": "segmentation",
    "data": {"dataset": "longtail-scenes", "size": [96, 96]},
    "augmentation": {"crop": [96, 96], "scale": [0.8, 1.25], "cat_max_ratio": 1.0, "photometric": False},
    "model": {
        "name": "deeplabv3plus",
        "encoder": "resnet10t",
        "output_stride": 16,
        "channels": 64,
        "low_level_channels": 24,
        "auxiliary": False,
    },
    # from random weights: a larger step than the paper's fine-tuning
    "optimiser": {"name": "sgd", "lr": 0.05, "warmup_iterations": 20},
    # ten times the paper's learning rate for a sixteenth of its iterations
    "phase_optimisers": {"ensemble": {"lr": 0.1, "warmup_iterations": 0}},
    "loading": {"batch_size": 8, "workers": 0},
    "hardware": {"accelerator": "cpu", "devices": 1},
    "logging": {"logger": "none", "log_interval": 50, "val_interval": 0, "checkpoint_interval": 200},
    "evaluation": {"pictures": 6},
}

#: One budget for both methods, chosen for two CPU cores on the losses and scores of the baseline.
DETECTION: dict[str, Any] = {
    "task": "detection",
    "data": {
        "dataset": "longtail-scenes",
        "size": [96, 96],
        "val_split": "",  # validated once, when the run is scored
        "groups": {"edges": [75, 250]},
    },
    "augmentation": {"short_sides": [96], "short_side": 96, "max_side": None},
    "model": {
        # from random weights: batch norms are trained, and nothing is frozen
        "backbone": {"name": "lcnet_050", "channels": 32, "frozen_stages": 0, "norm": "trained"},
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
    "optimiser": {"name": "adamw", "lr": 0.002, "warmup_iterations": 20, "schedule": "poly"},
    "loading": {"batch_size": 8, "workers": 0},
    "hardware": {"accelerator": "cpu", "devices": 1, "gradient_clip": 10.0},
    "logging": {"logger": "none", "log_interval": 50, "val_interval": 0, "checkpoint_interval": 200},
    "evaluation": {"batch_size": 8, "pictures": 6},
}


def segmentation_runs(iterations: int, ensemble_iterations: int, seed: int) -> dict[str, SegmentationConfig]:
    """Run name -> settings, the baseline first; both have ``iterations`` in all."""
    experts = {"experts": iterations - ensemble_iterations, "ensemble": ensemble_iterations}
    runs: dict[str, dict[str, Any]] = {
        "baseline": {"method": {"name": "baseline"}, "iterations": {"train": iterations}, "phase_optimisers": {}},
        "medoe": {"method": {"name": "medoe"}, "iterations": experts},
    }
    return {name: from_dict(SegmentationConfig, {**SEGMENTATION, **run, "seed": seed}) for name, run in runs.items()}


def detection_runs(iterations: int, seed: int) -> dict[str, DetectionConfig]:
    """Run name -> settings, the baseline first; both have ``iterations``."""
    # the baseline's stages read as MEC's are: what the ensemble does without experts (MEC Table 2c, row 2); without
    # the plain average, which is the baseline itself
    readouts = ["baseline", "dynamic_aligned", "stage_1", "stage_2", "stage_3"]
    runs: dict[str, dict[str, Any]] = {
        "baseline": {
            "method": {"name": "baseline", "comparisons": {"dynamic_aligned": "dynamic"}},
            "evaluation": {**DETECTION["evaluation"], "readouts": readouts},
        },
        "mec": {"method": {"name": "mec"}},
    }
    shared = {**DETECTION, "seed": seed, "iterations": {"train": iterations}}
    return {name: from_dict(DetectionConfig, {**shared, **run}) for name, run in runs.items()}


def make_runs(configs: dict[str, Any], out: Path, *, overwrite: bool) -> list[Path]:
    """Train and score every run that has not finished; returns their folders."""
    from longtail.training.run import fit, score_run

    folders = []
    for name, config in configs.items():
        run = fit(config, out / name, resume=not overwrite, overwrite=overwrite)
        if overwrite or not run.results.is_file():
            score_run(run.path, split="val")
        folders.append(run.path)
    return folders
