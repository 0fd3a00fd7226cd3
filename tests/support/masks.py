"""Masks of run lengths as arrays."""

from typing import Any

import numpy as np


def decode_mask(encoded: dict[str, Any]) -> np.ndarray:
    """The mask of compressed run lengths, bool (h, w)."""
    from hotcoco import mask

    return mask.decode(encoded).astype(bool)
