"""Photometric distortion as one affine map of the colours."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from longtail.errors import ConfigError

_LUMA = torch.tensor([0.299, 0.587, 0.114])


class PhotometricDistortion(v2.Transform):
    """Random brightness, contrast, saturation and hue, each with probability ``p``.

    The four steps are affine in RGB, so they are one 3x3 matrix and one offset: a tenth of the time of the same steps
    by way of HSV. Images of other bands than three have brightness and contrast alone.

    Hue turns about the grey axis, saturation scales the distance to the luma.

    Args:
        brightness: Largest offset, in shares of the range.
        contrast: Smallest and largest factor.
        saturation: Smallest and largest factor.
        hue: Largest turn, in degrees.
        p: Probability of each step.

    Source: the ranges are those of SSD (Liu 2016) as mmsegmentation sets them.
    """

    _transformed_types = (tv_tensors.Image,)

    def __init__(
        self,
        brightness: float = 32 / 255,
        contrast: tuple[float, float] = (0.5, 1.5),
        saturation: tuple[float, float] = (0.5, 1.5),
        hue: float = 18.0,
        p: float = 0.5,
    ) -> None:
        super().__init__()
        self.brightness, self.contrast, self.saturation, self.hue, self.p = brightness, contrast, saturation, hue, p

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Matrix (bands, bands) and offset of one image."""
        bands = next((len(x) for x in flat_inputs if isinstance(x, tv_tensors.Image)), 3)
        draws = torch.rand(8, dtype=torch.float64).tolist()
        on, at = [d < self.p for d in draws[:4]], draws[4:]
        offset = self.brightness * (2 * at[0] - 1) if on[0] else 0.0
        contrast = _between(self.contrast, at[1]) if on[1] else 1.0
        saturation = _between(self.saturation, at[2]) if on[2] else 1.0
        hue = self.hue * (2 * at[3] - 1) if on[3] else 0.0
        colours = hue_matrix(hue) @ saturation_matrix(saturation) if bands == 3 else torch.eye(bands)
        return {"matrix": contrast * colours, "offset": contrast * offset}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Apply to a float image in 0 … 1; the result is clamped to it."""
        if not inpt.is_floating_point():
            raise ConfigError(f"photometric distortion of a {inpt.dtype} image", fix="convert it to float first")
        matrix: Tensor = params["matrix"].to(inpt)
        flat = matrix @ inpt.as_subclass(Tensor).flatten(1)
        return tv_tensors.wrap(flat.add_(params["offset"]).clamp_(0, 1).reshape(inpt.shape), like=inpt)


class DistortAndNormalise(v2.Transform):
    """A photometric distortion and the normalisation in one pass over per image of bytes, or of floats in 0 … 1.

    Equal to ``ToDtype(float32, scale=True)``, the distortion and ``Normalize`` one after the other: they are affine
    too, and the limits 0 and 1 between them become limits of the outcome.

    Args:
        distortion: Draws the matrix and the offset of every image.
        mean: Of the normalisation, every band in 0 … 1.
        std: The same.
    """

    _transformed_types = (tv_tensors.Image,)

    def __init__(self, distortion: PhotometricDistortion, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.distortion = distortion
        self.mean, self.std = torch.tensor(mean), torch.tensor(std)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Matrix (bands, bands) and offset of one image."""
        return self.distortion.make_params(flat_inputs)

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Apply to a uint8 or float32 image; float32 and normalised afterwards."""
        if inpt.dtype not in (torch.uint8, torch.float32):
            raise ConfigError(f"distortion and normalisation of a {inpt.dtype} image", fix="give bytes or float32")
        matrix = params["matrix"] / ((255 if inpt.dtype == torch.uint8 else 1) * self.std[:, None])
        offset = (params["offset"] - self.mean) / self.std
        values = torch.addmm(offset[:, None], matrix, inpt.as_subclass(Tensor).flatten(1).float())
        lowest, highest = -self.mean / self.std, (1 - self.mean) / self.std
        for channel, low, high in zip(values, lowest.tolist(), highest.tolist(), strict=True):
            channel.clamp_(low, high)
        return tv_tensors.wrap(values.reshape(inpt.shape), like=inpt)


def _between(limits: tuple[float, float], at: float) -> float:
    return limits[0] + (limits[1] - limits[0]) * at


def saturation_matrix(factor: float) -> Tensor:
    """Scales the distance of a colour from its luma; 0 makes grey, 1 changes nothing. float32 (3, 3)."""
    return factor * torch.eye(3) + (1 - factor) * _LUMA.expand(3, 3)


def hue_matrix(degrees: float) -> Tensor:
    """Turns colours about the grey axis; 120 degrees send red to green. float32 (3, 3)."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    third, cross = (1 - cosine) / 3, sine / math.sqrt(3)
    return cosine * torch.eye(3) + torch.tensor(
        [
            [third, third - cross, third + cross],
            [third + cross, third, third - cross],
            [third - cross, third + cross, third],
        ]
    )
