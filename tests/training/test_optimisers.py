from dataclasses import replace

import pytest
import torch
from torch import nn

from longtail.errors import ConfigError
from longtail.training.config import OptimiserConfig
from longtail.training.optimisers import (
    build_optimiser,
    build_schedule,
    count_parameters,
    layers_below_the_head,
    parameter_groups,
)


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


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.mlp = nn.Linear(8, 8), nn.Sequential(nn.Linear(8, 32), nn.Linear(32, 8))


class Transformer(nn.Module):
    """Names of a vision transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, 8, 4)
        self.blocks = nn.ModuleList([Block() for _ in range(3)])
        self.norm = nn.LayerNorm(8)


class Staged(nn.Module):
    """Names of SegFormer: stages of blocks, embeddings and norms in lists of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embeddings = nn.ModuleList([nn.Conv2d(3, 8, 4), nn.Conv2d(8, 8, 2)])
        self.block = nn.ModuleList([nn.ModuleList([Block(), Block()]), nn.ModuleList([Block()])])
        self.layer_norm = nn.ModuleList([nn.LayerNorm(8), nn.LayerNorm(8)])


def with_encoder(encoder: nn.Module) -> nn.Module:
    return nn.ModuleDict({"encoder": encoder, "head": nn.Linear(8, 2)})


def test_layers_of_a_transformer():
    below = layers_below_the_head(with_encoder(Transformer()))
    assert below["encoder.patch_embed.weight"] == 4
    assert [below[f"encoder.blocks.{i}.mlp.0.weight"] for i in range(3)] == [3, 2, 1]
    assert below["encoder.norm.weight"] == 0 and not any(name.startswith("head") for name in below)


def test_layers_of_stages():
    below = layers_below_the_head(with_encoder(Staged()))
    blocks = [below[f"encoder.block.{i}.attention.bias"] for i in ("0.0", "0.1", "1.0")]
    assert blocks == [3, 2, 1]
    assert below["encoder.patch_embeddings.0.weight"] == 3 and below["encoder.patch_embeddings.1.weight"] == 1
    assert below["encoder.layer_norm.0.weight"] == 3 and below["encoder.layer_norm.1.weight"] == 1


def test_layer_decay_scales_the_learning_rates():
    model = with_encoder(Transformer())
    config = OptimiserConfig("adamw", lr=1.0, layer_decay=0.5, head_lr_factor=10.0)
    groups = parameter_groups(model, config)
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    named = {name: rates[id(p)] for name, p in model.named_parameters()}
    assert named["encoder.patch_embed.weight"] == 0.5**4 and named["encoder.blocks.2.attention.weight"] == 0.5
    assert named["encoder.norm.weight"] == 1.0 and named["head.weight"] == 10.0
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert decays[id(model["encoder"].norm.weight)] == 0.0  # adamw's norms
    schedule = build_schedule(build_optimiser(model, config), config, 10)
    assert len(schedule.get_last_lr()) == len(groups)


def test_an_encoder_without_blocks_has_no_layer_decay():
    with pytest.raises(ConfigError, match="is not made of blocks"):
        parameter_groups(with_encoder(nn.Conv2d(3, 8, 3)), OptimiserConfig(layer_decay=0.9))


def test_layers_of_encoders_of_this_library():
    timm = pytest.importorskip("timm")
    vit = timm.create_model("vit_tiny_patch16_224", num_classes=0)
    below = layers_below_the_head(with_encoder(vit))
    assert below["encoder.cls_token"] == 13 and below["encoder.blocks.11.attn.qkv.weight"] == 1
    swin = timm.create_model("swin_tiny_patch4_window7_224", num_classes=0)
    assert len(set(layers_below_the_head(with_encoder(swin)).values())) >= 13
