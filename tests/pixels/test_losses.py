import pytest
import torch

from longtail.losses.base import ClassificationLoss
from longtail.losses.cross_entropy import CrossEntropy, cross_entropy
from longtail.pixels import Upsampling, loss_of_upsampled, upsampled_cross_entropy

UPSAMPLING = Upsampling((13, 18), divisor=4)


def random_case():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 4, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    target = torch.randint(0, 5, (2, 13, 18), generator=generator)
    target[0, :3] = 255
    return logits, target


@pytest.mark.parametrize("weight", [None, torch.tensor([0.5, 2, 1, 0, 3], dtype=torch.float64)])
@pytest.mark.parametrize("normalizer", ["valid", "all", "sum"])
@pytest.mark.parametrize("kind", [torch.int64, torch.uint8])
def test_cross_entropy_of_the_map(normalizer, weight, kind):
    logits, target = random_case()
    target = target.to(kind)
    found = upsampled_cross_entropy(logits, target, UPSAMPLING, normalizer=normalizer, weight=weight)
    expected = cross_entropy(UPSAMPLING(logits), target, normalizer=normalizer, weight=weight)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(7 * value, logits)[0] for value in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_logits_of_the_targets_size_and_a_batch_without_labels():
    logits, target = random_case()
    wide = UPSAMPLING(logits.detach())
    torch.testing.assert_close(upsampled_cross_entropy(wide, target, Upsampling((13, 18))), cross_entropy(wide, target))
    # Of a head that saw the padded image, logits of the image's size are no map of the image.
    expected = cross_entropy(UPSAMPLING(wide), target)
    torch.testing.assert_close(upsampled_cross_entropy(wide, target, UPSAMPLING), expected)
    nothing = upsampled_cross_entropy(logits, torch.full_like(target, 255), UPSAMPLING)
    nothing.backward()
    assert nothing.item() == 0
    assert (logits.grad == 0).all()


class Doubled(CrossEntropy):
    def forward(self, logits, target, position_weight=None):
        return 2 * super().forward(logits, target, position_weight)


class Total(ClassificationLoss):
    def forward(self, logits, target, position_weight=None):
        return logits.sum() + 0 * target.sum()


def test_any_other_loss_sees_the_map():
    logits, target = random_case()
    weighted = CrossEntropy(5, class_weight=torch.rand(5).tolist(), normalizer="all").double()
    for loss in (CrossEntropy(5), weighted, Doubled(5), Total(5)):
        found = loss_of_upsampled(loss, logits, target, UPSAMPLING)
        torch.testing.assert_close(found, loss(UPSAMPLING(logits), target))
