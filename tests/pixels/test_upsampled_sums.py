import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from longtail.errors import ConfigError
from longtail.pixels import upsampled_blocks
from longtail.pixels import upsampled_sums as module
from longtail.pixels.upsampled_sums import Wanted, upsampled_sums
from longtail.pixels.upsampling import Upsampling

CLASSES = 6
SOME = (1, 2, 5)
READINGS = [
    Wanted(members, CLASSES, 255, softmax, divergence, divergence_softmax, penalty, pixels)
    for members in (tuple(range(CLASSES)), SOME)
    for softmax, divergence_softmax in itertools.product(("all", "set"), ("all", "set"))
    for divergence in (None, "batch", "pixel")
    for penalty, pixels in ((None, "labelled"), ("square", "labelled"), ("absolute", "expert"))
    if len(members) < CLASSES or (softmax == divergence_softmax == "all" and penalty is None)
]


def stock(logits, target, upsampling, wanted, weight=None, log_prior=None):
    """The same sums in stock calls over the whole map."""
    z = upsampling(logits)
    members = list(wanted.members)
    outside = [c for c in range(wanted.num_classes) if c not in wanted.members]
    own = torch.isin(target, torch.tensor(members))

    def log_softmax(scope):
        if scope == "all":
            return z.log_softmax(1)
        return torch.full_like(z, -torch.inf).index_copy(1, torch.tensor(members), z[:, members].log_softmax(1))

    each = F.nll_loss(log_softmax(wanted.softmax), target.where(own, -1), ignore_index=-1, reduction="none")
    logs = log_softmax(wanted.divergence_softmax)[:, members]
    divergence, probabilities = z.new_zeros(()), z.new_zeros(wanted.num_classes)
    if wanted.divergence == "batch":
        summed = (logs.exp() * own[:, None]).sum((0, 2, 3))
        probabilities = probabilities.index_copy(0, torch.tensor(members), summed)
    elif wanted.divergence == "pixel":
        divergence = ((logs.exp() * (logs - log_prior.view(1, -1, 1, 1))).sum(1) * own).sum()
    pixels = own if wanted.penalty_pixels == "expert" else target != wanted.ignore_index
    penalties = z.new_zeros(wanted.num_classes)
    if wanted.penalty and outside:
        size = z[:, outside].square() if wanted.penalty == "square" else z[:, outside].abs()
        penalties = penalties.index_copy(0, torch.tensor(outside), (size * pixels[:, None]).sum((0, 2, 3)))
    ce = (each * (1 if weight is None else weight)).sum()
    return module.Sums(ce, divergence, probabilities, penalties)


def random_case(low=(4, 5), size=(13, 18), seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, CLASSES, *low, generator=generator, dtype=dtype) * 3
    target = torch.randint(0, CLASSES, (2, *size), generator=generator)
    target[:, :2] = 255
    weight = torch.rand(2, *size, generator=generator, dtype=dtype)
    log_prior = torch.rand(CLASSES, generator=generator, dtype=dtype).log_softmax(0)
    return logits.requires_grad_(), target, weight, log_prior


def combined(sums: module.Sums):
    """A function of every sum, with a different factor for each."""
    factors = torch.linspace(0.5, 2, CLASSES, dtype=sums.penalties.dtype)
    mean = sums.probabilities / 50
    return (
        0.3 * sums.cross_entropy
        + 0.7 * sums.divergence
        + (mean * (mean + 1e-9).log() * factors).sum()
        + (sums.penalties * factors).sum()
    )


@pytest.mark.parametrize("few", [0.0, 0.4, 2.0])
@pytest.mark.parametrize("wanted", READINGS, ids=str)
def test_values_and_gradients_are_those_of_the_whole_map(monkeypatch, wanted, few):
    monkeypatch.setattr(module, "_FEW", few)  # never, sometimes and always pick pixels out
    monkeypatch.setitem(upsampled_blocks._BLOCK, "cpu", 300)
    logits, target, weight, log_prior = random_case()
    log_prior = log_prior[list(wanted.members)]
    upsampling = Upsampling((13, 18), divisor=4)
    found = upsampled_sums(logits, target, upsampling, wanted, weight=weight, log_prior=log_prior)
    expected = stock(logits, target, upsampling, wanted, weight, log_prior)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
    gradients = [torch.autograd.grad(combined(s), logits)[0] for s in (found, expected)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(
    ("low", "size"), [((3, 4), (12, 16)), ((3, 4), (10, 17)), ((6, 5), (6, 5)), ((6, 5), (4, 3)), ((1, 2), (3, 3))]
)
def test_every_scale(low, size, align_corners):
    logits, target, _, _ = random_case(low, size)
    wanted = Wanted(SOME, CLASSES, divergence="batch", penalty="square")
    upsampling = Upsampling(size, align_corners=align_corners)
    found, expected = (f(logits, target, upsampling, wanted) for f in (upsampled_sums, stock))
    torch.testing.assert_close(torch.cat([x.view(-1) for x in found]), torch.cat([x.view(-1) for x in expected]))
    gradients = [torch.autograd.grad(combined(s), logits)[0] for s in (found, expected)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("wanted", READINGS[::4], ids=str)
def test_gradcheck(wanted):
    logits, target, weight, log_prior = random_case((2, 2), (5, 4))
    log_prior = log_prior[list(wanted.members)]

    def value(z):
        return combined(upsampled_sums(z, target, Upsampling((5, 4)), wanted, weight=weight, log_prior=log_prior))

    assert torch.autograd.gradcheck(value, logits)


def test_by_hand():
    # One logit pair becomes four pixels of z = (0, 0), (0, .5), (0, 1.5), (0, 2); the second has no label.
    logits = torch.tensor([[[[0.0, 0.0]], [[0.0, 2.0]]]])
    target = torch.tensor([[[0, 255, 1, 1]]])
    wanted = Wanted((0, 1), 2, divergence="batch")
    sums = upsampled_sums(logits, target, Upsampling((1, 4)), wanted)
    expected = math.log(2) + math.log(1 + math.exp(-1.5)) + math.log(1 + math.exp(-2))
    assert sums.cross_entropy.item() == pytest.approx(expected)
    first = 0.5 + 1 / (1 + math.exp(1.5)) + 1 / (1 + math.exp(2))
    assert sums.probabilities.tolist() == pytest.approx([first, 3 - first])
    outside = upsampled_sums(logits, target, Upsampling((1, 4)), Wanted((0,), 2, penalty="square"))
    assert outside.penalties.tolist() == pytest.approx([0, 0 + 1.5**2 + 4])


@pytest.mark.parametrize("wanted", READINGS, ids=str)
def test_finite_at_extreme_logits(wanted):
    logits, target, _, log_prior = random_case(dtype=torch.float32)
    logits = (logits.detach().sign() * 100).requires_grad_()
    log_prior = log_prior[list(wanted.members)]
    sums = upsampled_sums(logits, target, Upsampling((13, 18)), wanted, log_prior=log_prior)
    expected = stock(logits, target, Upsampling((13, 18)), wanted, log_prior=log_prior)
    torch.testing.assert_close(sums.cross_entropy, expected.cross_entropy)
    combined(sums).backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("wanted", READINGS[::4], ids=str)
def test_nothing_labelled_is_zero_and_connected(wanted):
    logits, target, _, log_prior = random_case()
    log_prior = log_prior[list(wanted.members)]
    nothing = torch.full_like(target, 255)
    sums = upsampled_sums(logits, nothing, Upsampling((13, 18)), wanted, log_prior=log_prior)
    assert all((s == 0).all() for s in sums)
    sum(s.sum() for s in sums).backward()
    assert (logits.grad == 0).all()


def test_half_precision_computes_in_float32_also_under_autocast():
    logits, target, _, _ = random_case(dtype=torch.float32)
    half = logits.detach().bfloat16().requires_grad_()
    wanted = Wanted(SOME, CLASSES, divergence="batch", penalty="square")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = upsampled_sums(half, target, Upsampling((13, 18)), wanted)
        combined(found).backward()
    exact = half.detach().float().requires_grad_()
    expected = upsampled_sums(exact, target, Upsampling((13, 18)), wanted)
    combined(expected).backward()
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b)
    assert half.grad.dtype == torch.bfloat16
    torch.testing.assert_close(half.grad, exact.grad.bfloat16())


@pytest.mark.parametrize("divergence", [None, "batch"])
def test_a_second_derivative_is_refused(divergence):
    logits, target, _, _ = random_case()
    wanted = Wanted(SOME, CLASSES, divergence=divergence)
    sums = upsampled_sums(logits, target, Upsampling((13, 18)), wanted)
    (gradient,) = torch.autograd.grad(sums.cross_entropy, logits, create_graph=True)
    with pytest.raises(ConfigError, match="no second derivative"):
        gradient.square().sum().backward()


def test_channels_last_and_any_integer_target():
    logits, target, _, _ = random_case()
    wanted = Wanted(SOME, CLASSES, divergence="batch")
    expected = upsampled_sums(logits, target, Upsampling((13, 18)), wanted)
    other = logits.detach().contiguous(memory_format=torch.channels_last)
    found = upsampled_sums(other, target.to(torch.uint8), Upsampling((13, 18)), wanted)
    torch.testing.assert_close(found.probabilities, expected.probabilities)


def test_under_torch_compile():
    logits, target, _, _ = random_case(dtype=torch.float32)
    wanted = Wanted(SOME, CLASSES, divergence="batch", penalty="square")

    def step(z):
        return combined(upsampled_sums(z * 2, target, Upsampling((13, 18)), wanted)) * 3

    compiled = torch.compile(step, backend="eager")
    torch.testing.assert_close(compiled(logits), step(logits))
    gradients = [torch.autograd.grad(f(logits), logits)[0] for f in (compiled, step)]
    torch.testing.assert_close(*gradients)
