import numpy as np
import pytest
import torch

from longtail.errors import ConfigError
from longtail.frequency import ClassFrequency
from longtail.losses.base import ClassificationLoss
from longtail.losses.build import LOSSES, build_loss
from longtail.losses.cross_entropy import CrossEntropy
from longtail.losses.label_space import LabelSpace

FREQUENCY = ClassFrequency(tuple("abc"), images=np.array([8, 4, 1]), instances=np.array([100, 10, 1]))


class Halved(CrossEntropy):
    """A loss of one's own."""

    def __init__(self, labels: LabelSpace, *, factor: float = 0.5) -> None:
        super().__init__(labels)
        self.factor = factor

    def forward(self, logits, target, position_weight=None):
        return self.factor * super().forward(logits, target, position_weight)


def test_names_options_and_what_the_data_say():
    loss = build_loss({"name": "cross_entropy", "class_weight": [1, 2, 3, 0.5]}, LabelSpace.of_boxes(FREQUENCY))
    assert (loss.num_classes, loss.ignore_index) == (4, -100)
    assert loss.class_weight.tolist() == [1, 2, 3, 0.5]
    assert build_loss("cross_entropy", LabelSpace.of_pixels(FREQUENCY, -1)).ignore_index == -1


@pytest.mark.parametrize("where", [f"{__name__}.Halved", f"{__name__}:Halved"])
def test_a_loss_of_ones_own(where):
    loss = build_loss({"name": where, "factor": 0.25}, LabelSpace.of_pixels(FREQUENCY))
    logits, target = torch.randn(5, 3), torch.randint(0, 3, (5,))
    torch.testing.assert_close(loss(logits, target), CrossEntropy(3)(logits, target) / 4)
    with pytest.raises(ConfigError, match=r"no option 'factr'\n  fix: did you mean 'factor'"):
        build_loss({"name": where, "factr": 0.25}, LabelSpace.of_pixels(FREQUENCY))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("focl", r"no loss 'focl'\n  fix: did you mean 'focal'.*blv"),
        ("positions", "no loss 'positions'"),
        ({"name": "focal", "gama": 1}, r"'focal' has no option 'gama'\n  fix: did you mean 'gamma'\? it takes kind"),
        ({"name": "focal", "gamma": "two"}, r"loss 'focal': gamma is 'two'\n  fix: give a number"),
        ({"name": "focal", "kind": "sigmod"}, r"kind is 'sigmod'\n  fix: did you mean 'sigmoid'"),
        ({"name": "focal", "background": True}, "no option 'background'"),
        ({"name": "equalization", "share": [1]}, "no option 'share'"),
        ({"gamma": 1}, "no loss ''"),
        ("nowhere.at.all", "there is no loss at 'nowhere.at.all'"),
        ("longtail.errors.ConfigError", "is no loss\n  fix: derive it from longtail.losses.base.ClassificationLoss"),
        ("longtail.losses.focal.Nothing", "no loss at"),
        ("blv", "no pixels"),
    ],
)
def test_refusals(spec, message):
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        build_loss(spec, LabelSpace.of_pixels(FREQUENCY))


class Plain(ClassificationLoss):
    """A loss that names the facts it reads, and no label space."""

    def __init__(self, num_classes: int, ignore_index: int, frequency: ClassFrequency) -> None:
        super().__init__(LabelSpace(num_classes, ignore_index=ignore_index))
        self.frequency = frequency

    def forward(self, logits, target, position_weight=None):
        return logits.sum()


def test_facts_are_passed_where_the_signature_names_them():
    loss = build_loss(f"{__name__}.Plain", LabelSpace.of_pixels(FREQUENCY, 9))
    assert (loss.num_classes, loss.ignore_index) == (3, 9) and loss.frequency is FREQUENCY


def test_losses_are_found_by_their_files():
    assert len(LOSSES.names()) >= 12 and {"focal", "seesaw"} <= set(LOSSES.names())
    assert not {"base", "sigmoid", "wrapped", "label_space"} & set(LOSSES.names())


def test_labels_and_counts_that_do_not_fit():
    with pytest.raises(ConfigError, match="is the id of a class"):
        LabelSpace(300)
    with pytest.raises(ConfigError, match="counts of 3 classes for 4"):
        LabelSpace(5, True, -100, FREQUENCY)
    with pytest.raises(ConfigError, match="has no counts"):
        build_loss("balanced_softmax", LabelSpace(3))
