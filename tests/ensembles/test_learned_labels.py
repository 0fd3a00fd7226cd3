"""Labels of a learned ensemble against its definition."""

import pytest
import torch

from longtail.ensembles.learned import LearnedEnsemble
from longtail.ensembles.learned_labels import LearnedLabels
from longtail.pixels.upsampling import Upsampling

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

    def up(maps: torch.Tensor) -> torch.Tensor:
        return torch.stack([upsampling(z) for z in maps])

    reader = LearnedLabels(ensemble)
    prepared = up(reader.prepare(low))
    found = torch.stack([reader.of_piece(prepared[:, i].flatten(2)) for i in range(low.shape[1])])
    with torch.no_grad():
        return reader.ahead, found, ensemble(up(low)).argmax(dim=1).flatten(1)


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
        z = torch.tensor([[0.9, 0.1], [1 - second, second]], dtype=torch.float64).log().view(2, 1, 2, 1)
        reader = LearnedLabels(ensemble)
        assert reader.ahead and reader.of_piece(reader.prepare(z)[:, 0]).tolist() == [chosen]
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
    reader = LearnedLabels(ensemble)
    assert reader.prepare(low).dtype == torch.float32
    assert torch.equal(both(ensemble, low.float())[1], both(ensemble, low)[1])


def test_nothing_given_is_overwritten():
    ensemble, low = scrambled(), logits()
    reader = LearnedLabels(ensemble)
    prepared = reader.prepare(low)[:, 0].flatten(2)
    before = low.clone(), prepared.clone()
    reader.of_piece(prepared)
    assert torch.equal(low, before[0]) and torch.equal(prepared, before[1])
