"""Train a segmentation method, all its phases, and score it.

Settings come from --config files and from the options below; later ones win. The resolved settings are written into
the run folder as config.yaml, which --config replays.
"""

from longtail.cli.parser import Namespace, Parser
from longtail.cli.training_command import add_training_arguments, settings_of_earlier_run, train
from longtail.training.segmentation_config import SegmentationConfig

NAME = "train segmentation"
SUMMARY = "train a segmentation model (MEDOE …) and score it"
ORDER = 20

prepare = settings_of_earlier_run


def add_arguments(parser: Parser) -> None:
    """Arguments of the command."""
    add_training_arguments(parser, "segmentation", SegmentationConfig)


def run(arguments: Namespace) -> int:
    """Train."""
    return train(arguments, SegmentationConfig)
