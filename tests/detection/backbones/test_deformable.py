import pytest
import torch
from torch import nn

from longtail.detection.backbones.deformable import DeformableConv2d, make_deformable
from longtail.detection.backbones.pyramid import build_backbone
from longtail.errors import ConfigError


@pytest.mark.parametrize("stride, dilation, groups, bias", [(1, 1, 1, True), (2, 1, 1, False), (1, 2, 2, False)])
def test_it_begins_as_the_convolution(stride, dilation, groups, bias):
    plain = nn.Conv2d(4, 6, 3, stride, padding=dilation, dilation=dilation, groups=groups, bias=bias)
    x = torch.randn(2, 4, 11, 9)
    torch.testing.assert_close(DeformableConv2d(plain)(x), plain(x), rtol=1e-5, atol=1e-5)


def test_a_constant_offset_shifts():
    plain = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    moved = DeformableConv2d(plain)
    with torch.no_grad():
        moved.offsets.bias[1:18:2] = 1.0  # offsets come as (y, x) a tap: one pixel to the right
    x = torch.randn(1, 1, 8, 8)
    torch.testing.assert_close(moved(x)[..., 1:-1, :-2], plain(x)[..., 1:-1, 1:-1], rtol=1e-5, atol=1e-5)


def test_strength_weighs_taps():
    plain = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    weak = DeformableConv2d(plain)
    with torch.no_grad():
        weak.offsets.bias[18:] = -100.0
    assert weak(torch.randn(1, 1, 8, 8)).abs().max() < 1e-6


def test_offsets_learn():
    layer = DeformableConv2d(nn.Conv2d(2, 3, 3, padding=1))
    layer(torch.randn(1, 2, 6, 6)).square().sum().backward()
    assert layer.offsets.weight.grad.abs().sum() > 0


def test_only_3x3_convolutions_are_replaced():
    block = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Sequential(nn.Conv2d(4, 4, 3, padding=1)), nn.Conv2d(4, 4, 5))
    assert make_deformable([block]) == 1
    assert isinstance(block[1][0], DeformableConv2d) and make_deformable([block]) == 0


@pytest.mark.parametrize("name", ["torchvision/resnet50", "test_resnet"])
def test_a_backbone_begins_as_without(name):
    torch.manual_seed(0)
    plain = build_backbone(name, channels=8).eval()
    torch.manual_seed(0)
    moved = build_backbone(name, channels=8, deformable_stages=(3, 4, 5)).eval()
    missing, unexpected = moved.load_state_dict(plain.state_dict(), strict=False)
    assert unexpected == [] and missing and all(".offsets." in name for name in missing)
    image = torch.randn(1, 3, 64, 64)
    for a, b in zip(plain(image), moved(image), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    stages = moved.extractor.stages()
    counts = [sum(isinstance(m, DeformableConv2d) for s in stage for m in s.modules()) for stage in stages]
    assert counts[0] == 0 and all(counts[1:])


@pytest.mark.slow
def test_resnest_with_deformable_convolutions():
    backbone = build_backbone("resnest50d", deformable_stages=(3, 4, 5), norm="synchronised").train()
    sum(level.square().mean() for level in backbone(torch.randn(2, 3, 64, 64))).backward()


def test_stages_that_are_not_there():
    with pytest.raises(ConfigError, match="no stage 6"):
        build_backbone("test_resnet", deformable_stages=(6,))
