import math

import pytest
import torch

from longtail.classifiers.deconfound import DeconfoundClassifier
from longtail.errors import ConfigError

F, C = 8, 3


def ready(alpha=1.5, **options):
    classifier = DeconfoundClassifier(F, C + 1, alpha=alpha, **options).double()
    classifier.embedding.copy_(torch.randn(F))
    return classifier.eval()


def literal(classifier, x):
    """The paper's logits and total direct effect, and its background-exempted probabilities, one row at a time."""

    def unit(v):
        length = math.sqrt(sum(a * a for a in v))
        return [a / length for a in v]

    def dot(a, b):
        return sum(p * q for p, q in zip(a, b, strict=True))

    part, plain, direct = F // 2, [], []
    for weights in classifier.weight.tolist():
        y = taken = 0.0
        for k in (0, 1):
            cut = slice(k * part, (k + 1) * part)
            w, e = weights[cut], unit(classifier.embedding.tolist()[cut])
            w = [a / (math.sqrt(dot(w, w)) + 1 / 32) for a in w]
            direction = unit(x[cut])
            y += 8 * dot(w, direction)
            taken += 8 * dot(direction, e) * dot(w, e)
        plain.append(y)
        direct.append(y - classifier.alpha * taken)
    p, q = ([math.exp(v) / sum(map(math.exp, o)) for v in o] for o in (plain, direct))
    return plain, [q[c] * (1 - p[C]) / (1 - q[C]) for c in range(C)] + [p[C]]


def test_value_by_hand():
    classifier = DeconfoundClassifier(2, 2, heads=1, temperature=10.0, gamma=1.0, alpha=0.5)
    with torch.no_grad():
        classifier.weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 4.0]]))
    x = torch.tensor([[3.0, 4.0]])
    # 10 * 3/4 * 3/5, 10 * 4/5 * 4/5
    torch.testing.assert_close(classifier(x), torch.tensor([[4.5, 6.4]]))
    classifier.observe(torch.tensor([[2.0, 0.0], [6.0, 0.0], [0.0, 100.0]]), torch.tensor([True, True, False]))
    torch.testing.assert_close(classifier.embedding, torch.tensor([4.0, 0.0]))
    # the class loses 0.5 * 10 * (3/5) * (3/4); alone before the background it is shifted back by as much
    torch.testing.assert_close(classifier.eval()(x), torch.tensor([[4.5, 6.4]]))
    free = DeconfoundClassifier(2, 2, heads=1, temperature=10.0, gamma=1.0, alpha=0.5, exempt=0).eval()
    free.load_state_dict(classifier.state_dict())
    torch.testing.assert_close(free(x), torch.tensor([[4.5 - 2.25, 6.4]]))


def test_equals_the_literal_paper():
    classifier = ready()
    x = torch.randn(6, F, dtype=torch.float64)
    read = classifier(x).softmax(1)
    classifier.train()
    for row, plain, probability in zip(x.tolist(), classifier(x).tolist(), read.tolist(), strict=True):
        expected = literal(classifier, row)
        assert plain == pytest.approx(expected[0])
        assert probability == pytest.approx(expected[1])


def test_without_alpha_or_before_any_object_nothing_is_taken():
    x = torch.randn(5, F, dtype=torch.float64)
    for classifier in (ready(alpha=0.0), ready()):
        if classifier.alpha:
            classifier.embedding.zero_()
        torch.testing.assert_close(classifier(x), classifier.train()(x))


def test_the_background_keeps_its_logit_and_probability():
    classifier, x = ready(), torch.randn(5, F, dtype=torch.float64)
    found, plain = classifier(x), classifier.train()(x)
    assert torch.equal(found[:, C], plain[:, C]) and not torch.allclose(found[:, :C], plain[:, :C])
    torch.testing.assert_close(found.softmax(1)[:, C], plain.softmax(1)[:, C])


def test_moving_sum():
    classifier = DeconfoundClassifier(2, 2, momentum=0.5)
    x = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 8.0]])
    classifier.observe(x, torch.tensor([True, True, False]))
    classifier.observe(x, torch.tensor([False, False, False]))  # no object: nothing changes
    classifier.observe(x[:0], torch.zeros(0, dtype=torch.bool))
    torch.testing.assert_close(classifier.embedding, torch.tensor([2.0, 0.0]))
    classifier.observe(x.half(), torch.tensor([False, False, True]))
    torch.testing.assert_close(classifier.embedding, torch.tensor([1.0, 8.0]))
    resumed = DeconfoundClassifier(2, 2)
    resumed.load_state_dict(classifier.state_dict())
    assert torch.equal(resumed.embedding, classifier.embedding)


def test_gradcheck_lengths_and_zeros():
    for classifier in (ready(), ready().train()):
        x = torch.randn(3, F, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(classifier, x)
        torch.testing.assert_close(classifier(x), classifier(1000 * x))
        assert classifier(torch.zeros(2, F, dtype=torch.float64)).isfinite().all()
        assert classifier(torch.zeros(0, F, dtype=torch.float64)).shape == (0, C + 1)


def test_mixed_precision():
    classifier = ready().float()
    x = torch.randn(5, F)
    with torch.autocast("cpu", torch.bfloat16):
        found = classifier(x.bfloat16())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.softmax(1), classifier(x).softmax(1), rtol=0.05, atol=0.02)


def test_refusals():
    with pytest.raises(ConfigError, match="9 features cannot be cut into 2 heads"):
        DeconfoundClassifier(9, 3)
    with pytest.raises(ConfigError, match="exempt=3 of 3"):
        DeconfoundClassifier(8, 3, exempt=3)
