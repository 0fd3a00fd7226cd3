import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from longtail.segmentation.models.deeplabv3plus import DeepLabV3PlusDecoder
from longtail.segmentation.models.folding import convolve_projected, convolve_resized
from longtail.segmentation.models.ocrnet import OCRDecoder
from longtail.segmentation.models.pspnet import PyramidPoolingDecoder
from longtail.segmentation.models.segformer import MLPDecoder
from support.plain_decoders import as_written, resize_concat

EXACT = {"rtol": 1e-9, "atol": 1e-10}


def whole(maps: list[Tensor], weights: list[Tensor], size: tuple[int, int], bias: Tensor | None = None) -> Tensor:
    weight = torch.cat(list(weights), dim=1)
    return F.conv2d(resize_concat(maps, size), weight, bias, padding=weight.shape[-1] // 2)


def tensors(*shapes: tuple[int, ...]) -> list[Tensor]:
    return [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


MAPS = {
    "whole": [(5, 7, 9)],
    "pyramid": [(5, 7, 9), (4, 1, 1), (4, 2, 2), (4, 3, 3), (4, 6, 6)],
    "smaller than a bin": [(5, 4, 5), (4, 1, 1), (4, 6, 6)],
    "cells first": [(4, 1, 1), (5, 8, 6), (3, 8, 6)],
    "strides": [(3, 9, 12), (9, 5, 6), (20, 3, 3), (30, 2, 2)],
    "none whole": [(40, 3, 4), (30, 1, 2)],
    "one pixel": [(4, 1, 1), (3, 1, 1)],
}


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("maps", MAPS.values(), ids=MAPS)
def test_equals_the_concatenation(maps, kernel):
    size = max((m[1:] for m in maps), key=lambda s: s[0] * s[1])
    inputs = tensors(*((2, *m) for m in maps))
    weights = tensors(*((6, m[0], kernel, kernel) for m in maps))
    (bias,) = tensors((6,))
    torch.testing.assert_close(convolve_resized(inputs, weights, size), whole(inputs, weights, size), **EXACT)
    ours, theirs = convolve_resized(inputs, weights, size, bias), whole(inputs, weights, size, bias)
    torch.testing.assert_close(ours, theirs, **EXACT)
    upstream = torch.randn_like(theirs)
    gradients = [torch.autograd.grad(y, [*inputs, *weights, bias], upstream) for y in (ours, theirs)]
    torch.testing.assert_close(*gradients, **EXACT)


@pytest.mark.parametrize("layer", [nn.Linear, lambda i, o: nn.Conv2d(i, o, 1)])
@pytest.mark.parametrize("images", [1, 40])  # fewer and more positions than channels on the deeper maps
def test_projections_become_one_with_the_convolution(layer, images):
    shapes = [(3, 8, 8), (6, 4, 4), (12, 2, 2), (24, 1, 1)]
    maps = tensors(*((images, *s) for s in shapes))
    layers = [layer(s[0], 5).double() for s in shapes]
    weights = tensors(*((7, 5, 1, 1) for _ in shapes))
    projected = [F.conv2d(m, p.weight.view(5, -1, 1, 1), p.bias) for m, p in zip(maps, layers, strict=True)]
    ours, theirs = convolve_projected(maps, layers, weights, (8, 8)), whole(projected, weights, (8, 8))
    torch.testing.assert_close(ours, theirs, **EXACT)
    upstream = torch.randn_like(theirs)
    learned = [*maps, *weights, *(x for p in layers for x in p.parameters())]
    gradients = [torch.autograd.grad(y, learned, upstream) for y in (ours, theirs)]
    torch.testing.assert_close(*gradients, **EXACT)


PYRAMID = [(8, 16, 20), (12, 8, 10), (20, 4, 5), (24, 2, 3)]
DECODERS = {
    "pspnet": lambda: PyramidPoolingDecoder(24, 8),
    "pspnet other bins": lambda: PyramidPoolingDecoder(24, 8, bins=(1, 4)),
    "deeplabv3plus": lambda: DeepLabV3PlusDecoder(
        [8, 12, 20, 24], 0, channels=8, low_level_channels=4, dilations=(1, 2), dropout=0.1
    ),
    "segformer": lambda: MLPDecoder([8, 12, 20, 24], 8),
    "segformer, conv": lambda: MLPDecoder([8, 12, 20, 24], 8, "conv"),
    "segformer, from the second": lambda: MLPDecoder([8, 12, 20, 24], 8, start=1),
    "ocrnet": lambda: OCRDecoder(64, 3, 8, 4),
}


def decoder(name: str) -> nn.Module:
    """In float64, with norms that are not the identity in evaluation mode, and without chance."""
    module = DECODERS[name]().double()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            for value in (part.weight.data, part.running_var):
                value.uniform_(0.5, 1.5)
            for value in (part.bias.data, part.running_mean):
                value.normal_()
        if isinstance(part, nn.Dropout | nn.Dropout2d):
            part.p = 0.0
    return module


def features(images: int = 2, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    return [torch.randn(images, *shape, dtype=dtype, requires_grad=True) for shape in PYRAMID]


def written(module: nn.Module, maps: list[Tensor]) -> Tensor:
    """``flat`` of a decoder as its paper writes it."""
    with as_written():
        return flat(module(maps))


def flat(output: Tensor | tuple) -> Tensor:
    """Decoded features, and the auxiliary logits where there are any, in a row."""
    parts = [output] if isinstance(output, Tensor) else [output[0], *output[1]]
    return torch.cat([p.flatten() for p in parts])


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", DECODERS)
def test_decoders_equal_their_plain_form(name, training):
    folded = decoder(name).train(training)
    plain = copy.deepcopy(folded)
    maps = features()
    ours, theirs = flat(folded(maps)), written(plain, maps)
    torch.testing.assert_close(ours, theirs, **EXACT)
    assert theirs.std() > 0.01
    upstream = torch.randn_like(theirs)
    gradients = [
        torch.autograd.grad(y, [*maps, *m.parameters()], upstream, allow_unused=True)
        for y, m in ((ours, folded), (theirs, plain))
    ]
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(folded.state_dict(), plain.state_dict(), **EXACT)  # running statistics among it
    if training:
        assert any(k.endswith("num_batches_tracked") and v == 1 for k, v in folded.state_dict().items())


@pytest.mark.parametrize("name", DECODERS)
def test_one_image_in_evaluation(name):
    folded, maps = decoder(name).eval(), features(images=1)
    torch.testing.assert_close(flat(folded(maps)), written(folded, maps), **EXACT)


@pytest.mark.parametrize("name", DECODERS)
def test_synchronised_norms_are_read(name):
    module, maps = decoder(name).eval(), features()
    expected = flat(module(maps))
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(module)
    assert any(isinstance(m, nn.SyncBatchNorm) for m in converted.modules())
    assert torch.equal(flat(converted(maps)), expected)


@pytest.mark.parametrize("name", DECODERS)
@torch.no_grad()
def test_autocast_and_channels_last(name):
    module = decoder(name).float().eval()
    maps = [m.float() for m in features()]
    expected = flat(module(maps))
    torch.testing.assert_close(
        flat(module.to(memory_format=torch.channels_last)([m.to(memory_format=torch.channels_last) for m in maps])),
        expected,
        rtol=1e-4,
        atol=1e-4,
    )
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = flat(module(maps)).float(), written(module, maps).float()
    spread = expected.std()
    assert (theirs - expected).abs().max() < 0.2 * spread  # bfloat16 itself
    assert (ours - expected).abs().max() < 0.2 * spread


def backward_flops(module: nn.Module, maps: list[Tensor]) -> int:
    output = flat(module(maps))
    with FlopCounterMode(display=False) as counter:
        output.sum().backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("name", ["pspnet", "segformer", "ocrnet"])
def test_detached_features_cost_no_gradient(name):
    module = decoder(name).train()
    attached, maps = backward_flops(module, features()), [m.detach() for m in features()]
    assert backward_flops(module, maps) < 0.85 * attached


def test_the_fold_skips_the_gradient_that_the_concatenation_takes():
    module, maps = decoder("pspnet").train(), [torch.randn(2, 24, 20, 24, dtype=torch.float64)]
    folded = backward_flops(module, maps)
    with as_written():
        assert folded < 0.5 * backward_flops(module, maps)


@pytest.mark.slow
def test_compiled_gives_the_same():
    # In a process of its own: the type checks of the tests are no part of the graph.
    code = (
        "import torch, test_folding as t\n"
        "for name in t.DECODERS:\n"
        "    module, maps = t.decoder(name).eval(), t.features()\n"
        "    expected = t.flat(module(maps))\n"
        "    got = t.flat(torch.compile(module, backend='aot_eager', fullgraph=True)(maps))\n"
        "    torch.testing.assert_close(got, expected, **t.EXACT)\n"
        "    got.sum().backward()\n"
    )
    folders = (Path(__file__).parent, Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders))}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600, env=environment)
