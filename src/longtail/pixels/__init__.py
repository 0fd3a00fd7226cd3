"""Maps at the image's size in bounded memory: upsampling, losses, sums and labels, and every shortcut to them.

Outside this room a map is ``upsampling(logits)``; computations on it go through one of these names.
"""

from longtail.pixels.bands import sum_over_bands
from longtail.pixels.expert_sums import softmax_sums, squared_sums
from longtail.pixels.labels import ensemble_labels, map_labels, most_probable, upsampled_labels
from longtail.pixels.learned import ensemble_loss
from longtail.pixels.losses import loss_of_upsampled, upsampled_cross_entropy
from longtail.pixels.upsampling import Upsampling, are_known, full_size, interpolation

__all__ = [
    "Upsampling",
    "are_known",
    "ensemble_labels",
    "ensemble_loss",
    "full_size",
    "interpolation",
    "loss_of_upsampled",
    "map_labels",
    "most_probable",
    "softmax_sums",
    "squared_sums",
    "sum_over_bands",
    "upsampled_cross_entropy",
    "upsampled_labels",
]
