import math

import numpy as np
import pytest
import torch

from longtail.errors import ConfigError, DataError
from longtail.samplers.base import Sampler, split
from longtail.samplers.class_aware import ClassAware
from longtail.samplers.rare_class import RareClass, class_probabilities, shown_in
from longtail.samplers.repeat_factor import RepeatFactor, class_factors
from longtail.samplers.two_level import TwoLevel


def labels(*images: tuple[int, ...]) -> list[np.ndarray]:
    return [np.array(classes, dtype=np.int64) for classes in images]


LONG_TAIL = labels(*[(0,)] * 90, *[(0, 1, 1)] * 9, (2, 0), ())


def samplers() -> list[Sampler]:
    return [RepeatFactor(LONG_TAIL, 0.5, seed=3), ClassAware(LONG_TAIL, seed=3)]


def test_repeat_factors_by_hand() -> None:
    # 101 images; class 0 in 100, 1 in 9 (twice each: images count), 2 in 1, class 3 nowhere
    sampler = RepeatFactor(LONG_TAIL, threshold=0.25)
    assert sampler.factors[:90].tolist() == [1.0] * 90
    assert sampler.factors[90:99] == pytest.approx([math.sqrt(0.25 * 101 / 9)] * 9)
    assert sampler.factors[99] == pytest.approx(math.sqrt(0.25 * 101)) and sampler.factors[100] == 1.0
    assert class_factors(np.array([100, 0, 4]), 100, 0.01).tolist() == [1.0, 1.0, 1.0]
    assert class_factors(np.array([1]), 10**6, 1e-3)[0] == pytest.approx(math.sqrt(1000))


def test_a_pass_holds_the_whole_part_and_the_rest_by_chance() -> None:
    sampler = RepeatFactor(LONG_TAIL, threshold=0.25)
    counts = np.stack([np.bincount(sampler.epoch_indices(e), minlength=101) for e in range(300)])
    assert (counts >= np.floor(sampler.factors)).all() and (counts <= np.ceil(sampler.factors)).all()
    assert (counts[:, sampler.factors == 1.0] == 1).all()
    assert counts.mean(0)[90:100] == pytest.approx(sampler.factors[90:100], abs=0.12)
    assert len(np.unique(counts.sum(1))) > 1


def test_without_a_tail_it_is_a_permutation() -> None:
    sampler = RepeatFactor(LONG_TAIL, threshold=1e-3)
    assert sorted(sampler.epoch_indices(0).tolist()) == list(range(101))


def test_class_aware_shows_classes_equally() -> None:
    sampler = ClassAware(LONG_TAIL, length=300)
    indices = sampler.epoch_indices(0)
    assert len(indices) == 300 and 100 <= (indices == 99).sum() <= 102 and not (indices == 100).any()
    middle = np.bincount(indices[(indices >= 90) & (indices < 99)] - 90, minlength=9)
    assert middle.min() >= 11  # 100 turns of class 1 over its 9 images, and some of class 0
    assert len(ClassAware(LONG_TAIL).epoch_indices(0)) == 101


@pytest.mark.parametrize("which", [0, 1])
def test_a_pass_is_a_function_of_seed_and_number(which: int) -> None:
    sampler, again = samplers()[which], samplers()[which]
    second = sampler.epoch_indices(2)
    again.epoch_indices(0)
    torch.rand(7)  # the global generator has no say
    assert torch.equal(again.epoch_indices(2), second)
    assert not torch.equal(sampler.epoch_indices(3), second)
    again.seed = 4
    assert not torch.equal(again.epoch_indices(2), second)


@pytest.mark.parametrize("which", [0, 1])
def test_the_engine_draws_from_its_own_generator(which: int) -> None:
    sampler = samplers()[which]
    first, second = (sampler(torch.Generator().manual_seed(5)) for _ in range(2))
    assert first == second and all(isinstance(i, int) for i in first)
    assert sampler(torch.Generator().manual_seed(6)) != first


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="threshold"):
        RepeatFactor(LONG_TAIL, 0.0)
    with pytest.raises(DataError, match="no image"):
        RepeatFactor([])
    with pytest.raises(DataError, match="any class"):
        ClassAware(labels((), ()))
    with pytest.raises(ConfigError, match="length"):
        ClassAware(LONG_TAIL, length=0)
    assert RepeatFactor(labels((), ())).factors.tolist() == [1.0, 1.0]


def test_two_levels_say_which_class_an_image_was_drawn_for() -> None:
    labels = [np.array([0, 0, 2]), np.array([2]), np.array([], dtype=np.int64), np.array([5])]
    sampler = TwoLevel(labels, length=300)
    drawn = [split(index, len(labels)) for index in sampler(torch.Generator().manual_seed(0))]
    assert all(drawn_for in labels[image] for image, drawn_for in drawn)
    counts = np.bincount([drawn_for for _, drawn_for in drawn], minlength=6)
    assert counts.tolist() == [100, 0, 100, 0, 0, 100]
    # the same images as class-aware sampling
    plain = ClassAware(labels, length=300)(torch.Generator().manual_seed(0))
    assert [image for image, _ in drawn] == plain
    # indices of other samplers are images
    assert split(3, len(labels)) == (3, None)


def test_rare_class_probabilities_by_hand() -> None:
    # (1 - f) / T = 0 and ln 3 above that: 1/4 and 3/4
    share = np.array([0.5 + math.log(3) * 0.05, 0.5 - math.log(3) * 0.05, 0.0])
    np.testing.assert_allclose(class_probabilities(share, 0.1), [1 / 4, 3 / 4, 0])
    np.testing.assert_allclose(class_probabilities(share, 1e9), [0.5, 0.5, 0])
    assert class_probabilities(np.array([0.9999, 1e-4]), 1e-3)[1] == pytest.approx(1)
    with pytest.raises(ConfigError, match="temperature"):
        class_probabilities(share, 0)


def test_rare_classes_are_drawn_from_images_that_show_them_well() -> None:
    pixels = np.array([[9_000, 0, 0], [9_000, 50, 0], [8_000, 4_000, 0], [7_000, 0, 10]])
    sampler = RareClass(pixels, temperature=1.0, length=4_000)
    drawn = [split(index, len(pixels)) for index in sampler(torch.Generator().manual_seed(0))]
    by_class = {c: {image for image, drawn_for in drawn if drawn_for == c} for c in range(3)}
    assert by_class[1] == {2}  # only one image has enough
    assert by_class[2] == {3}  # none has enough: any that shows it
    counts = np.bincount([drawn_for for _, drawn_for in drawn], minlength=3) / len(drawn)
    np.testing.assert_allclose(counts, sampler.probabilities.numpy(), atol=0.03)
    assert [list(classes) for classes in shown_in(pixels)] == [[0], [0, 1], [0, 1], [0, 2]]
    with pytest.raises(DataError, match="no image"):
        RareClass(np.zeros((2, 3), dtype=np.int64))
