"""Rare objects of other images are pasted in; large-scale jitter keeps boxes and masks together."""

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from longtail.errors import ConfigError, DataError
from longtail.transforms import detection_train
from longtail.transforms.copy_paste import CopyPaste, paste


def sample(boxes, labels, size=(20, 30), value=10):
    """An image of one value whose objects are filled boxes."""
    masks = torch.zeros(len(boxes), *size, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = 1
    return {
        "image": tv_tensors.Image(torch.full((3, *size), value, dtype=torch.uint8)),
        "boxes": tv_tensors.BoundingBoxes(torch.tensor(boxes).float().view(-1, 4), format="XYXY", canvas_size=size),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "masks": tv_tensors.Mask(masks),
        "crowd": torch.zeros(len(boxes), dtype=torch.bool),
    }


def test_by_hand():
    before = sample([[0, 0, 10, 10], [20, 10, 24, 14]], [3, 4])
    patch, mask = torch.full((3, 10, 6), 99, dtype=torch.uint8), torch.ones(10, 6, dtype=torch.bool)
    after = paste(before, patch, mask, 7, (0, 5))  # it covers the right half of the first object
    assert after["labels"].tolist() == [3, 4, 7]
    assert after["boxes"].tolist() == [[0, 0, 5, 10], [20, 10, 24, 14], [5, 0, 11, 10]]
    assert after["masks"].sum(dim=(1, 2)).tolist() == [50, 16, 60]
    assert (after["image"][:, :10, 5:11] == 99).all() and (after["image"][:, 10:] == 10).all()
    assert after["crowd"].tolist() == [False, False, False]
    assert before["labels"].tolist() == [3, 4] and (before["image"] == 10).all()
    assert type(after["masks"]) is tv_tensors.Mask and type(after["boxes"]) is tv_tensors.BoundingBoxes


def test_an_object_that_is_covered_altogether_is_dropped():
    before = sample([[2, 2, 4, 4], [20, 10, 24, 14]], [3, 4])
    after = paste(before, torch.zeros(3, 9, 9, dtype=torch.uint8), torch.ones(9, 9, dtype=torch.bool), 7, (0, 0))
    assert after["labels"].tolist() == [4, 7]
    assert len(after["boxes"]) == len(after["masks"]) == len(after["crowd"]) == 2


def dataset():
    """A frequent class 0 and a rare class 1, whose object is bright."""
    images = [sample([[0, 0, 8, 8]], [0]) for _ in range(24)]
    return [*images, sample([[3, 3, 9, 11]], [1], value=200)]


def test_rare_classes_are_pasted_more_often():
    data = dataset()
    mix = CopyPaste(data, [s["labels"].numpy() for s in data], probability=1.0)
    torch.manual_seed(0)
    pasted = [int(mix(data[0])["labels"][-1]) for _ in range(300)]
    # 1 / sqrt(24) against 1: five sixths of all pastes, from a twenty-fifth of the images
    assert 0.75 < np.mean(pasted) < 0.92
    for _ in range(50):
        found = mix(data[0])
        boxes, masks = found["boxes"], found["masks"]
        assert len(boxes) == len(masks) == len(found["labels"])
        for box, mask in zip(boxes, masks, strict=True):
            rows, columns = mask.as_subclass(torch.Tensor).nonzero().T
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert boxes.min() >= 0 and (boxes[:, 2] <= 30).all() and (boxes[:, 3] <= 20).all()


def test_the_probability_and_the_seed():
    data = dataset()
    labels = [s["labels"].numpy() for s in data]
    never, half = CopyPaste(data, labels, 0.0), CopyPaste(data, labels, 0.5)
    torch.manual_seed(1)
    assert all(never(data[0]) is data[0] for _ in range(5))
    changed = [half(data[0]) is not data[0] for _ in range(400)]
    assert 0.4 < np.mean(changed) < 0.6
    torch.manual_seed(5)
    first = half(data[0])["image"]
    torch.manual_seed(5)
    assert torch.equal(half(data[0])["image"], first)


def test_crowds_are_not_pasted():
    data = dataset()
    data[-1]["crowd"][:] = True
    mix = CopyPaste(data, [s["labels"].numpy() for s in data], 1.0)
    torch.manual_seed(0)
    assert all((mix(data[0])["labels"] == 0).all() for _ in range(50))


def test_what_cannot_be_pasted():
    data = dataset()
    with pytest.raises(ConfigError, match="probability=2"):
        CopyPaste(data, [np.array([0])], 2.0)
    with pytest.raises(DataError, match="no object to paste"):
        CopyPaste(data, [np.array([], dtype=np.int64)], 1.0)


@pytest.mark.parametrize("jitter", [(0.1, 0.3), (1.5, 2.0)])
def test_large_scale_jitter(jitter):
    augment = detection_train((16, 24), None, 0.0, jitter=jitter)
    sizes = set()
    for seed in range(30):
        torch.manual_seed(seed)
        found = augment(sample([[0, 0, 30, 20], [10, 5, 20, 15]], [0, 1]))
        height, width = found["image"].shape[-2:]
        sizes.add((height, width))
        assert max(height, width) <= 24 and found["masks"].shape[-2:] == (height, width)
        # the first object fills the image before and after
        assert found["boxes"][0].tolist() == [0, 0, width, height] and found["masks"][0].all()
        assert len(found["boxes"]) == len(found["labels"]) == len(found["masks"])
    if jitter[1] < 1:
        assert len(sizes) > 3 and max(width for _, width in sizes) <= 0.3 * 24 + 1
    else:
        assert sizes == {(24, 24)}


def test_colours_of_detection():
    torch.manual_seed(0)
    plain, distorted = (
        detection_train((20,), None, 0.0, photometric=p)(sample([[0, 0, 9, 9]], [0])) for p in (False, True)
    )
    assert plain["image"].shape == distorted["image"].shape
    assert not torch.allclose(plain["image"], distorted["image"])
    with pytest.raises(ConfigError, match="jitter"):
        detection_train((20,), None, jitter=(0.0, 2.0))
