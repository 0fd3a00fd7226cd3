import pytest
import torch
from torchvision import tv_tensors

from longtail.datasets import LongTailScenes
from longtail.errors import ConfigError
from longtail.transforms import detection_eval, detection_train
from longtail.transforms.detection import DropVanished, ResizeShortSide


def scene(boxes, size=(60, 100)) -> dict:
    """A sample whose masks fill their boxes and whose labels number them."""
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    masks = torch.zeros(len(boxes), *size, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = True
    return {
        "image": tv_tensors.Image(torch.zeros(3, *size, dtype=torch.uint8)),
        "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size),
        "labels": torch.arange(len(boxes)),
        "masks": tv_tensors.Mask(masks),
        "crowd": torch.arange(len(boxes)) % 2 == 1,
        "image_id": 7,
        "name": "x",
    }


def box_of(mask: torch.Tensor) -> torch.Tensor:
    rows, columns = torch.where(mask)
    return torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()


def test_everything_is_scaled_and_flipped_together():
    transform = detection_train((90,), None, flip=1)
    out = transform(scene([[10, 20, 30, 40], [0, 0, 100, 60]]))
    assert out["image"].shape == (3, 90, 150) and out["image"].dtype == torch.float32
    assert out["boxes"].tolist() == [[105, 30, 135, 60], [0, 0, 150, 90]]
    assert out["masks"].shape == (2, 90, 150) and out["masks"].dtype == torch.bool
    assert all(torch.equal(box_of(m), b) for m, b in zip(out["masks"], out["boxes"], strict=True))
    assert out["original_size"] == (60, 100) and out["image_id"] == 7 and out["name"] == "x"
    assert out["labels"].tolist() == [0, 1] and out["crowd"].tolist() == [False, True]
    assert isinstance(out["boxes"], tv_tensors.BoundingBoxes) and out["boxes"].canvas_size == (90, 150)
    assert isinstance(out["masks"], tv_tensors.Mask)


def test_masks_stay_in_their_boxes_on_scenes():
    data = LongTailScenes(num_images=20, task="detection", transform=detection_train((96, 160, 200), 300))
    for sample in data:
        assert sample["masks"].shape[-2:] == sample["image"].shape[-2:] == sample["boxes"].canvas_size
        for mask, box in zip(sample["masks"], sample["boxes"].as_subclass(torch.Tensor), strict=True):
            assert (box_of(mask) - box).abs().max() <= 1


def test_without_objects_and_without_masks():
    out = detection_train((30,))(scene([]))
    assert out["boxes"].shape == (0, 4) and out["masks"].shape == (0, 30, 50) and out["image"].shape == (3, 30, 50)
    boxes_only = scene([[1, 1, 50, 50]])
    del boxes_only["masks"]
    assert "masks" not in detection_train((30,))(boxes_only)


def test_sizes_are_drawn_and_limited():
    drawn = {tuple(ResizeShortSide((30, 45, 60), 75)(scene([]))["image"].shape[-2:]) for _ in range(60)}
    assert drawn == {(30, 50), (45, 75)}


def test_vanished_objects_leave_all_fields_alike():
    boxes = [[0, 0, 20, 20], [5, 5, 6, 40], [30, 30, 50, 50], [60, 50, 99, 51]]
    out = detection_train((30,), flip=0)(scene(boxes))
    assert out["labels"].tolist() == [0, 2] and out["crowd"].tolist() == [False, False]
    assert out["boxes"].tolist() == [[0, 0, 10, 10], [15, 15, 25, 25]] and out["masks"].shape == (2, 30, 50)
    assert isinstance(out["boxes"], tv_tensors.BoundingBoxes) and out["boxes"].canvas_size == (30, 50)
    assert isinstance(out["masks"], tv_tensors.Mask)


def test_all_objects_may_vanish():
    out = DropVanished()(scene([[5, 5, 5, 9]]))
    assert out["boxes"].shape == (0, 4) and out["masks"].shape == (0, 60, 100) and out["labels"].shape == (0,)


def test_eval_keeps_every_object():
    out = detection_eval(30)(scene([[5, 5, 6, 40]]))
    assert out["boxes"].tolist() == [[2.5, 2.5, 3, 20]] and out["original_size"] == (60, 100)
    assert out["image"].shape == (3, 30, 50)


def test_randomness_is_that_of_torch():
    transform = detection_train((30, 40, 50, 60, 70))
    outs = []
    for _ in range(2):
        torch.manual_seed(11)
        outs.append([transform(scene([[1, 2, 30, 40]]))["boxes"].tolist() for _ in range(6)])
    assert outs[0] == outs[1] and len({str(b) for b in outs[0]}) > 2


@pytest.mark.parametrize("sides", [(), (0,)])
def test_impossible_sides_are_refused(sides):
    with pytest.raises(ConfigError, match="short_sides"):
        detection_train(sides)
