"""Checkpoints of mmsegmentation: names and shapes of its public definitions, translated both ways."""

import pytest
import torch

from longtail.checkpoints.mmsegmentation import MMSEGMENTATION
from longtail.checkpoints.translate import translate
from longtail.segmentation.baseline import Baseline
from longtail.segmentation.models import build_model

CLASSES, CHANNELS = 5, 32
NORM = ("weight", "bias", "running_mean", "running_var")
Shapes = dict[str, tuple[int, ...]]

# Public definitions: mmseg/models/backbones/resnet.py (ResNetV1c), mmcv/cnn/bricks/{conv_module,
# depthwise_separable_conv_module}.py, mmseg/models/decode_heads/{sep_aspp_head,aspp_head,psp_head,segformer_head,
# ocr_head,fcn_head}.py, mmseg/models/utils/self_attention_block.py.


def conv(name: str, outputs: int, inputs: int, kernel: int = 1) -> Shapes:
    """A ConvModule."""
    return {f"{name}.conv.weight": (outputs, inputs, kernel, kernel)} | {f"{name}.bn.{p}": (outputs,) for p in NORM}


def separable(name: str, outputs: int, inputs: int) -> Shapes:
    """A DepthwiseSeparableConvModule."""
    depthwise = conv(f"{name}.depthwise_conv", inputs, 1, 3)
    return depthwise | conv(f"{name}.pointwise_conv", outputs, inputs)


def classifier(name: str) -> Shapes:
    return {f"{name}.conv_seg.weight": (CLASSES, CHANNELS, 1, 1), f"{name}.conv_seg.bias": (CLASSES,)}


def resnet50c() -> Shapes:
    """ResNetV1c: a deep stem, then bottlenecks."""
    shapes: Shapes = {}
    for place, (outputs, inputs) in {0: (32, 3), 3: (32, 32), 6: (64, 32)}.items():
        shapes[f"backbone.stem.{place}.weight"] = (outputs, inputs, 3, 3)
        shapes |= {f"backbone.stem.{place + 1}.{part}": (outputs,) for part in NORM}
    inputs = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        width = 64 * 2**stage
        for index in range(blocks):
            start = f"backbone.layer{stage + 1}.{index}"
            sizes = [(width, inputs, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1)]
            for i, size in enumerate(sizes, start=1):
                shapes[f"{start}.conv{i}.weight"] = size
                shapes |= {f"{start}.bn{i}.{part}": (size[0],) for part in NORM}
            if index == 0:
                shapes[f"{start}.downsample.0.weight"] = (4 * width, inputs, 1, 1)
                shapes |= {f"{start}.downsample.1.{part}": (4 * width,) for part in NORM}
            inputs = 4 * width
    return shapes


def auxiliary() -> Shapes:
    return conv("auxiliary_head.convs.0", CHANNELS, 1024, 3) | classifier("auxiliary_head")


def deeplabv3plus() -> Shapes:
    head = "decode_head"
    shapes = resnet50c() | auxiliary() | classifier(head)
    shapes |= conv(f"{head}.image_pool.1", CHANNELS, 2048) | conv(f"{head}.aspp_modules.0", CHANNELS, 2048)
    for i in (1, 2, 3):
        shapes |= separable(f"{head}.aspp_modules.{i}", CHANNELS, 2048)
    shapes |= conv(f"{head}.bottleneck", CHANNELS, 5 * CHANNELS, 3) | conv(f"{head}.c1_bottleneck", 48, 256)
    return (
        shapes
        | separable(f"{head}.sep_bottleneck.0", CHANNELS, CHANNELS + 48)
        | separable(f"{head}.sep_bottleneck.1", CHANNELS, CHANNELS)
    )


def pspnet() -> Shapes:
    shapes = resnet50c() | auxiliary() | classifier("decode_head")
    for i in range(4):
        shapes |= conv(f"decode_head.psp_modules.{i}.1", CHANNELS, 2048)
    return shapes | conv("decode_head.bottleneck", CHANNELS, 2048 + 4 * CHANNELS, 3)


def segformer() -> Shapes:
    shapes = resnet50c() | classifier("decode_head")
    for i in range(4):
        shapes |= conv(f"decode_head.convs.{i}", CHANNELS, 256 * 2**i)
    return shapes | conv("decode_head.fusion_conv", CHANNELS, 4 * CHANNELS)


def ocrnet() -> Shapes:
    every = 256 + 512 + 1024 + 2048
    shapes = resnet50c() | conv("decode_head.0.convs.0", every, every)
    shapes |= {"decode_head.0.conv_seg.weight": (CLASSES, every, 1, 1), "decode_head.0.conv_seg.bias": (CLASSES,)}
    shapes |= conv("decode_head.1.bottleneck", CHANNELS, every, 3) | classifier("decode_head.1")
    block = "decode_head.1.object_context_block"
    for part in ("query_project", "key_project"):
        shapes |= conv(f"{block}.{part}.0", 8, CHANNELS) | conv(f"{block}.{part}.1", 8, 8)
    shapes |= conv(f"{block}.value_project", 8, CHANNELS) | conv(f"{block}.out_project", CHANNELS, 8)
    return shapes | conv(f"{block}.bottleneck", CHANNELS, 2 * CHANNELS)


OPTIONS = {"encoder": "resnet50c", "channels": CHANNELS}
NETWORKS = {
    "deeplabv3plus": (deeplabv3plus, {**OPTIONS, "auxiliary_channels": CHANNELS}),
    "pspnet": (pspnet, {**OPTIONS, "auxiliary_channels": CHANNELS}),
    "segformer": (segformer, {**OPTIONS, "projection": "conv"}),
    "ocrnet": (ocrnet, {**OPTIONS, "attention_channels": 8}),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_tensor_has_its_place_and_every_place_a_tensor(name):
    table, options = NETWORKS[name]
    state = {tensor: torch.rand(shape) for tensor, shape in table().items()}
    with torch.device("meta"):
        method = Baseline(build_model(name, CLASSES, **options))
    found = translate(state, method, "file")
    assert found.family == "mmsegmentation"
    assert not found.unused
    assert not found.misfits
    model = {k.removeprefix("model."): tuple(v.shape) for k, v in method.state_dict().items() if k.startswith("model.")}
    assert {k: tuple(v.shape) for k, v in found.weights.items()} == model
    # and back: each tensor here comes from one tensor there
    sources = {target: source for source in state for target in MMSEGMENTATION.targets(source, model)}
    assert len(set(sources.values())) == len(sources) == len(state)
    assert all(found.weights[target] is state[source] for target, source in sources.items())
