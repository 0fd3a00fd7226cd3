import copy
import json
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from longtail.errors import ConfigError
from longtail.medoe.bank import copies
from longtail.segmentation.classifier import CosineConv2d, set_classifier
from longtail.segmentation.encoder_decoder import EncoderDecoder
from longtail.segmentation.models import build_model, resolved_options


def model(head):
    return EncoderDecoder(nn.Identity(), nn.Identity(), head, num_classes=3)


def test_by_hand():
    layer = CosineConv2d(2, 3, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 5.0], [-1.0, -1.0]])[:, :, None, None])
        layer.bias.copy_(torch.tensor([0.0, 0.0, 1.0]))
    found = layer(torch.tensor([0.5, 0.0]).view(1, 2, 1, 1)).flatten()
    torch.testing.assert_close(found, torch.tensor([20.0, 0.0, 1 - 20 / math.sqrt(2)]))


@pytest.mark.parametrize("kernel", [1, 3])
def test_equals_the_cosine_of_every_patch(kernel):
    layer = CosineConv2d(4, 3, kernel, padding=kernel // 2, temperature=7.0).double()
    x = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    patches = F.unfold(x, kernel, padding=kernel // 2)  # (n, channels x k x k, positions)
    expected = 7 * F.cosine_similarity(patches.unsqueeze(1), layer.weight.flatten(1)[None, :, :, None], dim=2)
    torch.testing.assert_close(layer(x).flatten(2), expected)
    torch.testing.assert_close(layer(x), layer(100 * x))
    assert torch.autograd.gradcheck(layer, x[:1, :, :3, :3].clone().requires_grad_())


@pytest.mark.parametrize("kernel", [1, 3])
def test_zeros_and_half_precision(kernel):
    layer = CosineConv2d(4, 3, kernel, padding=kernel // 2)
    x = torch.zeros(1, 4, 3, 3, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad.isfinite().all() and layer.weight.grad.isfinite().all()
    large = torch.full((1, 4, 3, 3), 6e4, dtype=torch.float16)
    assert layer.half()(large / 64).isfinite().all()
    assert (layer(large / 64).abs() <= 20.1).all()


def test_takes_the_last_convolution():
    for head, where in (
        (nn.Conv2d(4, 3, 1), ""),
        (nn.Sequential(nn.Conv2d(4, 3, 3), nn.ReLU(), nn.Conv2d(3, 3, 1)), "2"),
    ):
        found = set_classifier(model(copy.deepcopy(head)), {"name": "cosine", "temperature": 30}).expert.head
        layer = found.get_submodule(where)
        assert isinstance(layer, CosineConv2d) and layer.temperature == 30
        assert list(found.state_dict()) == list(head.state_dict())
    same = model(nn.Conv2d(4, 3, 1))
    assert type(set_classifier(same, "linear").expert.head) is nn.Conv2d
    for wrong in ("normed", {"name": "cosine", "tau": 3}, {"name": "linear", "temperature": 3}):
        with pytest.raises(ConfigError, match="no classifier"):
            set_classifier(model(nn.Conv2d(4, 3, 1)), wrong)
    with pytest.raises(ConfigError, match="no convolution of 3"):
        set_classifier(model(nn.Identity()), "cosine")
    with pytest.raises(ConfigError, match="2 groups"):
        CosineConv2d(4, 4, 1, groups=2)


def test_named_models_have_the_option():
    options = {"encoder": "torchvision/mobilenet_v2", "channels": 16, "output_stride": 16}
    built = build_model("deeplabv3plus", 5, classifier="cosine", **options)
    assert isinstance(built.expert.head, CosineConv2d)
    assert built(torch.randn(2, 3, 64, 64)).shape == (2, 5, 64, 64)
    # experts may have copies of it, and new weights
    other = copies(built.expert.head, 1, "reset")[0]
    assert isinstance(other, CosineConv2d) and not torch.equal(other.weight, built.expert.head.weight)


def test_kept_with_a_model_of_another_library(tmp_path):
    widths = {"hidden_sizes": [8, 8, 8, 8], "num_attention_heads": [1, 1, 1, 1], "decoder_hidden_size": 8}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "segformer", **widths}))
    kept = resolved_options("transformers", 3, {"config": str(tmp_path), "classifier": "cosine"})
    assert kept["classifier"] == "cosine" and "config" not in kept
    head = build_model("transformers", 3, **kept).expert.head
    assert any(isinstance(m, CosineConv2d) for m in head.modules())
