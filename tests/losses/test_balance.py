"""What the losses are for: a linear classifier of overlapping classes, counted 1000 to 8, scored on balanced data."""

from functools import cache

import numpy as np
import pytest
import torch

from longtail.frequency import ClassFrequency
from longtail.losses.base import start_bias
from longtail.losses.build import build_loss
from longtail.losses.label_space import LabelSpace

COUNTS = [1000, 300, 90, 27, 8]
C = len(COUNTS)
FREQUENCY = ClassFrequency(
    tuple("abcde"), images=np.array(COUNTS), pixels=np.array(COUNTS), instances=np.array(COUNTS), num_images=2000
)


def features(counts: list[int], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.repeat_interleave(torch.arange(C), torch.tensor(counts))
    return 1.2 * torch.eye(C)[labels] + 0.7 * torch.randn(len(labels), C, generator=generator), labels


@cache
def recalls(name: str, background: bool) -> torch.Tensor:
    """Recall of every class, the most frequent first."""
    labels = LabelSpace.of_boxes(FREQUENCY) if background else LabelSpace.of_pixels(FREQUENCY)
    loss = build_loss(name, labels)
    inputs, labels = features(COUNTS, 0)
    if background:
        others = 0.7 * torch.randn(2000, C, generator=torch.Generator().manual_seed(7)) - 0.5
        inputs, labels = torch.cat([inputs, others]), torch.cat([labels, torch.full((2000,), C)])
    torch.manual_seed(0)
    classifier = torch.nn.Linear(C, loss.num_logits)
    torch.nn.init.normal_(classifier.weight, std=0.01)
    torch.nn.init.zeros_(classifier.bias)
    start_bias(classifier, loss)
    optimizer = torch.optim.Adam(classifier.parameters(), 0.1)
    for step in range(120):
        loss.set_progress(step / 120)
        optimizer.zero_grad()
        loss(classifier(inputs), labels).backward()
        optimizer.step()
    inputs, labels = features([400] * C, 1)
    with torch.no_grad():
        found = loss.eval().probabilities(classifier(inputs))[:, :C].argmax(dim=1)
    return torch.tensor([(found[labels == c] == c).float().mean() for c in range(C)])


BALANCING = ["class_balanced", "ldam", "logit_adjustment", "balanced_softmax", "seesaw", "under_sampling"]


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("name", [*BALANCING, "balanced_group_softmax"])
def test_rare_classes_are_found_more_often_than_with_cross_entropy(name, background):
    if name == "balanced_group_softmax" and not background:
        pytest.skip("for boxes")
    plain, ours = recalls("cross_entropy", background), recalls(name, background)
    assert plain[-1] < 0.1 and ours[-1] > plain[-1] + 0.1
    assert ours.mean() > plain.mean() + 0.05


@pytest.mark.parametrize("name", ["logit_adjustment", "balanced_softmax", "class_balanced"])
def test_losses_for_the_balanced_error_even_out_the_recalls(name):
    ours = recalls(name, False)
    assert ours.max() - ours.min() < 0.15 and ours.mean() > 0.65
