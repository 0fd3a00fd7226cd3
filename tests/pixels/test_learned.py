"""Loss and labels of a learned ensemble, from low maps, against its definition."""

import math

import pytest
import torch
from torch import nn

from longtail.ensembles.base import TrainableEnsemble
from longtail.ensembles.learned import LearnedEnsemble
from longtail.pixels import Upsampling, bands, ensemble_labels, ensemble_loss
from longtail.pixels.learned import LearnedScores

K, C = 3, 11
FORMS = [
    {},
    {"outer": "none"},
    {"outer": "convex"},
    {"bias": "shared"},
    {"objective": "scores", "positive": True},
    {"inputs": "probabilities"},
    {"inputs": "logits"},
    {"objective": "scores"},
]


def scrambled(spread: float = 0.5, **form) -> LearnedEnsemble:
    ensemble = LearnedEnsemble(K, C, **form).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in ensemble.parameters():
            parameter.normal_(0, spread, generator=generator)
    return ensemble


def logits(spread: float = 3.0) -> torch.Tensor:
    return spread * torch.randn(K, 2, C, 6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def both(ensemble: LearnedEnsemble, low: torch.Tensor, size: tuple[int, int] = (21, 17)) -> tuple:
    """Labels with what is constant applied before the interpolation, and by the definition."""
    upsampling = Upsampling(size)
    with torch.no_grad():
        expected = ensemble(torch.stack([upsampling(z) for z in low])).argmax(dim=1)
    return LearnedScores(ensemble).ahead, ensemble_labels(ensemble, low, upsampling), expected


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_equals_the_definition(form):
    ahead, found, expected = both(scrambled(**form), logits())
    assert torch.equal(found, expected)
    literal = form.get("inputs") is not None or form == {"objective": "scores"}
    assert ahead is not literal


def test_by_hand():
    # Expert 2 weighs class 1 by 4. With (0.4, 0.6): p̂ = (0.4, 0.6^4) / 0.53 = (0.76, 0.24), scores (0.9 + 0.76, 0.1 + 0.98).
    # With (0.1, 0.9): p̂ = (0.1, 0.9^4) / 0.76 = (0.13, 0.87), scores (0.9 + 0.13, 0.1 + 3.47).
    ensemble = LearnedEnsemble(2, 2).double()
    with torch.no_grad():
        ensemble.raw_weight[1, 1] = torch.tensor(4.0).expm1().log() - torch.tensor(1.0).expm1().log()
    for second, chosen in ((0.6, 0), (0.9, 1)):
        z = torch.tensor([[0.9, 0.1], [1 - second, second]], dtype=torch.float64).log().view(2, 1, 2, 1, 1)
        reader = LearnedScores(ensemble)
        assert reader.ahead and reader(reader.prepare(z)).argmax(dim=1).flatten().tolist() == [chosen]
        assert ensemble(z).argmax(dim=1).flatten().tolist() == [chosen]


@pytest.mark.parametrize("spread", [5.0, 30.0, 300.0])
def test_parameters_far_from_zero(spread):
    ensemble = scrambled()
    with torch.no_grad():
        ensemble.bias.copy_(torch.linspace(-spread, spread, K * C).view(K, C))
        ensemble.raw_weight.copy_(torch.linspace(spread / 2, spread, K * C).view(K, C))
    ahead, found, expected = both(ensemble, logits())
    assert torch.equal(found, expected) and ahead is (spread < 10)


@pytest.mark.parametrize("spread", [40.0, 400.0])
def test_neighbours_that_prefer_other_classes_by_far(spread):
    # between two such pixels every logit is far below the mean of their largest ones, and powers of 2 vanish
    ensemble = scrambled(0.1).float()
    ahead, found, expected = both(ensemble, logits(spread).float(), (24, 20))
    assert ahead and (found == expected).float().mean() > 0.999


def test_low_precision_logits_are_read_in_the_parameters_precision():
    ensemble, low = scrambled().float(), logits().bfloat16()
    reader = LearnedScores(ensemble)
    assert reader.prepare(low).dtype == torch.float32
    assert torch.equal(both(ensemble, low.float())[1], both(ensemble, low)[1])


def test_nothing_given_is_overwritten():
    ensemble, low = scrambled(), logits()
    reader = LearnedScores(ensemble)
    prepared = reader.prepare(low)
    before = low.clone(), prepared.clone()
    reader(prepared)
    assert torch.equal(low, before[0]) and torch.equal(prepared, before[1])


LOSSES = [*FORMS, {"inputs": "probabilities", "objective": "literal"}, {"objective": "literal", "bias": "shared"}]


@pytest.mark.parametrize("elements", [200, 1 << 18])
@pytest.mark.parametrize("form", LOSSES, ids=str)
def test_loss_is_that_of_the_maps(monkeypatch, form, elements):
    monkeypatch.setitem(bands.BAND_ELEMENTS, "cpu", elements)
    ensemble, low, upsampling = scrambled(**form), logits(), Upsampling((21, 17))
    target = torch.randint(0, C, (2, 21, 17), generator=torch.Generator().manual_seed(0))
    target[0, :5] = 255
    found = ensemble_loss(ensemble, low, target, upsampling)
    expected = ensemble.loss(torch.stack([upsampling(z) for z in low]), target)
    torch.testing.assert_close(found, expected)
    parameters = list(ensemble.parameters())
    torch.testing.assert_close(*(torch.autograd.grad(3 * v, parameters) for v in (found, expected)))
    nothing = ensemble_loss(ensemble, low, torch.full_like(target, 255), upsampling)
    assert nothing.item() == 0
    assert all((g == 0).all() for g in torch.autograd.grad(nothing, parameters))


def test_loss_of_any_ensemble_is_that_of_the_maps():
    class Scaled(TrainableEnsemble):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(0.7, dtype=torch.float64))

        def forward(self, logits, features=None):
            return (self.scale * logits).mean(dim=0).softmax(dim=1)

        def loss(self, logits, target, features=None, *, ignore_index=255):
            logs = self(logits).log()
            known = target != ignore_index
            chosen = logs.gather(1, target.where(known, 0).unsqueeze(1)).squeeze(1)
            return -chosen.where(known, 0).sum() / known.sum().clamp(min=1) + self.scale**2

    ensemble, low, upsampling = Scaled(), logits(), Upsampling((21, 17))
    target = torch.randint(0, C, (2, 21, 17), generator=torch.Generator().manual_seed(0))
    target[:, 9] = -1
    found = ensemble_loss(ensemble, low, target, upsampling, ignore_index=-1)
    expected = ensemble.loss(torch.stack([upsampling(z) for z in low]), target, ignore_index=-1)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(v, ensemble.scale) for v in (found, expected)))


def test_loss_in_closed_form_by_hand():
    # One expert, two classes, uniform: loss log 2; the gradient of the bias is a - δ, that of the weight times u = -log 2.
    ensemble = LearnedEnsemble(1, 2, outer="none")
    value = ensemble_loss(
        ensemble, torch.zeros(1, 1, 2, 1, 1), torch.zeros(1, 1, 1, dtype=torch.int64), Upsampling((1, 1))
    )
    value.backward()
    assert value.item() == pytest.approx(math.log(2))
    assert ensemble.bias.grad.tolist() == [pytest.approx([-0.5, 0.5])]
    slope = (math.e - 1) / math.e  # softplus'(ln(e - 1))
    expected = [0.5 * math.log(2) * slope, -0.5 * math.log(2) * slope]
    assert ensemble.raw_weight.grad.tolist() == [pytest.approx(expected)]


@pytest.mark.parametrize("spread", [30.0, 300.0])
def test_loss_with_parameters_far_from_zero(spread):
    ensemble, low, upsampling = scrambled().float(), logits(30).float(), Upsampling((21, 17))
    target = torch.randint(0, C, (2, 21, 17), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ensemble.bias.copy_(torch.linspace(-spread, spread, K * C).view(K, C))
        ensemble.raw_weight.copy_(torch.linspace(spread / 2, spread, K * C).view(K, C))
    found = ensemble_loss(ensemble, low, target, upsampling)
    expected = ensemble.loss(torch.stack([upsampling(z) for z in low]), target)
    torch.testing.assert_close(found, expected)
    for a, b in zip(*(torch.autograd.grad(v, ensemble.parameters()) for v in (found, expected)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
