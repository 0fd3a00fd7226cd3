"""What a method changes in a finished detector: the stages' losses and the ensembles."""

import pytest
import torch
from torch import nn

from longtail.ensembles.average import Average
from longtail.errors import ConfigError

from .conftest import tiny_cascade


class Doubled(nn.Module):
    def forward(self, logits, target):
        return 2 * nn.functional.cross_entropy(logits, target)


class Wide(Doubled):
    num_logits = 9


def test_losses_are_replaced(batch) -> None:
    detector = tiny_cascade()
    torch.manual_seed(0)
    before = detector.losses(*batch)
    detector.set_class_losses([nn.CrossEntropyLoss(), Doubled(), nn.CrossEntropyLoss()])
    torch.manual_seed(0)
    after = detector.losses(*batch)
    for name, value in before.items():
        assert torch.allclose(after[name], value * (2 if name == "stage_2_class" else 1))
    with pytest.raises(ConfigError, match="need 9 logits"):
        detector.set_class_losses([Wide()] * 3)
    with pytest.raises(ConfigError, match="2 losses for 3 stages"):
        detector.set_class_losses([Doubled()] * 2)


def test_ensembles_are_replaced() -> None:
    detector = tiny_cascade()
    assert next(iter(detector.readouts())) == "baseline"
    detector.set_ensembles({"mine": Average("probabilities")})
    assert list(detector.readouts())[:2] == ["mine", "average"]
