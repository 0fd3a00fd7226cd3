"""Train a segmentation method, all its phases, and score it.

Settings come from --config files and from the options below; later ones win. The resolved settings are written into
the run folder as config.yaml, which --config replays.
"""

from pathlib import Path
from typing import Any

from longtail.cli.parser import Namespace, Parser
from longtail.cli.training_command import add_training_arguments, settings_of_resumed_run, train
from longtail.training.segmentation_config import SegmentationConfig

NAME = "train segmentation"
SUMMARY = "train a segmentation model (MEDOE …) and score it"
ORDER = 20

prepare = settings_of_resumed_run


def add_arguments(parser: Parser) -> None:
    """Arguments of the command."""
    add_training_arguments(parser, "segmentation", SegmentationConfig)


def run(arguments: Namespace) -> int:
    """Train."""
    return train(arguments, SegmentationConfig, _input_size, _score)


def _input_size(config: SegmentationConfig) -> str:
    height, width = config.augmentation.crop
    return f"crops of {height} x {width}"


def _score(folder: Path, device: str) -> Any:
    from longtail.training.segmentation_task import score_run

    return score_run(folder, device=device, trust_code=True)  # the model that was just trained
