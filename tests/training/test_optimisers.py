from dataclasses import replace

import pytest
import torch
from torch import nn

from longtail.errors import ConfigError
from longtail.training.config import OptimiserConfig
from longtail.training.optimisers import build_optimiser, build_schedule, count_parameters, parameter_groups


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.expert = nn.Sequential(nn.Conv2d(4, 4, 1), nn.LayerNorm(4))


def rates(config: OptimiserConfig, iterations: int, model: nn.Module | None = None) -> list[list[float]]:
    optimiser = build_optimiser(model or Model(), config)
    schedule = build_schedule(optimiser, config, iterations)
    seen = []
    for _ in range(iterations):
        seen.append([group["lr"] for group in optimiser.param_groups])
        optimiser.step()
        schedule.step()
    return seen


def test_sgd_recipe():
    groups = parameter_groups(Model(), OptimiserConfig())
    assert [(g["name"], g["lr"], g["weight_decay"]) for g in groups] == [("encoder", 0.01, 5e-4), ("head", 0.01, 5e-4)]
    assert build_optimiser(Model(), OptimiserConfig()).defaults["momentum"] == 0.9
    for step, (rate, _) in enumerate(rates(OptimiserConfig(), 10)):
        assert rate == pytest.approx(0.01 * (1 - step / 10) ** 0.9)


def test_adamw_recipe():
    groups = {g["name"]: g for g in parameter_groups(Model(), OptimiserConfig(name="adamw"))}
    assert {n: (g["lr"], g["weight_decay"]) for n, g in groups.items()} == {
        "encoder": (6e-5, 0.01),
        "encoder_norms": (6e-5, 0.0),
        "head": (pytest.approx(6e-4), 0.01),
        "head_norms": (pytest.approx(6e-4), 0.0),
    }
    seen = rates(OptimiserConfig(name="adamw", warmup_iterations=4), 12)
    assert [r[0] for r in seen[:5]] == pytest.approx([6e-11, 1.5e-5, 3e-5, 4.5e-5, 6e-5], rel=1e-4)
    assert seen[8][0] == pytest.approx(3e-5)  # power 1: half way down
    assert all(head == pytest.approx(10 * encoder) for encoder, _, head, _ in seen)


def test_the_decay_ends_at_min_lr_whatever_the_group():
    last = rates(OptimiserConfig(min_lr=1e-4, head_lr_factor=10), 1000)[-1]
    assert last == pytest.approx([1e-4, 1e-4], rel=2.5)
    optimiser = build_optimiser(Model(), OptimiserConfig(min_lr=1e-4, head_lr_factor=10))
    schedule = build_schedule(optimiser, OptimiserConfig(min_lr=1e-4, head_lr_factor=10), 5)
    for _ in range(5):
        optimiser.step()
        schedule.step()
    assert schedule.get_last_lr() == pytest.approx([1e-4, 1e-4])


def test_step_schedule_of_detection():
    config = OptimiserConfig(lr=0.02, schedule="step", steps=(16, 18), warmup_iterations=4, warmup_start=0.1)
    seen = [rate for rate, _ in rates(config, 20)]
    assert seen[:5] == pytest.approx([0.002, 0.0065, 0.011, 0.0155, 0.02])
    assert seen[5:] == pytest.approx([0.02] * 11 + [0.002] * 2 + [0.0002] * 2)
    assert [rate for rate, _ in rates(replace(config, steps=None), 20)] == seen  # 0.8 and 0.9 of the phase
    assert [rate for rate, _ in rates(replace(config, steps=(0.8, 0.9)), 20)] == seen
    for steps in ((5, 3), (0, 4), (0.5, 4)):
        with pytest.raises(ConfigError, match="steps"):
            OptimiserConfig(steps=steps)


def test_frozen_parameters_are_left_out_and_counted():
    model = Model()
    model.encoder.requires_grad_(False)
    assert [g["name"] for g in parameter_groups(model, OptimiserConfig())] == ["head"]
    assert count_parameters(model) == (52, 28)
    model.requires_grad_(False)
    with pytest.raises(ConfigError, match="trainable"):
        parameter_groups(model, OptimiserConfig())


def test_every_trainable_parameter_is_in_one_group():
    model = Model()
    ids = [id(p) for g in parameter_groups(model, OptimiserConfig(name="adamw")) for p in g["params"]]
    assert sorted(ids) == sorted(id(p) for p in model.parameters())
    assert torch.is_tensor(next(model.parameters()))
