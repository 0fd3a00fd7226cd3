import torch

from longtail.medoe.experts import LabelSets
from longtail.medoe.oracle import oracle_probabilities
from support.tiny_segmentation import GROUPS, NUM_CLASSES

SETS = LabelSets.from_groups(GROUPS)


def case():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 2, NUM_CLASSES, 6, 6, generator=generator)
    target = torch.randint(0, NUM_CLASSES, (2, 6, 6), generator=generator)
    target[0, 0] = 255
    return logits, target


def test_every_pixel_is_read_by_the_expert_of_its_class():
    logits, target = case()
    result = oracle_probabilities(logits, target, SETS.expert_of)
    for n in range(2):
        for y in range(6):
            for x in range(6):
                label = int(target[n, y, x])
                expert = 0 if label == 255 else int(SETS.expert_of[label])
                torch.testing.assert_close(result[n, :, y, x], logits[expert, n, :, y, x].softmax(dim=0))


def test_accuracy_of_a_class_is_that_of_its_expert():
    logits, target = case()
    oracle = oracle_probabilities(logits, target, SETS.expert_of).argmax(dim=1)
    for j in range(NUM_CLASSES):
        own = logits[SETS.expert_of[j]].argmax(dim=1)
        assert torch.equal((oracle == target)[target == j], (own == target)[target == j])


def test_restriction_only_turns_wrong_pixels_right():
    logits, target = case()
    free = oracle_probabilities(logits, target, SETS.expert_of).argmax(dim=1) == target
    restricted = oracle_probabilities(logits, target, SETS.expert_of, restrict_to=SETS.masks).argmax(dim=1) == target
    assert (restricted | ~free).all()
    assert (restricted & ~free).any()


def test_identical_experts():
    logits, target = case()
    same = logits[:1].expand_as(logits)
    torch.testing.assert_close(oracle_probabilities(same, target, SETS.expert_of), logits[0].softmax(dim=1))
