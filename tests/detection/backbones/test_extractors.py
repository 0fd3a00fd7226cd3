"""Feature extractors of both libraries: maps, strides, stages, norms, weights."""

import pytest
import torch
from torch import nn
from torchvision import models

from longtail.detection.backbones.pyramid import PyramidBackbone, build_backbone, build_extractor
from longtail.detection.backbones.torchvision_networks import ResNetFeatures
from longtail.errors import CheckpointError, ConfigError

IMAGE = torch.randn(1, 3, 64, 96)
TIMM = "test_resnet"


def norms(module: nn.Module) -> list[nn.Module]:
    return [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


@pytest.mark.parametrize(
    "name",
    [
        "torchvision/mobilenet_v2",
        "torchvision/resnet18",
        "torchvision/resnet50",
        "mit_b0",
        TIMM,
        "test_convnext",
        "test_efficientnet",
    ],
)
def test_maps_have_the_stated_channels_and_strides(name):
    extractor = build_extractor(name).eval()
    maps = extractor(IMAGE)
    assert extractor.strides == (4, 8, 16, 32)
    assert [m.shape[1] for m in maps] == list(extractor.channels)
    assert [tuple(m.shape[2:]) for m in maps] == [(64 // s, 96 // s) for s in extractor.strides]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torchvision/resnet101", "resnest200e", "resnet50", "convnext_tiny"])
def test_the_papers_networks(name):
    backbone = build_backbone(name).eval()
    assert backbone(IMAGE)[0].shape == (1, 256, 16, 24)


@pytest.mark.slow
def test_swin():
    backbone = build_backbone("swin_tiny_patch4_window7_224", channels=8, img_size=(64, 96))
    assert backbone(IMAGE)[0].shape == (1, 8, 16, 24)


@pytest.mark.parametrize("name", ["torchvision/mobilenet_v2", "torchvision/resnet18", TIMM])
def test_stages_in_turn_are_the_network(name):
    extractor = build_extractor(name).eval()
    values, maps = IMAGE, []
    for stage in extractor.stages():
        for module in stage:
            values = module(values)
        maps.append(values)
    for mine, theirs in zip(maps, extractor(IMAGE), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_pyramid_levels():
    backbone = build_backbone(TIMM, channels=8)
    levels = backbone(IMAGE)
    assert backbone.strides == (4, 8, 16, 32, 64)
    assert [tuple(level.shape) for level in levels] == [(1, 8, -(-64 // s), -(-96 // s)) for s in backbone.strides]


@pytest.mark.parametrize(
    ("weights", "asked"), [(None, None), ("pretrained", "DEFAULT"), ("IMAGENET1K_V1", "IMAGENET1K_V1")]
)
def test_torchvision_is_asked_for_the_weights_by_name(weights, asked, monkeypatch):
    build, calls = models.get_model, []
    monkeypatch.setattr(models, "get_model", lambda name, weights: calls.append(weights) or build(name, weights=None))
    build_extractor("torchvision/resnet18", weights=weights)
    assert calls == [asked]


def test_torchvision_parameters_keep_their_names():
    assert set(build_extractor("torchvision/resnet18").state_dict()) == {
        n for n in models.resnet18(weights=None).state_dict() if not n.startswith("fc.")
    }
    assert set(build_extractor("torchvision/mobilenet_v2").state_dict()) == {
        n for n in models.mobilenet_v2(weights=None).state_dict() if not n.startswith("classifier.")
    }


def step(backbone: PyramidBackbone) -> None:
    backbone.train()
    optimizer = torch.optim.SGD([p for p in backbone.parameters() if p.requires_grad], lr=0.1)
    sum(level.square().mean() for level in backbone(torch.randn(2, 3, 64, 64))).backward()
    optimizer.step()


@pytest.mark.parametrize(
    "norm, statistics, affine", [("frozen", False, False), ("fixed_statistics", False, True), ("trained", True, True)]
)
def test_norm_modes(norm, statistics, affine):
    backbone = build_backbone(TIMM, channels=8, norm=norm, frozen_stages=0)
    before = {k: v.clone() for k, v in backbone.extractor.state_dict().items()}
    step(backbone)
    after = backbone.extractor.state_dict()
    changed = {n.rsplit(".", 1)[1] for n in before if not torch.equal(before[n], after[n])}
    assert ("running_mean" in changed) == statistics
    found = norms(backbone.extractor)
    weights = [f"{n}.weight" for n, m in backbone.extractor.named_modules() if m in found]
    assert all(n.weight.requires_grad == affine for n in found)
    assert any(not torch.equal(before[n], after[n]) for n in weights) == affine


def test_synchronised_norms():
    backbone = build_backbone(TIMM, channels=8, norm="synchronised", frozen_stages=0)
    assert norms(backbone.extractor) and all(isinstance(n, nn.SyncBatchNorm) for n in norms(backbone.extractor))
    assert not any(isinstance(m, nn.SyncBatchNorm) for m in backbone.pyramid.modules())
    step(backbone)


@pytest.mark.parametrize("name", [TIMM, "torchvision/mobilenet_v2"])
def test_frozen_stages(name):
    backbone = build_backbone(name, channels=8, norm="trained", frozen_stages=2)
    before = {k: v.clone() for k, v in backbone.extractor.state_dict().items()}
    step(backbone)
    after = backbone.extractor.state_dict()
    stages = backbone.extractor.stages()
    frozen = {id(p) for s in stages[:2] for m in s for p in [*m.parameters(), *m.buffers()]}
    kept = [n for n, v in backbone.extractor.state_dict(keep_vars=True).items() if id(v) in frozen]
    assert kept and all(torch.equal(before[n], after[n]) for n in kept)
    assert any(not torch.equal(before[n], after[n]) for n in before)


def test_weights_from_a_file(tmp_path):
    network = models.resnet18(weights=None)
    torch.save(network.state_dict(), tmp_path / "r18.pth")
    extractor = build_extractor("torchvision/resnet18", weights=tmp_path / "r18.pth").eval()
    reference = ResNetFeatures(network).eval()
    for mine, theirs in zip(extractor(IMAGE), reference(IMAGE), strict=True):
        assert torch.equal(mine, theirs)


def test_timm_weights_from_a_file(tmp_path):
    import timm

    network = timm.create_model("test_resnet", pretrained=False)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    extractor = build_extractor(TIMM, weights=tmp_path / "weights.pth")
    found = extractor.encoder.body.state_dict()
    assert all(torch.equal(found[n], v) for n, v in network.state_dict().items() if n in found)
    assert len(found) > 20


def test_the_mobilenet_of_the_data_folder(real_data):
    path = real_data / "weights" / "mobilenet_v2_imagenet_backbone.pth"
    extractor = build_extractor("torchvision/mobilenet_v2", weights=path)
    assert torch.equal(extractor.features[0][0].weight, torch.load(path, weights_only=True)["features.0.0.weight"])
    assert extractor.channels == (24, 32, 96, 1280)


def test_unfit_weights_are_refused(tmp_path):
    path = tmp_path / "other.pth"
    torch.save(models.resnet34(weights=None).state_dict(), path)
    for name in ("torchvision/resnet18", "torchvision/resnet50"):  # shallower, and of other blocks
        with pytest.raises(CheckpointError, match="does not fit"):
            build_extractor(name, weights=path)
    path.write_text("nothing")
    with pytest.raises(CheckpointError, match=r"other\.pth"):
        build_extractor("torchvision/resnet18", weights=path)
    with pytest.raises(CheckpointError, match=r"absent\.pth"):
        build_extractor("torchvision/resnet18", weights=tmp_path / "absent.pth")


@pytest.mark.parametrize("name", ["torchvision/resnet17", "resnet17x", "test_vit"])
def test_unfit_networks_are_refused(name):
    with pytest.raises(ConfigError):
        build_extractor(name)


def test_too_many_frozen_stages():
    with pytest.raises(ConfigError, match="cannot freeze 5 of 4"):
        build_backbone(TIMM, frozen_stages=5)
