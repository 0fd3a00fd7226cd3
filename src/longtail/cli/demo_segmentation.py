"""The segmentation half of the demo: the baseline against MEDOE and its oracle, on synthetic scenes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from longtail.settings import from_dict
from longtail.training.segmentation_config import MethodConfig, SegmentationConfig

#: One budget for both methods, chosen for two CPU cores.
SETTINGS: dict[str, Any] = {
    "data": {"dataset": "longtail-scenes", "options": {"size": [96, 96]}},
    "augmentation": {"crop": [96, 96], "scale": [0.8, 1.25], "cat_max_ratio": 1.0, "options": {"photometric": False}},
    "model": {
        "name": "deeplabv3plus",
        "options": {
            "encoder": "resnet10t",
            "output_stride": 16,
            "channels": 64,
            "low_level_channels": 24,
            "auxiliary": False,
        },
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


def demo_configs(iterations: int, ensemble_iterations: int, seed: int) -> dict[str, SegmentationConfig]:
    """Run name -> settings, the baseline first; both have ``iterations`` in all."""
    base = from_dict(SegmentationConfig, {**SETTINGS, "seed": seed})
    return {
        "baseline": replace(
            base, method=MethodConfig("baseline"), iterations={"train": iterations}, phase_optimisers={}
        ),
        "medoe": replace(
            base,
            method=MethodConfig("medoe"),
            iterations={"experts": iterations - ensemble_iterations, "ensemble": ensemble_iterations},
        ),
    }


def run_segmentation_demo(
    out: Path, *, iterations: int, ensemble_iterations: int, seed: int, overwrite: bool
) -> list[Path]:
    """Train and score both methods; returns their run folders, the baseline first.

    A run that is finished already is not run again.
    """
    from longtail.training.fit import fit
    from longtail.training.segmentation_task import score_run

    runs = []
    for name, config in demo_configs(iterations, ensemble_iterations, seed).items():
        run = fit(config, out / name, resume=not overwrite, overwrite=overwrite)
        if overwrite or not run.results.is_file():
            score_run(run.path)
        runs.append(run.path)
    return runs
