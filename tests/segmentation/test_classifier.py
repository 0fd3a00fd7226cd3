"""A baseline with the losses of the package: the head it trains, the probabilities it reads."""

import pytest
import torch
from torch import nn

from longtail.errors import ConfigError
from longtail.losses.base import ClassificationLoss
from longtail.losses.cross_entropy import cross_entropy
from longtail.losses.focal import FocalLoss
from longtail.models.segmentation_methods import build_method
from longtail.segmentation.baseline import Baseline
from longtail.segmentation.classifier import fit_classifier
from longtail.segmentation.tiling import expert_maps, sliding_window
from support.tiny_segmentation import FREQUENCY, GROUPS, NUM_CLASSES, batch, tiny_model


class WithObjectness(ClassificationLoss):
    """C class logits, then two that say whether there is anything at all."""

    @property
    def num_logits(self) -> int:
        return self.num_classes + 2

    def forward(self, logits, target, position_weight=None):
        classes = cross_entropy(logits[:, : self.num_classes], target, ignore_index=self.ignore_index)
        anything = torch.where(target == self.ignore_index, target, 0)
        return classes + cross_entropy(logits[:, self.num_classes :], anything, ignore_index=self.ignore_index)

    def probabilities(self, logits):
        present = logits[:, self.num_classes :].softmax(dim=1)[:, :1]
        return logits[:, : self.num_classes].softmax(dim=1) * present


def test_a_loss_with_more_logits_than_classes():
    plain = tiny_model(auxiliary=True, auxiliary_head=True)
    before = plain.expert.head.weight.clone()
    method = Baseline(plain, WithObjectness(NUM_CLASSES))
    image, target = batch()
    terms = method.losses(image, target)
    assert list(terms) == ["class", "auxiliary_1", "auxiliary_2"]
    sum(terms.values()).backward()
    assert method.num_classes == NUM_CLASSES and method.num_logits == NUM_CLASSES + 2
    assert torch.equal(method.model.expert.head.weight[:NUM_CLASSES], before)
    assert plain.auxiliary_head.classify.out_channels == NUM_CLASSES
    method.eval()
    with torch.no_grad():
        maps = method.expert_maps(image)
        assert maps.logits.shape == (1, 2, NUM_CLASSES + 2, 16, 16)
        read = method.readouts()["baseline"](maps, None)
        assert torch.equal(read, method(image).argmax(dim=1)) and read.max() < NUM_CLASSES
        assert torch.equal(method(image), method.probabilities(maps.logits[0]))
        windows = expert_maps(method, image, window=(16, 16))
        torch.testing.assert_close(windows.logits, maps.logits)
        assert sliding_window(method, image, (12, 12), (8, 8)).shape == (2, NUM_CLASSES, 16, 16)


def test_the_classifier_inside_a_head_is_replaced():
    head = nn.Sequential(
        nn.Conv2d(4, NUM_CLASSES, 3, padding=1), nn.ReLU(), nn.Conv2d(NUM_CLASSES, 3, 1), nn.Identity()
    )
    fitted = fit_classifier(head, 3, WithObjectness(3))
    assert fitted is head and head[2].out_channels == 5 and head[0].out_channels == NUM_CLASSES
    assert fit_classifier(fitted, 3, WithObjectness(3))[2] is fitted[2]
    other = nn.Sequential(nn.Flatten(2))
    assert fit_classifier(other, 3, FocalLoss(3)) is other
    with pytest.raises(ConfigError, match="needs 5 logits, but the head Sequential"):
        fit_classifier(other, 3, WithObjectness(3))


def test_sigmoids_start_at_their_prior():
    method = build_method(
        "baseline",
        tiny_model(),
        frequency=FREQUENCY,
        groups=GROUPS,
        loss={"name": "focal", "kind": "sigmoid", "prior": 0.02},
    )
    torch.testing.assert_close(method.model.expert.head.bias.sigmoid(), torch.full((NUM_CLASSES,), 0.02))


def test_losses_are_named_in_the_settings_of_the_baseline():
    arguments = {"frequency": FREQUENCY, "groups": GROUPS}
    image, target = batch()
    weighted = build_method("baseline", tiny_model(), loss="class_balanced", **arguments)
    assert weighted.losses(image, target)["class"] > 0
    same = build_method("baseline", tiny_model(), loss="cross_entropy", **arguments)
    plain = build_method("baseline", tiny_model(), **arguments)
    for method in (same, plain):
        torch.manual_seed(0)
        method.found = method.losses(image, target)
    assert torch.equal(same.found["ce"], plain.found["ce"]) and list(same.state_dict()) == list(plain.state_dict())
    with pytest.raises(ConfigError, match="for boxes"):
        build_method("baseline", tiny_model(), loss="federated", **arguments)
    with pytest.raises(ConfigError, match="normalizer='all' and a loss"):
        build_method("baseline", tiny_model(), loss="blv", normalizer="all", **arguments)
