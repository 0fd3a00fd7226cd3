import pytest
import torch
from torchvision.models import mobilenet_v2

from longtail.encoders import Encoder, build_encoder
from longtail.encoders.mobilenet_v2 import MobileNetV2
from longtail.errors import ConfigError


def _dilations(encoder: MobileNetV2) -> list[int]:
    return [m.dilation[0] for m in encoder.modules() if isinstance(m, torch.nn.Conv2d) and m.groups > 1]


def test_features_equal_torchvisions_with_its_own_names():
    torch.manual_seed(1)
    reference = mobilenet_v2(weights=None).eval()
    encoder = MobileNetV2().eval()
    state = {k: v for k, v in reference.state_dict().items() if k in encoder.state_dict()}
    assert state.keys() == encoder.state_dict().keys()
    encoder.load_state_dict(state)
    image = torch.randn(2, 3, 67, 90)
    with torch.no_grad():
        x, maps = image, encoder(image)
        for index, block in enumerate(reference.features):
            x = block(x)
            if index in (1, 3, 6, 13, 17):
                assert torch.equal(maps.pop(0), x)
    assert not maps


@pytest.mark.parametrize(
    ("stride", "reductions"), [(32, (2, 4, 8, 16, 32)), (16, (2, 4, 8, 16, 16)), (8, (2, 4, 8, 8, 8))]
)
def test_says_its_channels_and_strides(stride, reductions):
    encoder = MobileNetV2(stride)
    assert isinstance(encoder, Encoder)
    assert encoder.channels == (16, 24, 32, 96, 320)
    assert encoder.reductions == reductions
    for feature, channels, reduction in zip(
        encoder(torch.randn(1, 3, 64, 64)), encoder.channels, reductions, strict=True
    ):
        assert feature.shape == (1, channels, 64 // reduction, 64 // reduction)


@pytest.mark.parametrize("stride", [8, 16])
def test_dilation_is_contract_as_timms(stride):
    timm = pytest.importorskip("timm")
    reference = timm.create_model("mobilenetv2_100", features_only=True, output_stride=stride)
    expected = [m.dilation[0] for m in reference.modules() if isinstance(m, torch.nn.Conv2d) and m.groups > 1]
    assert _dilations(MobileNetV2(stride)) == expected


def test_dilated_features_are_the_undilated_ones_at_their_places():
    # With every stride kept as dilation, each coarse value appears in the fine map at its own position.
    coarse, fine = MobileNetV2(32).eval(), MobileNetV2(16).eval()
    fine.load_state_dict(coarse.state_dict())
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        first_block = coarse.features[:15](image), fine.features[:15](image)
    assert torch.allclose(first_block[0], first_block[1][..., ::2, ::2], atol=1e-5)


def test_frozen_stages_stay_frozen_in_training():
    encoder = MobileNetV2(frozen_stages=2).train()
    assert not any(p.requires_grad for p in encoder.features[:4].parameters())
    assert all(p.requires_grad for p in encoder.features[4:].parameters())
    before = encoder.features[0][1].running_mean.clone()
    encoder(torch.randn(2, 3, 32, 32))
    assert torch.equal(encoder.features[0][1].running_mean, before)
    assert set(encoder.state_dict()) == set(MobileNetV2().state_dict())


def test_refuses_other_strides():
    with pytest.raises(ConfigError, match="output_stride 4"):
        MobileNetV2(4)


def test_reads_the_project_weights(real_data):
    encoder = build_encoder(
        "torchvision/mobilenet_v2", 16, weights=real_data / "weights" / "mobilenet_v2_imagenet_backbone.pth"
    )
    assert encoder.features[0][1].running_var.mean() > 0.01
    assert not torch.equal(encoder.features[0][1].weight, torch.ones(32))
