from collections import OrderedDict

import pytest
import torch
from torchvision.ops import MultiScaleRoIAlign

from longtail.detection.stage import PyramidPooler

STRIDES = (4, 8, 16, 32)


def pyramid(size: int, images: int = 2) -> list[torch.Tensor]:
    return [torch.randn(images, 6, size // s, size // s) for s in STRIDES]


def boxes(n: int, size: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    corner = torch.rand(n, 2, generator=g) * size * 0.1
    side = torch.exp(torch.rand(n, 1, generator=g) * 5.3 + 1) * (0.9 + 0.2 * torch.rand(n, 2, generator=g))
    return torch.cat([corner, (corner + side).clamp(max=size)], dim=1)


@pytest.mark.parametrize("samples", [2, 0])
def test_same_as_torchvision(samples):
    features, found = pyramid(512), [boxes(30, 512), boxes(20, 512, seed=1)]
    reference = MultiScaleRoIAlign(["0", "1", "2", "3"], 7, samples or -1)
    theirs = reference(OrderedDict((str(k), f) for k, f in enumerate(features)), found, [(512, 512)] * 2)
    pooler = PyramidPooler(7, STRIDES, samples, aligned=False)
    torch.testing.assert_close(pooler(features, found), theirs)
    assert set(pooler.levels(torch.cat(found)).tolist()) == {0, 1, 2, 3}


def test_levels_by_hand():
    sides = torch.tensor([0.0, 10.0, 111.9, 112.0, 223.9, 224.0, 448.0, 5000.0])
    square = torch.stack([torch.zeros(8), torch.zeros(8), sides, sides], dim=1)
    assert PyramidPooler(7, STRIDES).levels(square).tolist() == [0, 0, 0, 1, 1, 2, 3, 3]


def test_aligned_pooling_of_a_ramp_gives_bin_centres():
    ramp = torch.arange(64.0).expand(1, 1, 64, 64)
    features = [ramp[..., :: s // 4, :: s // 4] for s in STRIDES]
    pooled = PyramidPooler(2, STRIDES)(features, [torch.tensor([[40.0, 40.0, 72.0, 72.0]])])
    # bins of 4 cells: their centres 48 and 64 px are cells 12 and 16 less the half cell
    torch.testing.assert_close(pooled[0, 0, 0], torch.tensor([11.5, 15.5]))


def test_small_images_and_no_boxes():
    features = pyramid(32, images=1)
    assert PyramidPooler(7, STRIDES)(features, [boxes(3, 32)]).isfinite().all()
    assert PyramidPooler(7, STRIDES)(features, [torch.zeros(0, 4)]).shape == (0, 6, 7, 7)


def test_gradient_reaches_every_level_used():
    features = [f.requires_grad_() for f in pyramid(512)]
    PyramidPooler(7, STRIDES)(features, [boxes(30, 512), boxes(20, 512, seed=1)]).square().sum().backward()
    assert all(f.grad is not None and f.grad.abs().sum() > 0 for f in features)
