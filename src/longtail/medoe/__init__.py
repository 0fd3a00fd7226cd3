"""MEDOE: multi-expert decoder and output ensemble for segmentation."""

from longtail.medoe.build import ENSEMBLES, METHODS, build_method
from longtail.medoe.experts import LabelSets, mask_labels
from longtail.medoe.losses import ExpertLoss, ExpertLossOptions
from longtail.medoe.model import Medoe
from longtail.medoe.oracle import oracle_probabilities
from longtail.medoe.segmenter import Segmenter

__all__ = [
    "ENSEMBLES",
    "METHODS",
    "ExpertLoss",
    "ExpertLossOptions",
    "LabelSets",
    "Medoe",
    "Segmenter",
    "build_method",
    "mask_labels",
    "oracle_probabilities",
]
