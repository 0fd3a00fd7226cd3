"""State that training gathers is the same on every rank, and that of the whole batch; a rank may have no position."""

import torch

from longtail.classifiers.deconfound import DeconfoundClassifier
from longtail.detection.stage import class_loss
from longtail.losses.balanced_softmax import BalancedSoftmax
from longtail.losses.equalization_v2 import EqualizationLossV2
from longtail.losses.seesaw import SeesawLoss
from support.labels import boxes
from support.two_ranks import run_on_two_ranks

C = 3


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(4)
    return (
        torch.randn(20, C + 2, generator=g),
        torch.randint(0, C + 1, (20,), generator=g),
        torch.randn(20, 4, generator=g),
    )


def train(parts: list[slice]) -> dict[str, torch.Tensor]:
    """State after a step on each part of the batch."""
    seesaw = SeesawLoss(boxes(C))
    own = SeesawLoss(boxes(C), across_ranks=False)
    equalization = EqualizationLossV2(boxes(C))
    balanced = BalancedSoftmax(boxes(C), counts="seen")
    classifier = DeconfoundClassifier(4, C + 1)
    for part in parts:
        logits, target, features = (values[part] for values in batch())
        class_loss(seesaw, logits, target)
        class_loss(own, logits, target)
        class_loss(equalization, logits[:, :-1], target)
        class_loss(balanced, logits[:, :-1], target)
        classifier.observe(features, target < C)
    return {
        "seesaw": seesaw.counts,
        "own": own.counts,
        "balanced": balanced.seen,
        "positive": equalization.positive,
        "negative": equalization.negative,
        "embedding": classifier.embedding,
    }


def on_rank(rank: int) -> dict[str, torch.Tensor]:
    # the second rank has fewer boxes in the first step and none in the second
    return train([slice(12, 15), slice(0, 0)] if rank else [slice(12), slice(15, 20)])


def test_two_ranks_are_one(tmp_path):
    first, second = run_on_two_ranks(tmp_path, on_rank)
    alone = train([slice(15), slice(15, 20)])
    for name, value in alone.items():
        if name != "own":
            torch.testing.assert_close(first[name], value)
            assert torch.equal(first[name], second[name]), name
    assert torch.equal(first["own"] + second["own"], alone["own"])
