"""MEDOE: multi-expert decoder and output ensemble for segmentation."""

from longtail.medoe.experts import LabelSets, mask_labels
from longtail.medoe.losses import ExpertLoss, ExpertLossOptions
from longtail.medoe.model import Medoe
from longtail.medoe.oracle import oracle_probabilities

__all__ = [
    "ExpertLoss",
    "ExpertLossOptions",
    "LabelSets",
    "Medoe",
    "mask_labels",
    "oracle_probabilities",
]
