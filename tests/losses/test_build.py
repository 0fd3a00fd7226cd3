import subprocess
import sys

import numpy as np
import pytest
import torch

from longtail.errors import ConfigError
from longtail.frequency import ClassFrequency
from longtail.losses.build import LOSSES, build_loss, loss_options
from longtail.losses.cross_entropy import CrossEntropy

FREQUENCY = ClassFrequency(tuple("abc"), images=np.array([8, 4, 1]), instances=np.array([100, 10, 1]))


class Halved(CrossEntropy):
    """A loss of one's own."""

    def __init__(self, num_classes: int, ignore_index: int = 255, *, factor: float = 0.5) -> None:
        super().__init__(num_classes, ignore_index)
        self.factor = factor

    def forward(self, logits, target, position_weight=None):
        return self.factor * super().forward(logits, target, position_weight)


def test_names_options_and_what_the_data_say():
    loss = build_loss({"name": "cross_entropy", "class_weight": [1, 2, 3, 0.5]}, FREQUENCY, background=True)
    assert (loss.num_classes, loss.ignore_index) == (4, 255)
    assert loss.class_weight.tolist() == [1, 2, 3, 0.5]
    assert build_loss("cross_entropy", FREQUENCY, ignore_index=-1).ignore_index == -1
    assert loss_options("focal") == {
        "kind": "softmax",
        "gamma": 2.0,
        "alpha": 0.25,
        "normalizer": None,
        "prior": 0.01,
    }


@pytest.mark.parametrize("where", [f"{__name__}.Halved", f"{__name__}:Halved"])
def test_a_loss_of_ones_own(where):
    loss = build_loss({"name": where, "factor": 0.25}, FREQUENCY)
    logits, target = torch.randn(5, 3), torch.randint(0, 3, (5,))
    torch.testing.assert_close(loss(logits, target), CrossEntropy(3)(logits, target) / 4)
    with pytest.raises(ConfigError, match=r"no option 'factr'\n  fix: did you mean 'factor'"):
        build_loss({"name": where, "factr": 0.25}, FREQUENCY)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("focl", r"no loss 'focl'\n  fix: did you mean 'focal'.*blv"),
        ({"name": "focal", "gama": 1}, r"'focal' has no option 'gama'\n  fix: did you mean 'gamma'\? it takes kind"),
        ({"name": "focal", "background": True}, "no option 'background'"),
        ({"name": "equalization", "share": [1]}, "no option 'share'"),
        ({"gamma": 1}, "no loss ''"),
        ("nowhere.at.all", "no loss at 'nowhere.at.all'"),
        ("longtail.errors.ConfigError", "is no ClassificationLoss"),
        ("longtail.losses.focal.Nothing", "no loss at"),
        ("blv", "no pixels"),
    ],
)
def test_refusals(spec, message):
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        build_loss(spec, FREQUENCY)


def test_losses_are_imported_when_asked_for():
    code = (
        "import sys, longtail.losses.build; print(sorted(m for m in sys.modules if m.startswith('longtail.losses.')))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "['longtail.losses.base', 'longtail.losses.build']"
    assert len(LOSSES) >= 12
