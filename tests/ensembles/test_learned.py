import math

import pytest
import torch

from longtail.ensembles.learned import LearnedEnsemble
from longtail.errors import ConfigError

K, C = 3, 4


def logits(seed: int = 0, grid: tuple[int, ...] = (5,), dtype=torch.float32):
    return torch.randn(K, 2, C, *grid, generator=torch.Generator().manual_seed(seed), dtype=dtype) * 3


def scrambled(**options) -> LearnedEnsemble:
    ensemble = LearnedEnsemble(K, C, **options)
    with torch.no_grad():
        ensemble.raw_weight.uniform_(-0.5, 0.5)
        ensemble.bias.uniform_(-0.5, 0.5)
    return ensemble


def slow(ensemble: LearnedEnsemble, z: torch.Tensor) -> list[float]:
    """Eq. 7-8 for one position; z is (K, C). Returns the unnormalised p_final."""

    def softmax(values):
        e = [math.exp(v - max(values)) for v in values]
        return [v / sum(e) for v in e]

    w, b = ensemble.weight.tolist(), ensemble.bias.tolist()
    if len(b) == 1:
        b = b * K
    final = [0.0] * C
    for i in range(K):
        p = softmax(z[i].tolist())
        u = {"logits": z[i].tolist(), "probabilities": p, "log_probabilities": [math.log(v) for v in p]}[
            ensemble.inputs
        ]
        hat = softmax([w[i][j] * u[j] + b[i][j] for j in range(C)])
        for j in range(C):
            outer = {
                "weight": w[i][j],
                "none": 1.0,
                "convex": K * w[i][j] / sum(w[k][j] for k in range(K)),
            }[ensemble.outer]
            final[j] += outer * hat[j] / K
    return final


FORMS = [
    {},
    {"inputs": "probabilities"},
    {"inputs": "logits", "outer": "none"},
    {"outer": "convex", "bias": "shared"},
    {"objective": "scores"},
    {"inputs": "probabilities", "objective": "literal"},
]


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_equals_the_slow_reference(form):
    ensemble, z = scrambled(**form), logits(grid=())
    final = ensemble.unnormalised(z)
    for n in range(2):
        expected = torch.tensor(slow(ensemble, z[:, n]))
        torch.testing.assert_close(final[n], expected)
    result = ensemble(z)
    torch.testing.assert_close(result.sum(dim=1), torch.ones(2))
    assert torch.equal(result.argmax(dim=1), final.argmax(dim=1))
    scores = ensemble.scores(z)
    if ensemble.objective == "likelihood":
        torch.testing.assert_close(scores / scores.sum(dim=1, keepdim=True), result)


def test_initial_state_is_the_plain_average():
    z = logits()
    ensemble = LearnedEnsemble(K, C)
    torch.testing.assert_close(ensemble.weight, torch.ones(K, C))
    torch.testing.assert_close(ensemble(z), z.softmax(dim=2).mean(dim=0), atol=1e-6, rtol=1e-5)


def test_one_expert_is_itself_and_identical_experts_are_that_expert():
    z = logits()[:1]
    torch.testing.assert_close(LearnedEnsemble(1, C)(z), z[0].softmax(dim=1))
    torch.testing.assert_close(LearnedEnsemble(K, C)(z.expand(K, -1, -1, -1)), z[0].softmax(dim=1))


def test_permuting_the_experts_changes_nothing():
    z, ensemble, other = logits(), scrambled(), LearnedEnsemble(K, C)
    order = torch.tensor([2, 0, 1])
    with torch.no_grad():
        other.raw_weight.copy_(ensemble.raw_weight[order])
        other.bias.copy_(ensemble.bias[order])
    torch.testing.assert_close(other(z[order]), ensemble(z))


def test_loss_by_hand():
    # Two experts agree on (3/4, 1/4) and (1/4, 3/4): the average is (1/2, 1/2), so every label costs ln 2.
    z = torch.tensor([[[math.log(3), 0.0]], [[0.0, math.log(3)]]])
    assert LearnedEnsemble(2, 2).loss(z, torch.tensor([0])).item() == pytest.approx(math.log(2))
    # As scores, softmax((1/2, 1/2)) is the same half; literal adds nothing for w = 1 either.
    assert LearnedEnsemble(2, 2, objective="scores").loss(z, torch.tensor([1])).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_gradcheck_and_the_number_of_parameters(form):
    ensemble, z = scrambled(**form).double(), logits(grid=(2,), dtype=torch.float64)
    target = torch.tensor([[0, 255], [3, 1]])
    shared = form.get("bias") == "shared"
    assert sum(p.numel() for p in ensemble.parameters()) == (K + (1 if shared else K)) * C

    def loss(weight, bias):
        return torch.func.functional_call(
            _Loss(ensemble), {"inner.raw_weight": weight, "inner.bias": bias}, (z, target)
        )

    parameters = [p.detach().clone().requires_grad_() for p in (ensemble.raw_weight, ensemble.bias)]
    assert torch.autograd.gradcheck(loss, parameters)


class _Loss(torch.nn.Module):
    def __init__(self, inner: LearnedEnsemble) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, z, target):
        return self.inner.loss(z, target)


def test_literal_form_is_unbounded_below_and_nearly_uniform():
    z = torch.zeros(1, 1, 19)
    z[0, 0, 3] = 100
    literal = LearnedEnsemble(1, 19, inputs="probabilities", objective="literal", outer="none")
    assert literal(z).max().item() == pytest.approx(math.e / (math.e + 18), rel=1e-4)
    literal = LearnedEnsemble(1, 19, inputs="probabilities", objective="literal")
    losses = []
    for scale in (1, 10, 100, 1000):
        with torch.no_grad():
            literal.raw_weight.fill_(scale - 1)
        losses.append(literal.loss(z, torch.tensor([3])).item())
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < -6


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_extreme_logits_and_unlabelled_batches(form):
    ensemble = scrambled(**form)
    z = logits().sign() * 100
    target = torch.randint(0, C, (2, 5))
    loss = ensemble.loss(z, target)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in ensemble.parameters())
    nothing = ensemble.loss(z, torch.full((2, 5), 255))
    assert nothing.item() == 0


def test_divergent_combination_is_refused():
    with pytest.raises(ConfigError, match="diverges"):
        LearnedEnsemble(K, C, positive=False)


@pytest.mark.parametrize("inputs", ["log_probabilities", "probabilities"])
def test_parameters_far_from_zero_overflow_nothing(inputs):
    ensemble = scrambled(inputs=inputs)
    z = logits(3, (7, 5)) * 10
    target = torch.randint(0, C, (2, 7, 5), generator=torch.Generator().manual_seed(0))
    for spread in (30.0, 300.0):
        with torch.no_grad():
            ensemble.bias.copy_(torch.linspace(-spread, spread, K * C).view(K, C))
            ensemble.raw_weight.copy_(torch.linspace(spread / 2, spread, K * C).view(K, C))
        assert torch.isfinite(ensemble.loss(z, target))
        assert torch.isfinite(ensemble.scores(z)).all()
        assert all(
            torch.isfinite(g).all() for g in torch.autograd.grad(ensemble.loss(z, target), ensemble.parameters())
        )
