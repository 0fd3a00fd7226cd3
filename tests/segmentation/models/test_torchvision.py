import copy

import pytest
import torch
from torchvision.models import get_model, list_models, segmentation

from longtail.errors import ConfigError
from longtail.segmentation.models import build_model, wrap

SMALL = ["lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large"]


def _model(arch: str, **options):
    return get_model(arch, weights=None, weights_backbone=None, num_classes=5, **options).eval()


@pytest.mark.parametrize("arch", [*SMALL, "fcn_resnet50"])
@torch.no_grad()
def test_logits_stay_the_same(arch):
    model = _model(arch)
    image = torch.randn(2, 3, 75, 100)
    expected = model(image)["out"]
    wrapped = wrap(model, 5)
    assert expected.std() > 0
    torch.testing.assert_close(wrapped(image), expected, rtol=1e-4, atol=1e-5)
    assert isinstance(wrapped.expert.head, torch.nn.Conv2d)
    assert wrapped.auxiliary_head is None
    twin, features = copy.deepcopy(wrapped.expert), wrapped.encode(image)
    assert torch.equal(twin(features).logits, wrapped.expert(features).logits)


@torch.no_grad()
def test_auxiliary_classifier_becomes_the_auxiliary_head():
    model = _model("deeplabv3_mobilenet_v3_large", aux_loss=True)
    image = torch.randn(2, 3, 64, 64)
    wrapped = wrap(model)
    assert wrapped.auxiliary_weight == 0.5
    logits = wrapped.auxiliary_head(wrapped.encode(image))
    expected = model(image)
    upsampled = torch.nn.functional.interpolate(logits, (64, 64), mode="bilinear", align_corners=False)
    assert torch.equal(upsampled, expected["aux"])
    assert torch.equal(wrapped(image), expected["out"])


def test_every_segmentation_model_of_torchvision_splits():
    with torch.device("meta"):
        for arch in list_models(module=segmentation):
            assert wrap(_model(arch), 5).num_classes == 5


def test_gradients_reach_every_parameter():
    model = wrap(_model("lraspp_mobilenet_v3_large")).train()
    model(torch.randn(2, 3, 64, 64)).sum().backward()
    assert not [k for k, p in model.named_parameters() if p.grad is None]


def test_builds_by_name_and_refuses():
    assert build_model("torchvision", 7, arch=SMALL[1], aux_loss=True).auxiliary_head is not None
    with pytest.raises(ConfigError, match="fcn_resnet50"):
        build_model("torchvision", 7, arch="unet")
    with pytest.raises(ConfigError, match="no segmentation model"):
        wrap(get_model("resnet18"))
