"""Labels of the plain segmentor, found without its maps."""

import pytest
import torch

from longtail.models.segmentation_methods import build_method
from longtail.pixels import Upsampling
from support.tiny_segmentation import FREQUENCY, GROUPS, batch, tiny_model


@pytest.mark.parametrize(
    "loss", [None, {"name": "logit_adjustment"}, {"name": "focal", "kind": "sigmoid"}, {"name": "seesaw"}]
)
def test_labels_are_the_argmax_of_the_probabilities(loss):
    torch.manual_seed(0)
    baseline = build_method("baseline", tiny_model(), frequency=FREQUENCY, groups=GROUPS, loss=loss).eval()
    with torch.no_grad():
        for parameter in baseline.model.expert.head.parameters():  # as sure of its labels as a trained one
            parameter.mul_(30)
        image = batch()[0]
        assert torch.equal(baseline.labels(image), baseline(image).argmax(dim=1))


def test_a_softmax_is_read_without_the_map(monkeypatch):
    baseline = build_method("baseline", tiny_model(), frequency=FREQUENCY, groups=GROUPS).eval()
    monkeypatch.setattr(Upsampling, "__call__", lambda *_: pytest.fail("the map was made"))
    assert baseline.labels(batch()[0]).shape == batch()[0][:, 0].shape
