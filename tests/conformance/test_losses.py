"""Every loss of the package keeps the contract of ``losses.base.ClassificationLoss``, for pixels and for boxes."""

import copy
import json

import numpy as np
import pytest
import torch

from longtail.errors import ConfigError
from longtail.frequency import ClassFrequency
from longtail.losses.base import ClassificationLoss
from longtail.losses.build import LOSSES, build_loss
from longtail.losses.label_space import LabelSpace
from support.packages import concrete_subclasses

C = 5
FREQUENCY = ClassFrequency(
    tuple("abcde"),
    images=np.array([90, 20, 5, 80, 1]),
    pixels=np.array([50_000, 600, 40, 40_000, 0]),
    instances=np.array([2_000, 60, 5, 430, 0]),
    num_images=100,
)
#: Those that need the background that every box may be.
BOXES_ONLY = {"balanced_group_softmax", "federated"}
#: Made of other losses by what trains with them, not from settings.
COMPOSED = {"longtail.detection.two_heads:TwoHeadsLoss"}
#: Factors that pass no gradient: numerical differences see them.
DETACHED = {"seesaw", "equalization_v2"}
#: Every loss as it comes, and settings that take another way through the code.
SPECS = [
    *LOSSES.names(),
    {"name": "focal", "kind": "softmax", "gamma": 0.5},
    {"name": "focal", "kind": "sigmoid", "gamma": 0.5, "alpha": None},
    {"name": "class_balanced", "loss": {"name": "focal", "gamma": 1.0}, "beta": 0.9},
    {"name": "ldam", "defer": 0.0},
    {"name": "balanced_softmax", "counts": "seen"},
    {"name": "blv", "signed": True, "limit": None, "reference": "all"},
    {"name": "cross_entropy", "normalizer": "all"},
]


def name_of(spec) -> str:
    return spec if isinstance(spec, str) else spec["name"]


def build(spec, task: str) -> ClassificationLoss:
    return build_loss(spec, LabelSpace.of_boxes(FREQUENCY) if task == "boxes" else LabelSpace.of_pixels(FREQUENCY))


def batch(loss: ClassificationLoss, task: str, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (2, 3, 2) if task == "pixels" else (12,)
    logits = 2 * torch.randn(shape[0], loss.num_logits, *shape[1:], generator=generator)
    target = torch.randint(0, loss.num_classes, shape, generator=generator)
    target.view(-1)[::5] = loss.ignore_index
    target.view(-1)[1 : 1 + loss.num_classes] = torch.arange(loss.num_classes)  # every class occurs
    return logits, target


def value(loss: ClassificationLoss, *inputs) -> torch.Tensor:
    """The next value of a loss, which stays as it is: of the same state and the same draws every time."""
    torch.manual_seed(3)
    return copy.deepcopy(loss)(*inputs)


CASES = [
    pytest.param(spec, task, id=f"{json.dumps(spec)}-{task}")
    for spec in SPECS
    for task in ("pixels", "boxes")
    if not (task == "pixels" and name_of(spec) in BOXES_ONLY)
]
contract = pytest.mark.parametrize(("spec", "task"), CASES)


def test_every_loss_has_a_name():
    classes = set(concrete_subclasses(ClassificationLoss, "longtail.losses"))
    assert {LOSSES.find(name) for name in LOSSES.names()} == classes


@pytest.mark.parametrize("name", sorted(BOXES_ONLY))
def test_losses_of_boxes_refuse_pixels(name):
    with pytest.raises(ConfigError, match="for boxes"):
        build(name, "pixels")


@contract
def test_scalar_finite_and_of_the_labelled_alone(spec, task):
    loss = build(spec, task)
    assert loss.num_classes == C + (task == "boxes")
    logits, target = batch(loss, task)
    for scale in (1, 0, 1000):  # of ±100
        logits = (100 * logits.sign() if scale == 1000 else scale * logits).requires_grad_()
        found = value(loss, logits, target)
        assert found.shape == () and found.dtype == torch.float32 and torch.isfinite(found)
        assert found >= 0
        (gradient,) = torch.autograd.grad(found, logits)
        assert torch.isfinite(gradient).all()
        ignored = (target == loss.ignore_index).unsqueeze(1).expand_as(gradient)
        assert (gradient[ignored] == 0).all()


@contract
@pytest.mark.parametrize("training", [True, False])
def test_nothing_labelled_costs_exactly_nothing(spec, task, training):
    loss = build(spec, task).train(training)
    logits, target = batch(loss, task)
    cases = [(logits, torch.full_like(target, loss.ignore_index))]
    if task == "boxes":
        cases.append((logits[:0], target[:0]))
    for empty, labels in cases:
        empty = empty.clone().requires_grad_()
        found = loss(empty, labels)
        assert found.item() == 0
        found.backward()
        assert (empty.grad == 0).all()


@contract
def test_position_weights_scale_shares_and_nothing_else(spec, task):
    loss = build(spec, task)
    logits, target = batch(loss, task)
    plain = value(loss, logits, target)
    torch.testing.assert_close(value(loss, logits, target, torch.ones(target.shape)), plain)
    assert value(loss, logits, target, torch.zeros(target.shape)).item() == 0
    some, other = torch.rand(target.shape), torch.rand(target.shape)
    both = value(loss, logits, target, some) + value(loss, logits, target, other)
    torch.testing.assert_close(value(loss, logits, target, some + other), both)


@contract
def test_probabilities(spec, task):
    loss = build(spec, task)
    logits, _ = batch(loss, task)
    for some in (logits, 100 * logits.sign(), torch.zeros_like(logits), logits[:0]):
        read = loss.probabilities(some)
        assert read.shape == (len(some), loss.num_classes, *logits.shape[2:])
        assert torch.isfinite(read).all() and (read >= 0).all() and (read <= 1 + 1e-6).all()


@contract
def test_probabilities_find_what_was_learnt(spec, task):
    loss = build(spec, task)
    logits, target = batch(loss, task)
    logits = torch.zeros_like(logits).requires_grad_()
    optimizer = torch.optim.Adam([logits], 0.5)
    torch.manual_seed(0)
    for _ in range(60):
        optimizer.zero_grad()
        loss(logits, target).backward()
        optimizer.step()
    labelled = target != loss.ignore_index
    assert (loss.probabilities(logits).argmax(dim=1) == target)[labelled].all()


@contract
def test_half_precision_is_computed_in_single(spec, task):
    loss = build(spec, task)
    logits, target = batch(loss, task)
    for dtype in (torch.float16, torch.bfloat16):
        for some in (logits.to(dtype), (100 * logits.sign()).to(dtype)):
            found = value(loss, some, target)
            assert found.dtype == torch.float32
            torch.testing.assert_close(found, value(loss, some.float(), target))


@contract
def test_gradients(spec, task):
    if name_of(spec) in DETACHED:
        pytest.skip("factors of this loss pass no gradient: its own test has them fixed")
    loss = build(spec, task).double()
    logits, target = batch(loss, task)
    weight = torch.rand(target.shape).double()
    some = logits.double().requires_grad_()
    assert value(loss, some, target).dtype == torch.float64
    assert torch.autograd.gradcheck(lambda x: value(loss, x, target, weight), some)


@contract
def test_state_survives_saving(spec, task):
    loss, other = build(spec, task), build(spec, task)
    torch.manual_seed(1)
    for seed in range(3):
        logits, target = batch(loss, task, seed)
        loss(logits.requires_grad_(), target).backward()
    other.load_state_dict(loss.state_dict())
    logits, target = batch(loss, task, 9)
    assert torch.equal(value(other, logits, target), value(loss, logits, target))
    loss.eval(), other.eval()
    before = {name: state.clone() for name, state in loss.state_dict().items()}
    loss(logits, target)
    assert all(torch.equal(state, before[name]) for name, state in loss.state_dict().items())


@contract
def test_initial_bias_has_one_value_a_logit(spec, task):
    loss = build(spec, task)
    assert loss.initial_bias is None or loss.initial_bias.shape == (loss.num_logits,)
