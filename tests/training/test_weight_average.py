"""Running mean of the weights."""

import pytest
import torch
from torch import nn

from longtail.training.checkpoints import read_state
from longtail.training.config import OptimiserConfig
from longtail.training.run import fit
from longtail.training.weight_average import WeightAverage
from support.toy_run import ToyTask, toy_config


def test_a_mean_by_hand():
    layer = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        layer.weight.fill_(1.0)
    mean = WeightAverage(layer, 0.9)
    mean.update(layer)  # the first mean is the weights themselves
    with torch.no_grad():
        layer.weight.fill_(3.0)
    mean.update(layer)
    with mean.swapped(layer):
        assert layer.weight.item() == pytest.approx(0.9 * 1 + 0.1 * 3)
    assert layer.weight.item() == 3.0


def test_frozen_weights_are_left_alone():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    mean = WeightAverage(model, 0.5)
    before = model[0].weight.clone()
    with mean.swapped(model):
        assert torch.equal(model[0].weight, before)


def config(**changes):
    return toy_config(optimiser=OptimiserConfig(lr=0.05, ema_decay=0.8), **changes)


class Seen(ToyTask):
    """Keeps the weights that validation sees."""

    def validate(self, device):
        self.seen = self.method.head.weight.detach().clone()
        return super().validate(device)


def test_the_mean_is_validated_kept_and_goes_on(tmp_path):
    task = Seen()
    weights = []
    update = WeightAverage.update

    class Recorded(WeightAverage):
        def update(self, method):
            weights.append(method.head.weight.detach().clone())
            update(self, method)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("longtail.training.loop.WeightAverage", Recorded)
        run = fit(config(iterations={"experts": 15, "ensemble": 1}), tmp_path / "run", task=task, quiet=True)
    mean = weights[0]
    for own in weights[1:15]:
        mean = 0.8 * mean + 0.2 * own
    torch.testing.assert_close(task.seen, mean)
    torch.testing.assert_close(task.method.head.weight.detach(), mean)  # the next phase began with it
    torch.testing.assert_close(read_state(run.last)["method"]["head.weight"], mean)


def test_a_run_with_a_mean_resumes_to_the_same_weights(tmp_path):
    whole = fit(config(), tmp_path / "whole", task=ToyTask(), quiet=True)

    class Killed(ToyTask):
        def inputs(self, batch):
            self.steps = getattr(self, "steps", 0) + 1
            if self.steps == 18:
                raise KeyboardInterrupt
            return super().inputs(batch)

    with pytest.raises(KeyboardInterrupt):
        fit(config(), tmp_path / "cut", task=Killed(), quiet=True)
    cut = fit(config(), tmp_path / "cut", task=ToyTask(), resume=True, quiet=True)
    one, other = read_state(whole.last)["method"], read_state(cut.last)["method"]
    assert all(torch.equal(one[name], other[name]) for name in one)
