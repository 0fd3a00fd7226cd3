"""Image encoders: feature maps at several strides, for segmentors and detectors alike.

An encoder is an ``nn.Module`` that maps a normalised image (n, bands, h, w) to a list of feature maps, shallow to deep, and
describes them in two tuples: ``channels`` and ``reductions`` (strides).
"""

from longtail.encoders.bands import adapt_bands
from longtail.encoders.base import Encoder
from longtail.encoders.build import build_encoder
from longtail.encoders.weights import PRETRAINED, load_encoder_weights, read_state_dict

__all__ = ["PRETRAINED", "Encoder", "adapt_bands", "build_encoder", "load_encoder_weights", "read_state_dict"]
