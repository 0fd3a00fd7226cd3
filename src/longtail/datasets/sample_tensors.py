"""Arrays of a sample as torchvision's tensors.

torchvision takes seconds to import: it is imported with the first sample, since counting needs none.
"""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor
    from torchvision.tv_tensors import BoundingBoxes, Image, Mask


def image_tensor(values: "np.ndarray | Tensor") -> "Image":
    """An image (bands, h, w)."""
    import torch
    from torchvision import tv_tensors

    return tv_tensors.Image(torch.as_tensor(values))


def mask_tensor(values: np.ndarray) -> "Mask":
    """Class ids (h, w), or the masks of objects (n, h, w)."""
    import torch
    from torchvision import tv_tensors

    return tv_tensors.Mask(torch.from_numpy(values))


def box_tensor(boxes: np.ndarray, size: tuple[int, int]) -> "BoundingBoxes":
    """float32 boxes (n, 4), xyxy in pixels of an image of ``size`` (h, w)."""
    import torch
    from torchvision import tv_tensors

    values = torch.from_numpy(boxes.astype(np.float32, copy=False))
    return tv_tensors.BoundingBoxes(values, format="XYXY", canvas_size=size)


def plain_tensor(values: np.ndarray) -> "Tensor":
    """Labels, flags and the like."""
    import torch

    return torch.from_numpy(values)
