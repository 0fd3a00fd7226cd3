import pytest
import torch
from torchvision import tv_tensors
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler

from longtail.detection.targets import IGNORED, Objects, assign, clean_objects, relabel_stage, sample, sample_stage
from longtail.errors import DataError

from .conftest import NUM_CLASSES, tiny_config

NOBODY = torch.zeros(0, 4)
CPU = torch.device("cpu")


def objects(boxes, labels, crowd=NOBODY) -> Objects:
    return Objects(torch.tensor(boxes).reshape(-1, 4), torch.tensor(labels, dtype=torch.int64), crowd)


def test_assign_at_the_threshold():
    one = objects([[0.0, 0.0, 10.0, 10.0]], [2])
    proposals = torch.tensor([[0.0, 0.0, 10.0, 5.0], [0.0, 0.0, 10.0, 4.9], [50.0, 50.0, 60.0, 60.0]])
    labels, matched = assign(proposals, one, 0.5, NUM_CLASSES, 0.5)
    assert labels.tolist() == [2, 3, 3] and matched.tolist() == [0, 0, 0]


def test_assign_takes_the_best_object():
    two = objects([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 8.0]], [0, 1])
    labels, matched = assign(torch.tensor([[0.0, 0.0, 10.0, 8.5]]), two, 0.5, NUM_CLASSES, 0.5)
    assert labels.tolist() == [1] and matched.tolist() == [1]


def test_crowd_is_neither_target_nor_negative():
    crowd = torch.tensor([[0.0, 0.0, 40.0, 40.0]])
    image = objects([[0.0, 0.0, 10.0, 10.0]], [0], crowd)
    proposals = torch.tensor([[0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0], [35.0, 35.0, 60.0, 60.0]])
    assert assign(proposals, image, 0.5, NUM_CLASSES, 0.5)[0].tolist() == [0, IGNORED, 3]


@pytest.mark.parametrize("image", [objects([], []), objects([[0.0, 0.0, 5.0, 5.0]], [1])])
def test_assign_without_objects_or_proposals(image):
    labels, matched = assign(NOBODY, image, 0.5, NUM_CLASSES, 0.5)
    assert labels.shape == matched.shape == (0,)
    labels, _ = assign(torch.tensor([[70.0, 70.0, 80.0, 80.0]]), image, 0.5, NUM_CLASSES, 0.5)
    assert labels.tolist() == [NUM_CLASSES]


@pytest.mark.parametrize("positives, negatives", [(100, 200), (3, 200), (100, 5), (0, 7), (0, 0)])
def test_sample_is_torchvisions(positives, negatives):
    labels = torch.cat([torch.full((positives,), 1), torch.full((negatives,), 3), torch.full((9,), IGNORED)])
    labels = labels[torch.randperm(len(labels))]
    torch.manual_seed(5)
    mine = sample(labels, 64, 0.25, background=3)
    torch.manual_seed(5)
    positive, negative = BalancedPositiveNegativeSampler(64, 0.25)([torch.where(labels == 3, 0, labels)])
    assert mine.sort().values.tolist() == torch.where(positive[0] | negative[0])[0].tolist()
    assert len(mine) == min(positives, 16) + min(negatives, 64 - min(positives, 16))


def test_sampling_adds_the_objects_and_relabelling_does_not():
    image = objects([[0.0, 0.0, 10.0, 10.0]], [1])
    far = torch.tensor([[50.0, 50.0, 60.0, 60.0]])
    drawn = sample_stage([far], [image], tiny_config(), 0)
    assert drawn.labels[0].tolist() == [1, 3] and drawn.added[0].tolist() == [True, False]
    kept = relabel_stage([far], [image], tiny_config(), 0)
    assert kept.labels[0].tolist() == [3] and kept.added[0].tolist() == [False]


def test_relabelling_uses_the_stage_threshold_and_drops_crowd():
    image = objects([[0.0, 0.0, 10.0, 10.0]], [1], torch.tensor([[50.0, 50.0, 70.0, 70.0]]))
    boxes = torch.tensor([[0.0, 0.0, 10.0, 6.5], [50.0, 50.0, 60.0, 60.0]])
    found = [relabel_stage([boxes], [image], tiny_config(), k).labels[0].tolist() for k in range(3)]
    assert found == [[1], [1], [3]]


def test_clean_objects_clips_and_drops():
    target = {
        "boxes": tv_tensors.BoundingBoxes(
            [[-5, -5, 5, 5], [30, 30, 40, 40], [3, 3, 4, 4], [0, 0, 9, 9], [7, 7, 7, 9]],
            format="XYXY",
            canvas_size=(20, 20),
        ),
        "labels": torch.tensor([0, 1, 2, 0, 1]),
        "crowd": torch.tensor([False, False, False, True, False]),
        "masks": torch.arange(5)[:, None, None].expand(5, 20, 20) % 2 == 0,
    }
    cleaned = clean_objects(target, (20, 20), NUM_CLASSES, CPU)
    assert cleaned.boxes.tolist() == [[0, 0, 5, 5], [3, 3, 4, 4]]  # outside, crowd and flat ones are gone
    assert cleaned.labels.tolist() == [0, 2]
    assert cleaned.crowd.tolist() == [[0, 0, 9, 9]]
    assert cleaned.masks.shape == (2, 20, 20) and cleaned.masks.all()
    assert type(cleaned.boxes) is torch.Tensor


@pytest.mark.parametrize("label", [-1, NUM_CLASSES])
def test_labels_out_of_range_are_refused(label):
    target = {"boxes": torch.tensor([[0.0, 0.0, 5.0, 5.0]]), "labels": torch.tensor([label])}
    with pytest.raises(DataError, match=f"labels {label}"):
        clean_objects(target, (20, 20), NUM_CLASSES, CPU)


@pytest.mark.parametrize("key, value", [("labels", torch.zeros(1, dtype=torch.int64)), ("crowd", torch.zeros(3))])
def test_unequal_numbers_are_refused(key, value):
    target = {"boxes": torch.ones(2, 4), "labels": torch.zeros(2, dtype=torch.int64), key: value}
    with pytest.raises(DataError, match="2 boxes but"):
        clean_objects(target, (20, 20), NUM_CLASSES, CPU)
