"""MEDOE begins with a finished baseline: expert 1 is its decoder, and frozen parts stay as they are."""

import copy

import pytest
import torch
from torch import nn

from longtail.errors import CheckpointError, ConfigError
from longtail.models.adopt import adopt, match
from longtail.models.segmentation_methods import build_method
from support.tiny_segmentation import FREQUENCY, GROUPS, batch, tiny_model


def method(name, seed=0, auxiliary_head=False, **options):
    model = tiny_model(seed, auxiliary=True, auxiliary_head=auxiliary_head)
    return build_method(name, model, frequency=FREQUENCY, groups=GROUPS, **options)


def everything(other):
    return [name for name, _ in other.named_parameters()]


@pytest.fixture
def trained():
    """A baseline with batch statistics and weights that no other model has."""
    baseline = method("baseline", seed=7, auxiliary_head=True).train()
    optimiser = torch.optim.SGD(baseline.parameters(), 0.1)
    for step in range(3):
        optimiser.zero_grad()
        sum(baseline.losses(*batch(seed=step)).values()).backward()
        optimiser.step()
    return baseline.eval()


@pytest.mark.parametrize("name", ["medoe", "mcn"])
def test_every_expert_is_the_decoder_of_the_baseline(trained, name):
    other = method(name, auxiliary_head=True)
    found = adopt(other, trained.state_dict(), "run", everything(other))
    image = batch(seed=9)[0]
    maps = other.eval().expert_maps(image).logits
    expected = trained.logits(image)
    assert len(maps) == GROUPS.num_groups
    for own in maps:
        assert torch.equal(own, expected)
    read = other.readouts()["expert_1"](other.expert_maps(image), None)
    assert torch.equal(read, trained.labels(image))
    assert not found.unused and {name.partition(".")[0] for name in found.anew} == {"ensemble"}


def test_reset_experts_begin_anew(trained):
    other = method("medoe", auxiliary_head=True, initialise="reset")
    before = copy.deepcopy(other.experts.experts[1].state_dict())
    found = adopt(other, trained.state_dict(), "run", everything(other))
    assert all(torch.equal(before[k], v) for k, v in other.experts.experts[1].state_dict().items())
    assert any(row[0] == "experts.experts.1" and row[2] == "made anew" for row in found.rows())


def test_a_plain_network_and_the_way_back(trained):
    other = method("medoe", auxiliary_head=True)
    adopt(other, trained.model.state_dict(), "file", everything(other))
    again = method("baseline", seed=3, auxiliary_head=True)
    found = adopt(again, other.state_dict(), "medoe")
    image = batch(seed=9)[0]
    assert torch.equal(again.eval().logits(image), trained.logits(image))
    assert any("experts.experts.1" in name for name in found.unused)


def test_members_of_a_model_ensemble_begin_with_the_baseline(trained):
    other = method("model_ensemble", auxiliary_head=True, members=2)
    adopt(other, trained.state_dict(), "run")
    image = batch(seed=9)[0]
    for own in other.eval().expert_maps(image).logits:
        assert torch.equal(own, trained.logits(image))


def test_what_was_loaded_is_told_by_module(trained):
    other = method("medoe")  # without the auxiliary head
    rows = {(module, origin): count for module, count, origin in match(other, trained.state_dict()).rows()}
    parts = trained.model
    assert rows[("encoder", "from model.encoder")] == len(parts.encoder.state_dict())
    for index in range(GROUPS.num_groups):
        assert rows[(f"experts.experts.{index}", "from model.expert")] == len(parts.expert.state_dict())
    assert rows[("ensemble", "made anew")] == 2
    assert ("model", "of the source, not used") in rows
    assert sum(count for (_, origin), count in rows.items() if origin.startswith("from")) + 2 == len(other.state_dict())


def test_weights_that_have_nothing_in_common_are_refused(trained):
    with pytest.raises(CheckpointError, match="none of 2 tensors is of this model"):
        adopt(nn.Linear(2, 2), {"backbone.weight": torch.zeros(2), "rpn.bias": torch.zeros(2)}, "a detector")


def test_another_network_is_refused(trained):
    weights = {k: v for k, v in trained.state_dict().items() if "encoder.second" not in k}
    other = method("medoe")
    other.freeze("encoder")
    with pytest.raises(CheckpointError, match=r"tensors are missing, encoder\.second"):
        adopt(other, weights, "run")
    weights = trained.state_dict() | {"model.encoder.first.0.weight": torch.zeros(3, 3, 3, 3)}
    with pytest.raises(CheckpointError, match=r"model\.encoder\.first\.0\.weight is \[3, 3, 3, 3\], the model needs"):
        adopt(other, weights, "run", everything(other))


@pytest.mark.parametrize("name", ["medoe", "mcn"])
@pytest.mark.parametrize("part", ["encoder", "encoder+expert_1"])
def test_frozen_is_frozen(trained, name, part):
    other = method(name, auxiliary_head=True)
    adopt(other, trained.state_dict(), "run", everything(other))
    other.freeze(part)
    other.start_phase("experts")
    inside = tuple(f"{name}." for name in other.frozen)
    before = {k: v.clone() for k, v in other.state_dict().items()}
    other.train()
    optimiser = torch.optim.AdamW([p for p in other.parameters() if p.requires_grad], 0.1, weight_decay=0.5)
    for step in range(2):
        terms = other.losses(*batch(seed=step))
        assert ("expert_1.ce" in terms) == (part == "encoder") and "auxiliary" not in terms
        optimiser.zero_grad()
        sum(terms.values()).backward()
        optimiser.step()
    changed = {k for k, v in other.state_dict().items() if not torch.equal(v, before[k])}
    assert not [k for k in changed if k.startswith(inside)]
    assert [k for k in changed if k.startswith("experts.")]
    if part == "encoder+expert_1":
        image = batch(seed=9)[0]
        assert torch.equal(other.eval().expert_maps(image).logits[0], trained.logits(image))


def test_features_give_the_losses_of_images(trained):
    other = method("medoe")
    adopt(other, trained.state_dict(), "run", everything(other))
    other.freeze("encoder")
    other.train()
    image, target = batch()
    with torch.no_grad():
        features = other.encoder(image)
    torch.manual_seed(4)
    expected = other.losses(image, target)
    torch.manual_seed(4)
    found = other.losses(features, target)
    assert expected.keys() == found.keys() and all(torch.equal(expected[k], found[k]) for k in found)


def test_what_cannot_be_frozen():
    with pytest.raises(ConfigError, match=r"Baseline cannot freeze 'encoder\+expert_1'"):
        method("baseline").freeze("encoder+expert_1")
    with pytest.raises(ConfigError, match="ModelEnsemble cannot freeze"):
        method("model_ensemble").freeze("encoder")


def test_only_what_is_trained_may_be_missing():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    weights = {k: torch.ones_like(v) for k, v in model[0].state_dict(prefix="0.").items()}
    with pytest.raises(CheckpointError, match=r"2 tensors are missing, 1\.weight first"):
        adopt(model.requires_grad_(False), weights, "run")
    model[1].requires_grad_(True)
    found = adopt(model, {**weights, "ensemble.of.another": torch.ones(1)}, "run")
    assert model[0].weight.eq(1).all() and found.anew == ("1.weight", "1.bias")
