import math

import torch

from longtail.classifiers.cosine import CosineClassifier


def test_cosine_by_hand():
    classifier = CosineClassifier(2, 3, temperature=20.0)
    with torch.no_grad():
        classifier.weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 5.0], [-1.0, -1.0]]))
        classifier.bias.copy_(torch.tensor([0.0, 0.0, 1.0]))
    found = classifier(torch.tensor([[0.5, 0.0]]))
    torch.testing.assert_close(found, torch.tensor([[20.0, 0.0, 1 - 20 / math.sqrt(2)]]))


def test_cosine_does_not_see_lengths_and_survives_zeros():
    classifier = CosineClassifier(8, 5)
    x = torch.randn(4, 8, requires_grad=True)
    torch.testing.assert_close(classifier(x), classifier(100 * x))
    assert (classifier(x).abs() <= 20 + 1e-4).all()
    classifier(torch.zeros(1, 8, requires_grad=True)).sum().backward()
    assert classifier.weight.grad.isfinite().all()
    assert torch.autograd.gradcheck(
        CosineClassifier(3, 4).double(), torch.randn(2, 3, dtype=torch.double, requires_grad=True)
    )
