"""What every model by name must do."""

import copy
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from longtail.errors import ConfigError
from longtail.segmentation.encoder_decoder import EncoderDecoder
from longtail.segmentation.models import NETWORKS, build_model
from support.plain_decoders import resize_concat

C = 5
MOBILENET = {"encoder": "torchvision/mobilenet_v2", "output_stride": 16, "channels": 32}
TINY_MIT = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 2, 3, 4]}
SMALL = {
    "deeplabv3plus": MOBILENET,
    "pspnet": MOBILENET,
    "ocrnet": {"encoder": "torchvision/mobilenet_v2", "channels": 32, "attention_channels": 16},
    "segformer": {"encoder": "mit_b0", "channels": 32, "encoder_options": TINY_MIT},
    "segformer-conv": {"encoder": "mit_b0", "channels": 32, "encoder_options": TINY_MIT, "projection": "conv"},
}


def small(name: str) -> EncoderDecoder:
    return build_model(name.split("-")[0], C, **SMALL[name])


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_learns(name):
    model = small(name).train()
    image, target = torch.randn(2, 3, 66, 90), torch.randint(0, C, (2, 66, 90))
    features = model.encode(image)
    output = model.expert(features)
    logits = [output.logits, *output.auxiliary]
    if model.auxiliary_head is not None:
        logits.append(model.auxiliary_head(features))
    sum(F.cross_entropy(F.interpolate(x, target.shape[-2:]), target) for x in logits).backward()
    dead = [k for k, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    # The last norm of a Mix Transformer's stages feeds the maps, so nothing may be left out.
    assert not dead
    assert output.decoded.shape[1] == model.expert.head.in_channels


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_eval_is_independent_of_the_batch_and_of_the_size(name):
    model = small(name).eval()
    image = torch.randn(3, 3, 61, 83)
    logits = model(image)
    assert logits.shape == (3, C, 61, 83)
    torch.testing.assert_close(model(image[1:2]), logits[1:2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_state_dict_and_deep_copies_are_exact(name):
    model, other, image = small(name).eval(), small(name).eval(), torch.randn(1, 3, 64, 64)
    other.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(other(image), model(image))
    features = model.encode(image)
    twin = copy.deepcopy(model.expert)
    assert torch.equal(twin(features).logits, model.expert(features).logits)
    shared = {id(p) for p in model.encoder.parameters()}
    assert not shared & {id(p) for p in model.expert.parameters()}


def count(name: str, num_classes: int, **options) -> float:
    with torch.device("meta"):
        return sum(p.numel() for p in build_model(name, num_classes, **options).parameters()) / 1e6


# Source of the ADE20K numbers (150 classes, millions): Xie et al., "SegFormer", Table 2.
@pytest.mark.parametrize(
    ("published", "name", "options"),
    [
        (62.7, "deeplabv3plus", {"encoder": "resnet101c"}),
        (15.4, "deeplabv3plus", {"encoder": "mobilenetv2_100"}),
        (68.1, "pspnet", {"encoder": "resnet101c"}),
        (13.7, "pspnet", {"encoder": "mobilenetv2_100"}),
        (70.5, "ocrnet", {}),
        (47.3, "segformer", {}),
        (3.8, "segformer", {"encoder": "mit_b0"}),
        (27.5, "segformer", {"encoder": "mit_b2"}),
        (84.7, "segformer", {"encoder": "mit_b5"}),
    ],
)
def test_parameter_counts_are_the_published_ones(published, name, options):
    assert count(name, 150, **options) == pytest.approx(published, abs=0.1)


def test_deeplab_on_resnet50_has_mmsegmentations_size():
    # mmsegmentation's flops counter: 43.58 M for deeplabv3plus_r50-d8 on Cityscapes.
    assert count("deeplabv3plus", 19) == pytest.approx(43.58, abs=0.02)


def test_deeplab_dilations_follow_the_stride():
    def dilations(**options):
        with torch.device("meta"):
            model = build_model("deeplabv3plus", 2, **options)
        return [m.dilation[0] for m in model.expert.decoder.aspp.branches.modules() if isinstance(m, torch.nn.Conv2d)]

    assert max(dilations(encoder="resnet18", output_stride=8)) == 36
    assert max(dilations(encoder="resnet18", output_stride=16)) == 18
    assert sorted({*dilations(encoder="resnet18", output_stride=16, dilations=[1, 2])}) == [1, 2]


@torch.no_grad()
def test_ocr_regions_are_what_a_loop_gives():
    model = small("ocrnet").eval()
    features = model.encode(torch.randn(2, 3, 64, 64))
    decoder = model.expert.decoder
    decoded, (logits,) = decoder(features)
    maps = list(features)[decoder.start :]
    pixels = decoder.pixels(resize_concat(maps, maps[0].shape[-2:]))
    regions = torch.zeros(2, 32, C, 1)
    for n in range(2):
        for k in range(C):
            share = logits[n, k].flatten().softmax(0)
            regions[n, :, k, 0] = (pixels[n].flatten(1) * share).sum(1)
    torch.testing.assert_close(decoder.attention(pixels, regions), decoded, rtol=1e-4, atol=1e-5)
    assert logits.shape == (2, C, *decoded.shape[-2:])


def test_ocr_on_hrnet_reads_its_four_branches():
    model = build_model("ocrnet", 3, encoder="hrnet_w18_small", channels=16, attention_channels=8)
    assert model.encoder.channels == (16, 32, 64, 128)
    assert model.encoder.reductions == (4, 8, 16, 32)
    assert model.eval()(torch.randn(1, 3, 66, 70)).shape == (1, 3, 66, 70)


@torch.no_grad()
def test_segformer_equals_transformers():
    transformers = pytest.importorskip("transformers")
    config = transformers.SegformerConfig(num_labels=C, decoder_hidden_size=32, **TINY_MIT)
    reference = transformers.SegformerForSemanticSegmentation(config).eval()
    model = small("segformer").eval()
    model.encoder.body.load_state_dict(reference.segformer.state_dict())
    theirs, ours = reference.decode_head, model.expert.decoder
    for projection, linear in zip(ours.projections, theirs.linear_projections, strict=True):
        projection.weight.copy_(linear.proj.weight[:, :, None, None])
        projection.bias.copy_(linear.proj.bias)
    # transformers concatenates the maps deepest first
    ours.fuse[0].weight.copy_(torch.cat(theirs.linear_fuse.weight.chunk(4, dim=1)[::-1], dim=1))
    ours.fuse[1].load_state_dict(theirs.batch_norm.state_dict())
    model.expert.head.load_state_dict(theirs.classifier.state_dict())
    image = torch.randn(2, 3, 64, 96)
    expected = reference(image).logits
    assert expected.std() > 0
    torch.testing.assert_close(model.expert(model.encode(image)).logits, expected, rtol=1e-4, atol=1e-5)


def test_networks_are_found_by_their_files():
    assert {"deeplabv3plus", "ocrnet", "pspnet", "segformer", "smp", "torchvision", "transformers"} == set(
        NETWORKS.names()
    )


def test_refuses_unknown_names_and_options():
    with pytest.raises(ConfigError, match="did you mean 'deeplabv3plus'"):
        build_model("deeplabv3", C)
    with pytest.raises(ConfigError, match="did you mean 'channels'"):
        build_model("pspnet", C, chanels=3)
    with pytest.raises(ConfigError, match="no network at"):
        build_model("no_such_package.model", C)


def test_builds_users_own_models_by_path():
    model = build_model("longtail.segmentation.models.pspnet.pspnet", C, **MOBILENET)
    assert isinstance(model, EncoderDecoder)


def test_local_weights_reach_the_encoder(real_data):
    path = real_data / "weights" / "mobilenet_v2_imagenet_backbone.pth"
    with_weights = build_model("deeplabv3plus", C, weights=str(path), **MOBILENET)
    state = torch.load(path, weights_only=True)
    assert torch.equal(with_weights.encoder.features[17].conv[2].weight, state["features.17.conv.2.weight"])


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_compiles_as_one_graph(name):
    # In a process of its own: the type checks of the tests are no part of the graph.
    code = (
        "import torch; from longtail.segmentation.models import build_model; "
        f"model = build_model({name.split('-')[0]!r}, {C}, **{SMALL[name]!r}).train(); "
        "image = torch.randn(2, 3, 64, 64); model(image); "
        "torch.compile(model, backend='aot_eager', fullgraph=True)(image).sum().backward()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
