"""Every ensemble of the package keeps the contract of ``ensembles.base.Ensemble``."""

import pytest
import torch

from longtail.ensembles.argmax import MostConfident
from longtail.ensembles.average import Average
from longtail.ensembles.base import Ensemble, TrainableEnsemble
from longtail.ensembles.build import ENSEMBLES, Experts, build_ensemble, check_reading
from longtail.ensembles.calibration import Calibrated, LogitNormalized
from longtail.ensembles.dynamic import DynamicEnsemble
from longtail.ensembles.group_average import GroupAverage
from longtail.ensembles.learned import LearnedEnsemble
from longtail.ensembles.nested_chain import NestedChain
from longtail.ensembles.softmax_threshold import SoftmaxThreshold
from longtail.ensembles.sparse import SparseEnsemble
from longtail.frequency import CategoryGroups
from support.labels import counted
from support.packages import concrete_subclasses

K, C = 3, 6
GROUPS = CategoryGroups.explicit({"rare": [0, 3], "common": [1, 4], "frequent": [2]})  # class 5 is background
FREQUENCY = counted(C - 1, images=[9, 8, 7, 6, 5], pixels=[9, 8, 7, 6, 5], instances=[9, 8, 7, 6, 5])
PIXEL_GROUPS = torch.tensor([[1, 0, 0, 1, 0, 0], [0, 1, 0, 0, 1, 0], [0, 0, 1, 0, 0, 1]]).bool()
NESTED = torch.stack([torch.ones(6).bool(), PIXEL_GROUPS[1] | PIXEL_GROUPS[2], PIXEL_GROUPS[2]])


def normalized() -> LogitNormalized:
    ensemble = LogitNormalized(Average(), K, C - 1)
    ensemble.observe(torch.randn(K, 20, C))
    return ensemble


#: One example of every ensemble.
EXAMPLES = {
    Calibrated: lambda: Calibrated(Average(), torch.tensor([50.0, 9.0, 1.0, 2.0, 7.0])),
    DynamicEnsemble: lambda: DynamicEnsemble(GROUPS),
    GroupAverage: lambda: GroupAverage(NESTED),
    LogitNormalized: normalized,
    LearnedEnsemble: lambda: LearnedEnsemble(K, C),
    MostConfident: MostConfident,
    NestedChain: lambda: NestedChain(NESTED, torch.arange(1.0, 7.0), tau=0.3),
    SoftmaxThreshold: lambda: SoftmaxThreshold(PIXEL_GROUPS),
    SparseEnsemble: lambda: SparseEnsemble(GROUPS),
    Average: Average,
}
FOUND = concrete_subclasses(Ensemble, "longtail.ensembles")
CASES = [(kind, grid) for kind in FOUND for grid in ((), (4, 6))]


def test_every_ensemble_has_an_example():
    assert set(FOUND) == set(EXAMPLES)


#: Recordings are of detectors; label sets of the other paper need not be nested.
STAGES = Experts(K, C, GROUPS, NESTED, PIXEL_GROUPS, torch.ones(C) / C, frequency=FREQUENCY)


@pytest.mark.parametrize("name", [name for name in ENSEMBLES.names() if name != "logn"])
@pytest.mark.parametrize("grid", [(), (4, 6)], ids=["boxes", "pixels"])
def test_every_ensemble_by_name(name, grid):
    check_reading({name: build_ensemble(name, STAGES)}, torch.randn(K, 1, C, *grid), C)


@pytest.mark.parametrize(("kind", "grid"), CASES, ids=lambda v: v.__name__ if isinstance(v, type) else str(v))
def test_contract(kind, grid):
    ensemble = EXAMPLES[kind]().eval()
    for logits in (torch.randn(K, 2, C, *grid), 100 * torch.randn(K, 2, C, *grid).sign(), torch.zeros(K, 2, C, *grid)):
        scores = ensemble(logits)
        assert scores.shape == (2, C, *grid)
        assert torch.isfinite(scores).all()
        assert (scores >= 0).all()
        torch.testing.assert_close(scores.sum(dim=1), torch.ones(2, *grid))
        assert torch.isfinite(ensemble.scores(logits)).all()
    logits = torch.randn(K, 2, C, *grid, dtype=torch.float64)
    assert torch.equal(ensemble.double().scores(logits).argmax(dim=1), ensemble(logits).argmax(dim=1))
    alone = torch.cat([ensemble.double()(logits[:, i : i + 1]) for i in range(2)])
    torch.testing.assert_close(alone, ensemble(logits))


@pytest.mark.parametrize("kind", [k for k in FOUND if issubclass(k, TrainableEnsemble)], ids=lambda k: k.__name__)
def test_trainable_ensembles_learn_and_ignore(kind):
    ensemble = EXAMPLES[kind]()
    logits, target = torch.randn(K, 2, C, 4, 6), torch.randint(0, C, (2, 4, 6))
    target[0, 0] = 255
    optimizer = torch.optim.SGD(ensemble.parameters(), 0.1)
    values = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = ensemble.loss(logits, target)
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < values[0]
    assert ensemble.loss(logits, torch.full_like(target, 255)).item() == 0
