import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from longtail.errors import ConfigError
from longtail.transforms import IMAGENET_MEAN, IMAGENET_STD, segmentation_eval, segmentation_train
from longtail.transforms.segmentation import (
    FocusClass,
    PadToSize,
    RandomScaledCrop,
    ResizeImage,
    keep_ratio,
    nearest_labels,
)


def sample(height=40, width=60, mask=None, dtype=torch.uint8) -> dict:
    """An image whose red channel is its label map times 10."""
    if mask is None:
        mask = (torch.arange(height)[:, None] // 10 * 5 + torch.arange(width)[None] // 12) % 20
    mask = mask.to(dtype)
    image = torch.stack([mask.to(torch.uint8) * 10, torch.zeros_like(mask).to(torch.uint8), mask.to(torch.uint8)])
    return {"image": tv_tensors.Image(image), "mask": tv_tensors.Mask(mask), "name": "x"}


def test_train_output():
    transform = segmentation_train((32, 48))
    for _ in range(30):
        out = transform(sample())
        assert out["image"].shape == (3, 32, 48) and out["image"].dtype == torch.float32
        assert out["mask"].shape == (32, 48) and out["mask"].dtype == torch.uint8 and out["name"] == "x"
        assert type(out["image"]) is tv_tensors.Image and type(out["mask"]) is tv_tensors.Mask


def test_image_and_labels_stay_on_each_other():
    transform = segmentation_train((32, 48), (1.0, 1.0), photometric=False, cat_max_ratio=1)
    for _ in range(30):
        out = transform(sample())
        red = out["image"][0] * IMAGENET_STD[0] + IMAGENET_MEAN[0]
        assert torch.allclose(red * 25.5, out["mask"].float(), atol=1e-3)


@pytest.mark.parametrize("factor", [0.5, 0.7, 1.6, 2.0])
def test_image_and_labels_stay_on_each_other_when_scaled(factor):
    # Smooth labels: the image interpolates between them, so both differ by less than a step.
    ramp = (torch.arange(80)[:, None] + torch.arange(120)[None]) // 4
    transform = segmentation_train((40, 60), (factor, factor), photometric=False, cat_max_ratio=1)
    for _ in range(10):
        out = transform(sample(mask=ramp))
        green = out["image"][2] * IMAGENET_STD[2] + IMAGENET_MEAN[2]
        error = green * 255 - out["mask"].float()
        assert error.abs().max() < 1.6 and error.mean().abs() < 0.12


def test_pixel_size_follows_the_scale():
    stripes = (torch.arange(120)[None] // 6 % 2).expand(80, 120)
    for factor, width in ((0.5, 3), (1.0, 6), (2.0, 12)):
        out = RandomScaledCrop((40, 60), (factor, factor), 1)(sample(mask=stripes))["mask"]
        edges = torch.nonzero(out[0, 1:] != out[0, :-1]).flatten()
        assert (edges.diff() == width).all() and len(edges) > 3


def test_a_small_image_is_padded_right_and_below_with_the_mean_colour():
    out = segmentation_train((64, 64), (0.5, 0.5), ignore_index=250, flip=0)(sample())
    assert (out["mask"][:20, :30] != 250).all()
    assert (out["mask"][20:] == 250).all() and (out["mask"][:, 30:] == 250).all()
    assert (out["image"][:, 20:] == 0).all() and (out["image"][:, :, 30:] == 0).all()


def test_flip_turns_both():
    flipped = segmentation_train((40, 60), (1, 1), flip=1, photometric=False)(sample())
    assert torch.equal(flipped["mask"], sample()["mask"].flip(-1))


def test_crops_show_every_part_of_the_image():
    places = torch.arange(4)[:, None] * 5 + torch.arange(5)[None]
    crop = RandomScaledCrop((1, 1), (1, 1), 1)
    seen = {int(crop(sample(mask=places))["mask"]) for _ in range(400)}
    assert seen == set(range(20))


def test_one_class_does_not_fill_a_crop():
    mask = torch.zeros(60, 60)
    mask[:, 45:] = 1
    cut = RandomScaledCrop((20, 20), (1, 1), cat_max_ratio=0.75)
    free = RandomScaledCrop((20, 20), (1, 1), cat_max_ratio=1)

    def share_mixed(crop) -> float:
        torch.manual_seed(1)
        return np.mean([(crop(sample(mask=mask))["mask"] == 0).float().mean() < 0.75 for _ in range(200)])

    # A crop mixes with probability about 1/4 a try: 1 - (3/4)^10 = 0.94.
    assert share_mixed(free) < 0.5 and share_mixed(cut) > 0.9


def test_ignored_pixels_do_not_count_as_a_class():
    mask = torch.full((60, 60), 255)
    mask[:30, :30] = 3
    out = [RandomScaledCrop((30, 30), (1, 1), 0.75)(sample(mask=mask)) for _ in range(20)]
    assert all(o["mask"].shape == (30, 30) for o in out)  # no crop mixes: the tenth is taken
    crop = RandomScaledCrop((30, 30), (1, 1), 0.75)
    assert not crop._is_mixed(torch.tensor([[3, 255], [255, 255]], dtype=torch.uint8))
    assert not crop._is_mixed(torch.full((2, 2), 255, dtype=torch.uint8))
    assert crop._is_mixed(torch.tensor([[3, 1], [255, 255]], dtype=torch.int32))
    assert not crop._is_mixed(torch.tensor([[3, 3, 3, 1]], dtype=torch.uint8))  # 0.75 is not below 0.75


def test_a_short_side_is_what_scale_one_stands_for():
    crop = RandomScaledCrop((500, 500), (1, 1), 1, short_side=80, max_side=100)
    assert crop(sample(40, 45))["mask"].shape == (80, 90)
    assert crop(sample(40, 80))["mask"].shape == (50, 100)


def test_wide_labels_survive():
    mask = torch.full((30, 30), 700)
    mask[:15] = 3
    out = segmentation_train((20, 20), ignore_index=65535)(sample(mask=mask, dtype=torch.int32))
    assert out["mask"].dtype == torch.int32 and set(out["mask"].unique().tolist()) <= {3, 700, 65535}


def test_randomness_is_that_of_torch():
    transform = segmentation_train((20, 20))
    torch.manual_seed(5)
    first = transform(sample())
    torch.manual_seed(5)
    again = transform(sample())
    assert torch.equal(first["image"], again["image"]) and torch.equal(first["mask"], again["mask"])
    assert not torch.equal(transform(sample())["image"], again["image"])


def test_eval_at_full_size():
    out = segmentation_eval()(sample())
    assert out["image"].shape == (3, 40, 60) and out["original_size"] == (40, 60)
    assert torch.allclose(out["image"][1], torch.tensor(-IMAGENET_MEAN[1] / IMAGENET_STD[1]))
    assert torch.equal(out["mask"], sample()["mask"])


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"short_side": 20}, (20, 30)),
        ({"short_side": 80, "max_side": 90}, (60, 90)),
        ({"max_side": 30}, (20, 30)),
        ({"size": (7, 9)}, (7, 9)),
    ],
)
def test_eval_at_a_given_size_keeps_the_labels(options, size):
    out = segmentation_eval(**options)(sample())
    assert out["image"].shape[-2:] == size and out["original_size"] == (40, 60)
    assert torch.equal(out["mask"], sample()["mask"])


def test_nearest_labels_by_hand():
    assert nearest_labels(torch.tensor([[1, 2, 3, 4]]), (1, 2)).tolist() == [[2, 4]]
    assert nearest_labels(torch.tensor([[1, 2, 3]]), (2, 6)).tolist() == [[1, 1, 2, 2, 3, 3]] * 2
    labels = torch.randint(0, 9, (13, 17), dtype=torch.uint8)
    exact = torch.nn.functional.interpolate(labels[None, None].float(), (29, 11), mode="nearest-exact")[0, 0]
    assert torch.equal(nearest_labels(labels, (29, 11)).float(), exact)
    assert torch.equal(nearest_labels(labels, (13, 17)), labels)
    masks = torch.rand(3, 13, 17) < 0.5
    for size in ((29, 30), (5, 30), (29, 6), (5, 6)):
        exact = torch.nn.functional.interpolate(masks[None].float(), size, mode="nearest-exact")[0]
        assert torch.equal(nearest_labels(masks, size).float(), exact)


def test_keep_ratio():
    assert keep_ratio((100, 200), 50, None) == 0.5
    assert keep_ratio((100, 1000), 50, 100) == 0.1
    assert keep_ratio((100, 200), None, None) == 1
    assert keep_ratio((100, 200), None, 400) == 1


def test_pad_leaves_larger_samples_alone():
    before = sample()
    out = PadToSize((10, 10))(before)
    assert out["image"] is before["image"] and out["mask"] is before["mask"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: RandomScaledCrop((0, 5)),
        lambda: RandomScaledCrop((5, 5), (2.0, 1.0)),
        lambda: RandomScaledCrop((5, 5), cat_max_ratio=0.0),
        lambda: ResizeImage(short_side=5, size=(3, 3)),
        lambda: RandomScaledCrop((5, 5))({"image": torch.zeros(3, 9, 9)}),
    ],
)
def test_impossible_settings_are_refused(make):
    with pytest.raises(ConfigError):
        make()


@pytest.mark.parametrize("scale", [(0.5, 2.0), (1.0, 1.0)])
def test_crops_show_the_class_that_they_were_drawn_for(scale):
    labels = torch.zeros(60, 80, dtype=torch.uint8)
    labels[50:54, 3:7] = 2
    sample = {
        "image": tv_tensors.Image(torch.zeros(3, 60, 80, dtype=torch.uint8)),
        "mask": tv_tensors.Mask(labels),
        "focus": FocusClass(2),
    }
    crop = RandomScaledCrop((16, 16), scale)
    shown = [bool((crop(sample)["mask"] == 2).any()) for _ in range(60)]
    assert sum(shown) >= 58  # a crop may shrink four pixels at its edge to none
    starts = {tuple(crop(sample)["mask"].nonzero()[0].tolist()) for _ in range(20)}
    assert len(starts) > 5  # not always at the same place of the crop
    without = {**sample, "focus": FocusClass(1)}  # not in this image: an ordinary crop
    assert crop(without)["mask"].shape == (16, 16)
