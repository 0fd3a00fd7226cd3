import math

import pytest
import torch
import torch.nn.functional as F

from longtail.pixels import Upsampling, bands, expert_sums, softmax_sums, squared_sums

CLASSES = 6
SETS = [tuple(range(CLASSES)), (1, 2, 5), (3,)]
GEOMETRIES = [((3, 4), (12, 16)), ((3, 4), (10, 17)), ((6, 5), (6, 5)), ((6, 5), (4, 3)), ((1, 2), (3, 3))]


@pytest.fixture(params=[0.0, 1.0], ids=["bands", "single pixels"])
def few(request, monkeypatch):
    monkeypatch.setattr(expert_sums, "FEW_PIXELS", request.param)
    monkeypatch.setitem(bands.BAND_ELEMENTS, "cpu", 300)


def mask_of(members):
    return torch.tensor([c in members for c in range(CLASSES)])


def stock(logits, target, label_set, upsampling, weight=None):
    """The same sums in stock calls over the whole map."""
    z = upsampling(logits)
    each = F.cross_entropy(z, target, ignore_index=255, reduction="none")
    inside = z[:, label_set].softmax(dim=1)
    return (each if weight is None else weight * each).sum(), (inside * (target != 255)[:, None]).sum(dim=(0, 2, 3))


def random_case(members, low=(4, 5), size=(13, 18), dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, CLASSES, *low, generator=generator, dtype=dtype) * 3
    target = torch.tensor(members)[torch.randint(0, len(members), (2, *size), generator=generator)]
    target = target.where(torch.rand(2, *size, generator=generator) < 0.8, 255)
    target[:, :2] = 255
    return logits.requires_grad_(), target, torch.rand(2, *size, generator=generator, dtype=dtype)


def combined(sums):
    """A function of both sums."""
    loss, predictions = sums
    factors = torch.linspace(0.5, 2, len(predictions), dtype=predictions.dtype)
    mean = predictions / 50
    return 0.3 * loss + (mean * (mean + 1e-9).log() * factors).sum()


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("geometry", [((4, 5), (13, 18)), *GEOMETRIES], ids=str)
@pytest.mark.parametrize("members", SETS, ids=str)
@pytest.mark.usefixtures("few")
def test_values_and_derivatives_are_those_of_the_whole_map(members, geometry, align_corners):
    low, size = geometry
    logits, target, weight = random_case(members, low, size)
    upsampling = Upsampling(size, 4 if size == (13, 18) else 1, align_corners)
    arguments = logits, target, mask_of(members), upsampling
    outcomes = []
    for sums in (softmax_sums(*arguments, weight=weight), stock(*arguments, weight=weight)):
        (plain,) = torch.autograd.grad(combined(sums), logits, retain_graph=True)
        (gradient,) = torch.autograd.grad(combined(sums), logits, create_graph=True)
        (second,) = torch.autograd.grad(gradient.square().sum(), logits)
        outcomes.append([*sums, plain, gradient, second])
    torch.testing.assert_close(*outcomes)


@pytest.mark.parametrize("used", [0, 1])
@pytest.mark.usefixtures("few")
def test_one_sum_alone_has_its_gradient(used):
    logits, target, _ = random_case(SETS[1])
    arguments = logits, target, mask_of(SETS[1]), Upsampling((13, 18))
    factor = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64) if used else 3.0
    gradients = [torch.autograd.grad((f(*arguments)[used] * factor).sum(), logits)[0] for f in (softmax_sums, stock)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("members", SETS, ids=str)
@pytest.mark.usefixtures("few")
def test_gradcheck(members):
    logits, target, weight = random_case(members, (2, 2), (5, 4))
    label_set, upsampling = mask_of(members), Upsampling((5, 4))

    def value(z):
        squares = squared_sums(z, target != 255, upsampling)
        return combined(softmax_sums(z, target, label_set, upsampling, weight=weight)) + squares.square().sum()

    assert torch.autograd.gradcheck(value, logits)


@pytest.mark.usefixtures("few")
def test_by_hand():
    # One logit pair becomes four pixels of z = (0, 0), (0, .5), (0, 1.5), (0, 2); the second has no label.
    logits = torch.tensor([[[[0.0, 0.0]], [[0.0, 2.0]]]])
    target = torch.tensor([[[0, 255, 1, 1]]])
    upsampling = Upsampling((1, 4))
    loss, predictions = softmax_sums(logits, target, torch.tensor([True, True]), upsampling)
    expected = math.log(2) + math.log(1 + math.exp(-1.5)) + math.log(1 + math.exp(-2))
    assert loss.item() == pytest.approx(expected)
    first = 0.5 + 1 / (1 + math.exp(1.5)) + 1 / (1 + math.exp(2))
    assert predictions.tolist() == pytest.approx([first, 3 - first])
    assert squared_sums(logits, target != 255, upsampling).tolist() == pytest.approx([0, 1.5**2 + 4])


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_squares_of_the_counted_pixels(geometry, share):
    low, size = geometry
    logits, _, weight = random_case(SETS[0], low, size)
    counted, upsampling = weight < share, Upsampling(size)
    outcomes = []
    for sums in (
        squared_sums(logits, counted, upsampling),
        (upsampling(logits).square() * counted[:, None]).sum(dim=(0, 2, 3)),
    ):
        (gradient,) = torch.autograd.grad(sums.square().sum(), logits, create_graph=True)
        outcomes.append([sums, gradient, *torch.autograd.grad(gradient.square().sum(), logits)])
    torch.testing.assert_close(*outcomes)


def test_many_uncounted_pixels_are_not_interpolated_one_by_one(monkeypatch):
    logits, _, weight = random_case(SETS[0])
    monkeypatch.setattr(Upsampling, "at", lambda *_: pytest.fail("memory grows with these pixels"))
    assert (squared_sums(logits, weight < 0.5, Upsampling((13, 18))) > 0).all()


@pytest.mark.parametrize("members", SETS, ids=str)
@pytest.mark.usefixtures("few")
def test_finite_at_extreme_logits(members):
    logits, target, _ = random_case(members, dtype=torch.float32)
    logits = (logits.detach().sign() * 100).requires_grad_()
    arguments = logits, target, mask_of(members), Upsampling((13, 18))
    sums = softmax_sums(*arguments)
    torch.testing.assert_close(sums.cross_entropy, stock(*arguments)[0])
    (combined(sums) + squared_sums(logits, target != 255, Upsampling((13, 18))).sum()).backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.usefixtures("few")
def test_nothing_labelled_is_zero_and_connected():
    logits, target, _ = random_case(SETS[1])
    nothing, upsampling = torch.full_like(target, 255), Upsampling((13, 18))
    sums = softmax_sums(logits, nothing, mask_of(SETS[1]), upsampling)
    squares = squared_sums(logits, nothing != 255, upsampling)
    assert all((s == 0).all() for s in (*sums, squares))
    (sums.cross_entropy + sums.predictions.sum() + squares.sum()).backward()
    assert (logits.grad == 0).all()


@pytest.mark.usefixtures("few")
def test_half_precision_computes_in_float32_also_under_autocast():
    logits, target, _ = random_case(SETS[1], dtype=torch.float32)
    arguments = target, mask_of(SETS[1]), Upsampling((13, 18))
    half = logits.detach().bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = softmax_sums(half, *arguments)
        combined(found).backward()
    exact = half.detach().float().requires_grad_()
    expected = softmax_sums(exact, *arguments)
    combined(expected).backward()
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b)
    assert half.grad.dtype == torch.bfloat16
    torch.testing.assert_close(half.grad, exact.grad.bfloat16())


@pytest.mark.usefixtures("few")
def test_any_layout_any_integer_target_and_another_ignore_index():
    logits, target, _ = random_case(SETS[1])
    arguments = mask_of(SETS[1]), Upsampling((13, 18))
    expected = softmax_sums(logits, target, *arguments)
    other = logits.detach().contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(softmax_sums(other, target.to(torch.uint8), *arguments), expected)
    found = softmax_sums(logits, target.where(target != 255, -100), *arguments, ignore_index=-100)
    torch.testing.assert_close(found, expected)


def test_under_torch_compile():
    logits, target, _ = random_case(SETS[1], dtype=torch.float32)

    def step(z):
        return combined(softmax_sums(z * 2, target, mask_of(SETS[1]), Upsampling((13, 18)))) * 3

    compiled = torch.compile(step, backend="eager")
    torch.testing.assert_close(compiled(logits), step(logits))
    gradients = [torch.autograd.grad(f(logits), logits)[0] for f in (compiled, step)]
    torch.testing.assert_close(*gradients)
