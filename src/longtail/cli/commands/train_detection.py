"""Train a detector, Cascade R-CNN or Hybrid Task Cascade, plain or as multi-expert cascade, and score it.

Settings come from --config files and from the options below; later ones win. The resolved settings are written into
the run folder as config.yaml, which --config replays.
"""

from longtail.cli.parser import Namespace, Parser
from longtail.cli.training_command import add_training_arguments, settings_of_earlier_run, train
from longtail.training.detection_config import DetectionConfig

NAME = "train detection"
SUMMARY = "train a detector (MEC, Cascade, HTC) and score it"
ORDER = 21

prepare = settings_of_earlier_run


def add_arguments(parser: Parser) -> None:
    """Arguments of the command."""
    add_training_arguments(parser, "detection", DetectionConfig)


def run(arguments: Namespace) -> int:
    """Train."""
    return train(arguments, DetectionConfig)
