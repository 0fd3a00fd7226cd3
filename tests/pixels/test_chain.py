"""Labels of the nested chain without its probabilities."""

import pytest
import torch

from longtail.ensembles.nested_chain import NestedChain
from longtail.pixels import Upsampling, ensemble_labels

GROUP_OF = [0, 1, 2, 0, 2, 1]
SETS = torch.tensor([[group >= expert for group in GROUP_OF] for expert in range(3)])
SHARE = torch.tensor([0.5, 0.08, 0.01, 0.38, 0.005, 0.025])


@pytest.mark.parametrize("tau", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("scale", [1.0, 5.0, 60.0])
@pytest.mark.parametrize("upsampling", [Upsampling((30, 41)), Upsampling((30, 41), 8), Upsampling((7, 9))])
def test_labels_are_those_of_the_probabilities(tau, scale, upsampling):
    logits = torch.randn(3, 2, 6, 7, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * scale
    chain = NestedChain(SETS, SHARE, tau).double()
    probabilities = chain(torch.stack([upsampling(own) for own in logits]))
    found = ensemble_labels(chain, logits, upsampling)
    differs = found != probabilities.argmax(dim=1)
    best = probabilities.amax(dim=1)
    chosen = probabilities.gather(1, found.unsqueeze(1)).squeeze(1)
    assert not (differs & (best - chosen > 1e-9)).any()
    assert found.unique().numel() > 3


def test_neighbours_that_contradict_each_other():
    """Between positions of opposite logits of ±100 the interpolated ones are far below every largest one."""
    logits = torch.full((2, 1, 3, 1, 2), -100.0)
    logits[:, :, 0, :, 0] = logits[:, :, 1, :, 1] = 100.0
    sets = torch.tensor([[True, True, True], [False, True, True]])
    chain, upsampling = NestedChain(sets, torch.tensor([0.9, 0.09, 0.01])), Upsampling((1, 5))
    expected = chain(torch.stack([upsampling(own) for own in logits])).argmax(dim=1)
    assert torch.equal(ensemble_labels(chain, logits, upsampling), expected)
