"""A tiny encoder-decoder and frequencies for tests of methods."""

import numpy as np
import torch
from torch import nn

from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.segmentation.encoder_decoder import EncoderDecoder

GROUPS = CategoryGroups.explicit({"head": [0, 3], "body": [1], "tail": [2, 4]})
FREQUENCY = ClassFrequency(tuple("abcde"), images=np.ones(5), pixels=np.array([500, 60, 5, 430, 5]))
NUM_CLASSES = 5


class Encoder(nn.Module):
    """Two feature maps, at strides 2 and 4."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(6, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        shallow = self.first(image)
        return [shallow, self.second(shallow)]


class Decoder(nn.Module):
    """Both features, with batch-norm and dropout; optionally soft-region logits, as OCRNet has them."""

    def __init__(self, auxiliary: bool = False) -> None:
        super().__init__()
        self.low = nn.Conv2d(6, 4, 1)
        self.high = nn.Sequential(nn.Conv2d(8, 4, 3, 1, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout2d(0.1))
        self.regions = nn.Conv2d(8, NUM_CLASSES, 1) if auxiliary else None

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor | tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        low, high = features
        up = nn.functional.interpolate(self.high(high), low.shape[-2:], mode="bilinear")
        decoded = torch.cat([self.low(low), up], dim=1)
        return decoded if self.regions is None else (decoded, (self.regions(high),))


def tiny_model(seed: int = 0, *, auxiliary: bool = False, auxiliary_head: bool = False) -> EncoderDecoder:
    torch.manual_seed(seed)
    head = AuxiliaryHead() if auxiliary_head else None
    return EncoderDecoder(
        Encoder(),
        Decoder(auxiliary),
        nn.Conv2d(8, NUM_CLASSES, 1),
        num_classes=NUM_CLASSES,
        auxiliary_head=head,
        size_divisor=4,
    )


class AuxiliaryHead(nn.Module):
    """An FCN head on the deeper features."""

    def __init__(self) -> None:
        super().__init__()
        self.classify = nn.Conv2d(8, NUM_CLASSES, 1)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        return self.classify(features[1])


def batch(n: int = 2, size: int = 16, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(n, 3, size, size, generator=generator)
    target = torch.randint(0, NUM_CLASSES, (n, size, size), generator=generator)
    target[:, :2] = 255
    return image, target
