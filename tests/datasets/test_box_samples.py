from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from longtail.datasets import open_dataset
from longtail.datasets.box_samples import BoxSamples
from longtail.errors import DataError
from longtail.frequency.count_instances import count_instances
from longtail.metrics.detection_truth import DetectionTruth

PHOTO = Image.new("RGB", (40, 30), (9, 8, 7))
NAMES = ("cat", "dog")


def pairs() -> list[tuple[Any, dict[str, Any]]]:
    """As torchvision's detectors take them, an empty image among them."""
    pixels = torch.zeros((3, 30, 40), dtype=torch.uint8)
    first = {"boxes": torch.tensor([[2.0, 3, 12, 8], [0, 0, 60, 30]]), "labels": torch.tensor([1, 0])}
    return [(pixels, first), (pixels, {"boxes": torch.zeros((0, 4)), "labels": torch.zeros(0, dtype=torch.int64)})]


def test_pairs_of_torchvision() -> None:
    data = BoxSamples(pairs(), NAMES)
    sample = data[0]
    assert sample["boxes"].tolist() == [[2, 3, 12, 8], [0, 0, 40, 30]] and sample["labels"].tolist() == [1, 0]
    assert data[1]["boxes"].shape == (0, 4) and not data[1]["crowd"].numel()
    assert count_instances(data).instances.tolist() == [1, 1] and count_instances(data).num_images == 2
    assert len(DetectionTruth.from_dataset(data).objects(np.arange(2), with_masks=False).labels) == 2
    assert data.fingerprint != BoxSamples(pairs(), ("cat", "cow")).fingerprint


def test_objects_of_hugging_face() -> None:
    objects = {"bbox": [[2, 3, 10, 5], [0, 0, 0, 9]], "category": [0, 1], "iscrowd": [0, 0]}
    mapping = {"image": PHOTO, "image_id": 4, "objects": objects}
    listed = {"image": PHOTO, "objects": [{"bbox": [2, 3, 10, 5], "category": 0}]}
    data = BoxSamples([mapping, listed, {"image": PHOTO, "objects": []}], NAMES)
    assert data[0]["boxes"].tolist() == data[1]["boxes"].tolist() == [[2, 3, 12, 8]]  # one without an area is left out
    assert [labels.tolist() for labels in data.image_labels] == [[0], [0], []] and not len(data[2]["labels"])


def test_masks_and_crowd() -> None:
    masks = np.zeros((2, 30, 40), bool)
    masks[0, 3:8, 2:12] = True
    target = {"boxes": [[2, 3, 12, 8], [0, 0, 5, 5]], "labels": [1, 2], "masks": masks, "iscrowd": [0, 1]}
    data = BoxSamples([(PHOTO, target)], NAMES, first_label=1)
    sample = data[0]
    assert sample["masks"].sum() == 50 and sample["crowd"].tolist() == [False, True]
    assert sample["labels"].tolist() == [0, 1] and data.image_labels[0].tolist() == [0]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ({"boxes": [[1, 2, 3]], "labels": [0]}, "has boxes"),
        ({"boxes": [[1, 2, 3, 4, 5, 6, 7, 8]], "labels": [0, 1]}, "has boxes"),
        ({"boxes": [[1, 2, 3, 4]], "labels": [0, 1]}, "has boxes"),
        ({"boxes": [[1, 2, 3, float("nan")]], "labels": [0]}, "has boxes"),
        ({"boxes": [[1, 2, 3, 4]], "labels": [2]}, "set first_label to 1"),
        ({"boxes": [[1, 2, 3, 4]], "labels": [0.5]}, "no whole numbers"),
        ({"boxes": [[9, 2, 3, 4]], "labels": [0]}, "ends before it begins"),
        ({"boxes": [[50, 2, 60, 4]], "labels": [0]}, "outside of its image"),
        ({"boxes": [[1, 2, 3, 4]]}, "has no labels"),
        ({"labels": [1]}, "has no boxes"),
        ({"boxes": [["a", 2, 3, 4]], "labels": [0]}, "no numbers"),
        ({"boxes": [[1, 2, 3, 4]], "labels": [0], "masks": np.zeros((1, 4, 4))}, "masks of sample 0"),
    ],
)
def test_samples_that_are_refused(target: dict, words: str) -> None:
    with pytest.raises(DataError, match=words):
        BoxSamples([(PHOTO, target)], NAMES)[0]


def test_a_data_set_on_disk(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    label = datasets.ClassLabel(names=list(NAMES))
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "objects": {
                "bbox": datasets.Sequence(datasets.Sequence(datasets.Value("float32"))),
                "category": datasets.Sequence(label),
            },
        }
    )
    rows = {
        "image": [PHOTO, PHOTO],
        "objects": [{"bbox": [[2, 3, 10, 5]], "category": [1]}, {"bbox": [], "category": []}],
    }
    split = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict(train=split, validation=split).save_to_disk(str(tmp_path / "saved"))
    data = open_dataset(f"hf:{tmp_path / 'saved'}", "val", task="detection")
    assert data.classes.names == NAMES and data[0]["boxes"].tolist() == [[2, 3, 12, 8]]
    for name in (f"hf:{tmp_path / 'saved'}", tmp_path / "saved"):  # no task is said: the features tell it
        assert isinstance(open_dataset(name, "train"), BoxSamples)
    assert count_instances(data).instances.tolist() == [0, 1]
    in_memory = BoxSamples(split, NAMES)
    assert in_memory.image_labels[0].tolist() == [1] and len(in_memory[1]["labels"]) == 0
