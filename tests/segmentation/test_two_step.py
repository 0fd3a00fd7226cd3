"""A baseline whose classifier is trained anew on finished features."""

import pytest
import torch

from longtail.errors import ConfigError
from longtail.models.segmentation_methods import build_method
from longtail.segmentation.two_step import TwoStep
from support.tiny_segmentation import FREQUENCY, GROUPS, batch, tiny_model


def build(classifier_phase, **options):
    torch.manual_seed(0)
    return build_method(
        "baseline", tiny_model(), frequency=FREQUENCY, groups=GROUPS, classifier_phase=classifier_phase, **options
    )


def step(method, image, target):
    trained = [p for p in method.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(trained, lr=0.5)
    loss = sum(method.losses(image, target).values())
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item()


def test_without_it_nothing_changes():
    assert not isinstance(build(None), TwoStep)
    first, plain = build({}), build(None)
    first.start_phase("train")
    image, target = batch()
    torch.manual_seed(1)
    mine = first.losses(image, target)
    torch.manual_seed(1)
    assert mine == plain.losses(image, target)
    first.eval(), plain.eval()
    assert torch.equal(first(image), plain(image))


def test_the_second_phase_moves_the_second_head_alone():
    method = build({"loss": "balanced_softmax"})
    image, target = batch()
    method.start_phase("train")
    method.train()
    step(method, image, target)
    method.start_phase("classifier")
    method.train()
    before = {name: value.clone() for name, value in method.state_dict().items()}
    # begins with the trained head, whatever it was before
    assert torch.equal(before["second_head.weight"], before["model.expert.head.weight"])
    losses = [step(method, image, target) for _ in range(4)]
    assert losses[-1] < losses[0]
    moved = {name for name, value in method.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"second_head.weight", "second_head.bias"}


def test_each_phase_reads_its_own_head():
    method = build({"loss": {"name": "focal", "kind": "sigmoid"}}).eval()
    image = batch()[0]
    with torch.no_grad():
        method.start_phase("classifier")
        method.second_head.bias.add_(torch.arange(5.0))
        second = method(image)
        method.start_phase("train")
        first = method(image)
    assert torch.equal(first, method.loss.probabilities(method.model(image)))
    assert not torch.equal(first, second)
    assert torch.equal(method.expert_maps(image).logits[0], method.model(image))


def test_a_saved_model_is_read_by_its_second_head():
    method = build({}).eval()
    method.start_phase("classifier")
    torch.nn.init.normal_(method.second_head.weight)
    again = build({}).eval()
    again.load_state_dict(method.state_dict())
    image = batch()[0]
    assert torch.equal(again(image), method(image)) and torch.equal(again.labels(image), method.labels(image))


def test_reset():
    fresh = build({"reset": True})
    fresh.start_phase("classifier")
    assert not torch.equal(fresh.second_head.weight, fresh.model.expert.head.weight)


def test_what_was_frozen_stays_frozen_in_the_first_phase():
    model = tiny_model()
    model.encoder.requires_grad_(False)
    method = build_method("baseline", model, frequency=FREQUENCY, groups=GROUPS, classifier_phase={})
    method.start_phase("classifier")
    method.start_phase("train")
    assert not any(p.requires_grad for p in method.model.encoder.parameters())
    assert all(p.requires_grad for p in method.model.expert.parameters())


def test_unknown_settings_are_refused():
    with pytest.raises(ConfigError, match="sample"):
        build({"sample": "class_aware"})
