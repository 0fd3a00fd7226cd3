"""The de-confounded classifier over pixels."""

import pytest
import torch
from torch import nn

from longtail.classifiers.deconfound import DeconfoundClassifier
from longtail.errors import ConfigError
from longtail.models.segmentation_methods import build_method
from longtail.segmentation.classifier import DeconfoundPixels, set_classifier
from longtail.segmentation.encoder_decoder import EncoderDecoder
from support.tiny_segmentation import FREQUENCY, GROUPS, NUM_CLASSES, batch, tiny_model


def test_every_pixel_is_a_row_of_the_classifier():
    torch.manual_seed(0)
    pixels = DeconfoundPixels(6, 4, heads=3, momentum=0.5).double()
    rows = DeconfoundClassifier(6, 4, exempt=0, heads=3, momentum=0.5).double()
    rows.load_state_dict(pixels.rows.state_dict())
    x = torch.randn(2, 6, 3, 5, dtype=torch.float64)
    flat = x.permute(0, 2, 3, 1).reshape(-1, 6)
    expected = rows(flat).view(2, 3, 5, 4).permute(0, 3, 1, 2)
    torch.testing.assert_close(pixels(x), expected)
    # the training step told it what pixels have in common
    torch.testing.assert_close(pixels.rows.embedding, flat.mean(0))
    rows.observe(flat, torch.ones(30, dtype=torch.bool))
    found = pixels.eval()(x)
    torch.testing.assert_close(found, rows.eval()(flat).view(2, 3, 5, 4).permute(0, 3, 1, 2))
    assert not torch.allclose(found, expected)
    before = pixels.rows.embedding.clone()
    pixels(2 * x)
    assert torch.equal(before, pixels.rows.embedding)
    assert torch.autograd.gradcheck(pixels, x[:1, :, :2, :2].clone().requires_grad_())


def test_pixels_that_are_all_alike_are_told_apart_by_nothing():
    """With one head and α = 1 a pixel in the common direction has no effect of its own."""
    pixels = DeconfoundPixels(4, 3, heads=1, alpha=1.0)
    x = torch.randn(4).view(1, 4, 1, 1).expand(1, 4, 2, 2)
    pixels(x)
    torch.testing.assert_close(pixels.eval()(x), torch.zeros(1, 3, 2, 2), atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", ["baseline", "medoe"])
def test_under_a_method(method):
    model = set_classifier(tiny_model(), {"name": "deconfound", "alpha": 1.0})
    built = build_method(method, model, frequency=FREQUENCY, groups=GROUPS)
    image, target = batch()
    built.train()
    sum(built.losses(image, target).values()).backward()
    heads = [m for m in built.modules() if isinstance(m, DeconfoundPixels)]
    assert len(heads) == (1 if method == "baseline" else GROUPS.num_groups)
    assert all(head.rows.embedding.any() and head.rows.weight.grad.any() for head in heads)
    assert built.eval()(image).shape[1] == NUM_CLASSES
    other = set_classifier(tiny_model(1), {"name": "deconfound", "alpha": 1.0})
    again = build_method(method, other, frequency=FREQUENCY, groups=GROUPS)
    again.load_state_dict(built.state_dict())
    assert torch.equal(again.eval().labels(image), built.labels(image))


def test_refusals():
    model = EncoderDecoder(nn.Identity(), nn.Identity(), nn.Conv2d(4, 3, 3), num_classes=3)
    with pytest.raises(ConfigError, match="1x1"):
        set_classifier(model, "deconfound")
    with pytest.raises(ConfigError, match="momentum"):
        set_classifier(model, {"name": "deconfound", "beta": 1})
