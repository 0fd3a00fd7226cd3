import math

import pytest
import torch

from longtail.errors import ConfigError
from longtail.medoe.losses import (
    ExpertLoss,
    ExpertLossOptions,
    interference_penalty,
    prior_divergence,
    prior_within,
    set_probabilities,
    summed_interference,
)
from longtail.pixels import Upsampling, expert_sums
from support.tiny_segmentation import NUM_CLASSES

LABEL_SET = torch.tensor([False, True, True, False, True])
PRIOR = torch.tensor([0.5, 0.06, 0.005, 0.43, 0.005])


def random_case(seed: int = 0, size: int = 3):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, NUM_CLASSES, size, size, generator=generator, dtype=torch.float64)
    target = torch.randint(0, NUM_CLASSES, (2, size, size), generator=generator)
    target[0, 0] = 255
    return logits, target


def slow_loss(logits, target, label_set, prior, o: ExpertLossOptions):
    """Equations 3-5 with loops over pixels and classes."""
    c = len(label_set)
    inside = [j for j in range(c) if label_set[j]]
    pixels = [(n, y, x) for n in range(len(target)) for y in range(target.shape[1]) for x in range(target.shape[2])]
    truth = {p: int(target[p]) for p in pixels}
    labelled = [p for p in pixels if truth[p] != 255]
    own = [p for p in labelled if label_set[truth[p]]]
    z = {p: [float(logits[p[0], j, p[1], p[2]]) for j in range(c)] for p in pixels}

    def softmax(values):
        top = max(values)
        e = [math.exp(v - top) for v in values]
        return [v / sum(e) for v in e]

    ce = 0.0
    for p in own:
        over = range(c) if o.softmax == "all" else inside
        probabilities = dict(zip(over, softmax([z[p][j] for j in over]), strict=True))
        ce -= math.log(probabilities[truth[p]])
    ce /= {"valid": max(1, len(own)), "all": len(pixels), "sum": 1}[o.normalizer]

    where = labelled if o.penalty_pixels == "labelled" else own
    l2 = 0.0
    for j in range(c):
        if not label_set[j]:
            values = [z[p][j] for p in where]
            if o.penalty == "square":
                l2 += sum(v * v for v in values) / max(1, len(where))
            elif o.penalty == "absolute":
                l2 += sum(abs(v) for v in values) / max(1, len(where))
            else:
                l2 += math.sqrt(sum(v * v for v in values))

    q = [float(prior[j]) for j in inside]
    if o.prior == "renormalised":
        q = [v / sum(q) for v in q]

    def p_set(p):
        if o.divergence_softmax == "all":
            everything = softmax(z[p])
            return [everything[j] for j in inside]
        return softmax([z[p][j] for j in inside])

    def kl(p):
        return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))

    if not own:
        divergence = 0.0
    elif o.divergence == "pixel":
        divergence = sum(kl(p_set(p)) for p in own) / len(own)
    else:
        divergence = kl([sum(p_set(p)[i] for p in own) / len(own) for i in range(len(inside))])
    return ce, o.alpha * l2, o.alpha * divergence


READINGS = [
    ExpertLossOptions(),
    ExpertLossOptions(alpha=1.0, normalizer="all"),
    ExpertLossOptions(normalizer="sum", softmax="set"),
    ExpertLossOptions(penalty="absolute", penalty_pixels="expert"),
    ExpertLossOptions(penalty="absolute"),
    ExpertLossOptions(penalty_pixels="expert"),
    ExpertLossOptions(penalty="map"),
    ExpertLossOptions(divergence="pixel"),
    ExpertLossOptions(divergence="pixel", divergence_softmax="all", prior="raw"),
    ExpertLossOptions(divergence_softmax="all"),
    ExpertLossOptions(prior="raw"),
]


@pytest.mark.parametrize("options", READINGS, ids=str)
def test_every_reading_equals_the_slow_reference(options):
    logits, target = random_case()
    terms = ExpertLoss(LABEL_SET, PRIOR, options)(logits, target)
    assert terms["ce"].dtype == torch.float64
    ce, l2, kl = slow_loss(logits, target, LABEL_SET, PRIOR, options)
    assert terms["ce"].item() == pytest.approx(ce, rel=1e-5)
    assert terms["l2"].item() == pytest.approx(l2, rel=1e-5)
    assert terms["kl"].item() == pytest.approx(kl, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("options", READINGS, ids=str)
def test_gradcheck_of_every_reading(options):
    logits, target = random_case(size=2)
    loss = ExpertLoss(LABEL_SET, PRIOR, options)
    assert torch.autograd.gradcheck(lambda z: sum(loss(z, target).values()), logits.requires_grad_())


def penalty(logits, label_set, pixels, kind="square"):
    return interference_penalty(summed_interference(logits, label_set, pixels, kind), pixels.sum().float(), kind)


def test_penalty_by_hand():
    # Two pixels; interfering logits (1, 2) and (3, 4) over two categories.
    logits = torch.tensor([[[1.0, 3.0], [9.0, 9.0], [2.0, 4.0]]])
    label_set = torch.tensor([False, True, False])
    both = torch.ones(1, 2, dtype=torch.bool)
    assert penalty(logits, label_set, both).item() == pytest.approx((1 + 9) / 2 + (4 + 16) / 2)
    assert penalty(logits, label_set, both, "absolute").item() == pytest.approx((1 + 3 + 2 + 4) / 2)
    assert penalty(logits, label_set, both, "map").item() == pytest.approx(math.sqrt(1 + 9) + math.sqrt(4 + 16))
    first = torch.tensor([[True, False]])
    assert penalty(logits, label_set, first).item() == pytest.approx(1 + 4)


def test_penalty_reaches_interfering_channels_only():
    logits = torch.randn(1, NUM_CLASSES, 2, 2, requires_grad=True)
    penalty(logits, LABEL_SET, torch.ones(1, 2, 2, dtype=torch.bool)).backward()
    assert (logits.grad[:, LABEL_SET] == 0).all()
    assert (logits.grad[:, ~LABEL_SET] != 0).all()


def test_map_norm_has_a_gradient_at_zero():
    logits = torch.zeros(1, NUM_CLASSES, 2, 2, requires_grad=True)
    penalty(logits, LABEL_SET, torch.ones(1, 2, 2, dtype=torch.bool), "map").backward()
    assert torch.isfinite(logits.grad).all()


def test_divergence_by_hand_and_its_zero():
    q = torch.tensor([0.5, 0.5])
    assert prior_divergence(torch.tensor([0.75, 0.25]), q).item() == pytest.approx(
        0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    )
    assert prior_divergence(q, q).item() == pytest.approx(0, abs=1e-7)
    assert prior_divergence(torch.tensor([1.0, 0.0]), q).item() == pytest.approx(math.log(2))
    random = torch.rand(100, 4).softmax(dim=1)
    assert (prior_divergence(random, torch.tensor([0.1, 0.2, 0.3, 0.4])) >= -1e-6).all()


def test_prior_is_renormalised_and_floored():
    within = prior_within(torch.tensor([0.9, 0.08, 0.02, 0.0]), torch.tensor([False, True, True, True]))
    torch.testing.assert_close(within, torch.tensor([0.8, 0.2, 1e-8]))
    raw = prior_within(torch.tensor([0.9, 0.08, 0.02]), torch.tensor([False, True, True]), renormalised=False)
    torch.testing.assert_close(raw, torch.tensor([0.08, 0.02]))


def test_probabilities_of_the_set_ignore_its_shifts_and_all_classes_do_not():
    logits, _ = random_case()
    within = set_probabilities(logits, LABEL_SET)
    torch.testing.assert_close(within.sum(dim=1), torch.ones(2, 3, 3, dtype=torch.float64))
    moved = logits.clone()
    moved[:, LABEL_SET] += 7
    torch.testing.assert_close(set_probabilities(moved, LABEL_SET), within)
    everything = set_probabilities(logits, LABEL_SET, "all")
    torch.testing.assert_close(everything / everything.sum(dim=1, keepdim=True), within)
    assert (set_probabilities(moved, LABEL_SET, "all") > everything).all()


def test_no_labelled_pixel_is_exactly_zero_with_a_connected_graph():
    logits = torch.randn(2, NUM_CLASSES, 4, 4, requires_grad=True)
    for target in (torch.full((2, 4, 4), 255), torch.zeros(2, 4, 4, dtype=torch.int64)):
        logits.grad = None
        terms = ExpertLoss(LABEL_SET, PRIOR)(logits, target)
        assert terms["ce"].item() == 0
        assert terms["kl"].item() == 0
        (terms["ce"] + terms["kl"]).backward()
        assert logits.grad is not None
        assert (logits.grad == 0).all()


def test_first_expert_has_no_penalty_and_alpha_zero_is_cross_entropy():
    logits, target = random_case()
    everyone = torch.ones(NUM_CLASSES, dtype=torch.bool)
    assert set(ExpertLoss(everyone, PRIOR)(logits, target)) == {"ce", "kl"}
    only = ExpertLoss(everyone, PRIOR, ExpertLossOptions(alpha=0))(logits, target)
    stock = torch.nn.functional.cross_entropy(logits, target, ignore_index=255)
    assert set(only) == {"ce"}
    torch.testing.assert_close(only["ce"], stock)


def test_masked_pixels_get_no_gradient_from_cross_entropy_and_do_not_change_it():
    logits, target = random_case()
    logits.requires_grad_()
    loss = ExpertLoss(LABEL_SET, PRIOR, ExpertLossOptions(alpha=0))
    value = loss(logits, target)["ce"]
    value.backward()
    own = LABEL_SET[target.where(target != 255, 0)] & (target != 255)
    gradient = logits.grad.movedim(1, -1)
    assert (gradient[~own] == 0).all()
    torch.testing.assert_close(gradient[own].sum(dim=-1), torch.zeros(int(own.sum()), dtype=torch.float64))
    wider = torch.cat([logits.detach(), torch.randn(2, NUM_CLASSES, 3, 1, dtype=torch.float64)], dim=3)
    masked = torch.cat([target, torch.full((2, 3, 1), 0)], dim=2)  # class 0 is outside the set
    torch.testing.assert_close(loss(wider, masked)["ce"], value.detach())


@pytest.mark.parametrize("options", READINGS, ids=str)
def test_finite_at_extreme_logits(options):
    logits = torch.randn(1, NUM_CLASSES, 4, 4).sign() * 100
    logits.requires_grad_()
    target = torch.randint(0, NUM_CLASSES, (1, 4, 4))
    loss = sum(ExpertLoss(LABEL_SET, PRIOR, options)(logits, target).values())
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_half_precision_logits_are_computed_in_float32():
    logits, target = random_case()
    exact = ExpertLoss(LABEL_SET, PRIOR)(logits.bfloat16().double(), target)
    half = ExpertLoss(LABEL_SET, PRIOR)(logits.bfloat16(), target)
    for term in exact:
        assert half[term].dtype == torch.float32
        torch.testing.assert_close(half[term], exact[term].float())


def test_batch_divergence_shares_its_minimum_with_cross_entropy_and_pixel_divergence_does_not():
    # One clean pixel a class, in the prior's proportions: the perfect expert predicts the prior on average.
    prior = torch.tensor([0.75, 0.25])
    target = torch.tensor([[[0, 0, 0, 1]]])
    sure = torch.zeros(1, 2, 1, 4)
    sure[0, 0, 0, :3] = 50
    sure[0, 1, 0, 3] = 50
    everyone = torch.ones(2, dtype=torch.bool)
    batch = ExpertLoss(everyone, prior)(sure, target)
    pixel = ExpertLoss(everyone, prior, ExpertLossOptions(divergence="pixel"))(sure, target)
    assert batch["kl"].item() == pytest.approx(0, abs=1e-6)
    assert pixel["kl"].item() == pytest.approx(0.2 * (0.75 * math.log(4 / 3) + 0.25 * math.log(4)), rel=1e-4)


def test_running_mean_prediction():
    loss = ExpertLoss(LABEL_SET, PRIOR, ExpertLossOptions(momentum=0.9))
    logits, target = random_case()
    start = loss.running_mean.clone()
    assert "running_mean" in loss.state_dict()
    loss(logits.float(), target)
    assert not torch.equal(loss.running_mean, start)
    after = loss.running_mean.clone()
    loss(logits.float(), torch.full_like(target, 255))
    assert torch.equal(loss.running_mean, after)
    loss.eval()(logits.float(), target)
    assert torch.equal(loss.running_mean, after)
    assert not ExpertLoss(LABEL_SET, PRIOR).state_dict()


def test_options_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="alpha -1"):
        ExpertLossOptions(alpha=-1)
    with pytest.raises(ConfigError, match="momentum"):
        ExpertLossOptions(momentum=0.5, divergence="pixel")


@pytest.mark.parametrize("few", [0, 10], ids=["bands", "single pixels"])
@pytest.mark.parametrize("options", READINGS, ids=str)
def test_low_resolution_logits_give_the_loss_and_derivatives_of_the_upsampled_ones(monkeypatch, options, few):
    monkeypatch.setattr(expert_sums, "FEW_PIXELS", few)
    generator = torch.Generator().manual_seed(3)
    target = torch.randint(0, NUM_CLASSES, (2, 13, 18), generator=generator)
    target[:, :2] = 255
    upsampling = Upsampling((13, 18), divisor=4)
    for label_set in (LABEL_SET, torch.ones(NUM_CLASSES, dtype=torch.bool)):
        loss = ExpertLoss(label_set, PRIOR, options)
        logits = torch.randn(2, NUM_CLASSES, 4, 5, generator=generator, dtype=torch.float64).requires_grad_()
        outcomes = []
        for terms in (loss(logits, target, upsampling), loss(upsampling(logits), target)):
            (gradient,) = torch.autograd.grad(sum(terms.values()), logits, create_graph=True)
            (second,) = torch.autograd.grad(gradient.square().sum(), logits, retain_graph=True)
            (plain,) = torch.autograd.grad(sum(terms.values()), logits)
            outcomes.append(terms | {"gradient": gradient, "second": second, "without a graph": plain})
        torch.testing.assert_close(*outcomes)


@pytest.mark.parametrize("options", [o for o in READINGS if o.in_closed_form], ids=str)
@pytest.mark.parametrize("few", [0, 10], ids=["bands", "single pixels"])
def test_the_closed_form_has_the_sums_of_the_equations(monkeypatch, options, few):
    monkeypatch.setattr(expert_sums, "FEW_PIXELS", few)
    logits, target = random_case(size=5)
    terms = ExpertLoss(LABEL_SET, PRIOR, options)(logits, target)
    monkeypatch.setattr(ExpertLossOptions, "in_closed_form", False)
    torch.testing.assert_close(terms, ExpertLoss(LABEL_SET, PRIOR, options)(logits, target))


@pytest.mark.parametrize("few", [0, 10], ids=["bands", "single pixels"])
@pytest.mark.parametrize("options", READINGS, ids=str)
def test_a_batch_without_labels_is_zero_below_the_target_size(monkeypatch, options, few):
    monkeypatch.setattr(expert_sums, "FEW_PIXELS", few)
    logits = torch.randn(1, NUM_CLASSES, 2, 2, requires_grad=True)
    terms = ExpertLoss(LABEL_SET, PRIOR, options)(logits, torch.full((1, 8, 8), 255), Upsampling((8, 8)))
    assert sum(terms.values()).item() == pytest.approx(0, abs=1e-12)
    sum(terms.values()).backward()
    assert (logits.grad == 0).all()
