"""Train a detector, Cascade R-CNN or Hybrid Task Cascade, plain or as multi-expert cascade, and score it.

Settings come from --config files and from the options below; later ones win. The resolved settings are written into
the run folder as config.yaml, which --config replays.
"""

from pathlib import Path
from typing import Any

from longtail.cli.parser import Namespace, Parser
from longtail.cli.training_command import add_training_arguments, settings_of_resumed_run, train
from longtail.training.detection_config import DetectionConfig

NAME = "train detection"
SUMMARY = "train a detector (MEC, Cascade, HTC) and score it"
ORDER = 21

prepare = settings_of_resumed_run


def add_arguments(parser: Parser) -> None:
    """Arguments of the command."""
    add_training_arguments(parser, "detection", DetectionConfig)


def run(arguments: Namespace) -> int:
    """Train."""
    return train(arguments, DetectionConfig, _input_size, _score)


def _input_size(config: DetectionConfig) -> str:
    sides = config.augmentation.short_sides
    return f"images with a short side of {min(sides)} … {max(sides)}"


def _score(folder: Path, device: str) -> Any:
    from longtail.training.detection_task import score_detection_run

    return score_detection_run(folder, device=device, trust_code=True)  # the model that was just trained
