import copy

import pytest
import torch

from longtail.errors import ConfigError
from longtail.segmentation.models import build_model, wrap
from longtail.segmentation.models.smp import ARCHITECTURES

smp = pytest.importorskip("segmentation_models_pytorch")


def _model(arch: str, **options):
    encoder = "tu-vit_tiny_patch16_224" if arch == "DPT" else "mit_b0" if arch == "Segformer" else "mobilenet_v2"
    if arch == "DPT":
        options |= {
            "dynamic_img_size": True,
            "decoder_intermediate_channels": (8, 16, 24, 32),
            "decoder_fusion_channels": 16,
        }
    return getattr(smp, arch)(encoder_name=encoder, encoder_weights=None, classes=5, **options).eval()


@pytest.mark.parametrize("arch", ARCHITECTURES)
@torch.no_grad()
def test_logits_stay_the_same(arch):
    model = _model(arch)
    image = torch.randn(2, 3, 128, 160)
    expected = model(image)
    wrapped = wrap(model, 5)
    torch.testing.assert_close(wrapped(image), expected, rtol=1e-5, atol=1e-5)
    assert expected.std() > 0
    # The head is the bare classifier, and the decoder stands on its own.
    assert isinstance(wrapped.expert.head, torch.nn.Conv2d)
    features = wrapped.encode(image)
    twin = copy.deepcopy(wrapped.expert)
    encoder = {id(m) for m in wrapped.encoder.modules()}
    assert not encoder & {id(m) for m in wrapped.expert.modules()}
    assert torch.equal(twin(features).logits, wrapped.expert(features).logits)


@pytest.mark.parametrize("arch", ARCHITECTURES)
@torch.no_grad()
def test_any_image_size(arch):
    assert wrap(_model(arch))(torch.randn(1, 3, 131, 150)).shape == (1, 5, 131, 150)


@pytest.mark.parametrize("encoder", ["mit_b0", "resnet18"])  # the second has a map larger than the result
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_folded_segformer_is_the_librarys(encoder, training):
    model = smp.Segformer(encoder, encoder_weights=None, classes=5).double().train(training)
    theirs, names = copy.deepcopy(model.decoder), list(model.decoder.state_dict())
    ours = wrap(model).expert.decoder
    assert list(ours.state_dict()) == names
    maps = [m.detach().requires_grad_() for m in model.encoder(torch.randn(2, 3, 64, 96, dtype=torch.float64))]
    decoded, expected = ours(maps), theirs(maps)
    torch.testing.assert_close(decoded, expected, rtol=1e-9, atol=1e-10)
    upstream, read = torch.randn_like(expected), [m for m in maps if m.shape[1] > 3]
    gradients = [
        torch.autograd.grad(y, [*read, *m.parameters()], upstream) for y, m in ((decoded, ours), (expected, theirs))
    ]
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=1e-9, atol=1e-10)


@torch.no_grad()
def test_unet_keeps_its_own_way_with_odd_sizes():
    model = _model("Unet")
    image = torch.randn(1, 3, 64, 96)
    assert torch.equal(wrap(model)(image), model(image))


@torch.no_grad()
def test_activation_is_left_out():
    model = _model("FPN", activation="softmax")
    image = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(wrap(model)(image).softmax(1), model(image), rtol=1e-4, atol=1e-5)


def test_builds_by_name():
    model = build_model("smp", 4, arch="fpn", encoder_name="mobilenet_v2", decoder_segmentation_channels=32)
    assert model.num_classes == 4
    with pytest.raises(ConfigError, match="Unet"):
        build_model("smp", 4, arch="OCRNet")
    with pytest.raises(ConfigError, match="smp cannot build Unet"):
        build_model("smp", 4, arch="Unet", encoder_name="no_such_encoder")


def test_dpt_takes_any_size_when_built_by_name():
    model = build_model(
        "smp",
        3,
        arch="DPT",
        encoder_name="tu-vit_tiny_patch16_224",
        decoder_intermediate_channels=[8, 8, 8, 8],
        decoder_fusion_channels=8,
    )
    assert model(torch.randn(2, 3, 50, 70)).shape == (2, 3, 50, 70)


def test_local_weights_fill_the_encoder(tmp_path):
    import timm
    from safetensors.torch import save_file

    source = timm.create_model("resnet18")
    save_file({k: v.clone() for k, v in source.state_dict().items()}, tmp_path / "resnet18.safetensors")
    for encoder in ("resnet18", "tu-resnet18"):
        model = build_model("smp", 4, arch="FPN", encoder_name=encoder, weights=str(tmp_path / "resnet18.safetensors"))
        first = next(p for p in model.encoder.parameters() if p.dim() == 4)
        assert torch.equal(first, source.conv1.weight)


def test_reads_torchvision_mobilenet_weights(real_data):
    path = real_data / "weights" / "mobilenet_v2_imagenet_backbone.pth"
    build_model("smp", 4, arch="Unet", encoder_name="mobilenet_v2", weights=path)
