"""Foreground boxes that each stage learns from, counted by group while training."""

import pytest
import torch
from torch import nn

from longtail.frequency import CategoryGroups

from .conftest import NUM_CLASSES, tiny_cascade, tiny_htc

GROUPS = CategoryGroups.explicit({"rare": [2], "others": [0, 1]})


class Remembers(nn.Module):
    """Cross-entropy that keeps the labels it was given."""

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        self.labels = labels
        return nn.functional.cross_entropy(logits, labels)


@pytest.mark.parametrize("make", [tiny_cascade, tiny_htc, lambda: tiny_cascade("detectron2")])
def test_counts_are_those_of_the_labels_learned_from(make, batch):
    detector = make()
    losses = [Remembers() for _ in range(detector.num_stages)]
    detector.set_class_losses(losses)
    assert detector.counts() == {}
    detector.count_positives(GROUPS)
    detector.losses(*batch)
    counts = detector.counts()
    assert list(counts) == [f"positives/stage_{k}/{name}" for k in (1, 2, 3) for name in GROUPS.names]
    for k, loss in enumerate(losses, start=1):
        by_class = torch.bincount(loss.labels, minlength=NUM_CLASSES + 1)
        assert counts[f"positives/stage_{k}/rare"] == by_class[2]
        assert counts[f"positives/stage_{k}/others"] == by_class[0] + by_class[1]
    assert sum(float(v) for v in counts.values()) > 0
    assert not any("group_members" in name for name in detector.state_dict())
