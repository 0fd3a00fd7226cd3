"""Annotations to score detections against."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from longtail.errors import ConfigError, DataError
from longtail.frequency.groups import CategoryGroups
from longtail.metrics.detection_scorer import detection_prediction
from longtail.metrics.detection_truth import DetectionTruth
from support.slow_detection import arrays, evaluate, made, made_up, per_class, slow_ap


@pytest.mark.parametrize("key", ["neg_category_ids", "not_exhaustive_category_ids"])
def test_either_list_makes_a_file_federated_be_it_empty(key: str, tmp_path: Path) -> None:
    content, detections = made_up(0)
    path = tmp_path / "val.json"
    content["images"][1][key] = []
    path.write_text(json.dumps(content, indent=1))
    assert DetectionTruth(content).federated and DetectionTruth(path).federated
    assert DetectionTruth(path).only([content["images"][0]["id"]]).federated  # by its file's rules
    for image in content["images"]:
        image |= {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    truth = DetectionTruth(content)
    found = evaluate(truth, arrays(truth, detections, tmp_path))
    np.testing.assert_allclose(per_class(found), slow_ap(content, detections, True, 300), atol=1e-9)


def test_a_byte_order_mark_is_read_over(tmp_path: Path) -> None:
    (tmp_path / "val.json").write_text(json.dumps(made_up(0)[0]), encoding="utf-8-sig")
    assert DetectionTruth(tmp_path / "val.json").num_classes == 6


def test_groups_are_free_and_fall_back_to_the_file() -> None:
    content, _ = made_up(2)
    assert DetectionTruth(content).groups.names == ("rare", "common", "frequent")
    for c in content["categories"]:
        c.pop("frequency")
    assert DetectionTruth(content).groups.names == ("all",)
    for c, count in zip(content["categories"], (10, 11, 100, 101, 0, 1), strict=True):
        c["image_count"] = count
    truth = DetectionTruth(content)  # ids 9 2 4 7 30 11 become classes 3 0 1 2 5 4
    assert truth.groups.members == ((3, 4, 5), (0, 1), (2,))
    assert truth.frequency.images.tolist() == [11, 100, 101, 10, 1, 0]
    with pytest.raises(ConfigError, match="categories"):
        detection_prediction(truth, made([], [], [], []), CategoryGroups.explicit({"all": [0]}))


def test_refuses_annotations_without_their_category_or_image() -> None:
    content, _ = made_up(0)
    stray = {"id": 99, "image_id": 5, "category_id": 1, "bbox": [0, 0, 1, 1], "area": 1}
    with pytest.raises(DataError, match="annotation 99 of the annotations names category 1"):
        DetectionTruth({**content, "annotations": [stray]})
    with pytest.raises(DataError, match="image 6"):
        DetectionTruth({**content, "annotations": [{**stray, "category_id": 2, "image_id": 6}]})
    with pytest.raises(DataError, match="cannot read"):
        DetectionTruth("nowhere.json")


def test_truth_of_a_data_set_equals_that_of_its_content() -> None:
    from longtail.datasets.base import ClassInfo

    class Shapes:
        classes = ClassInfo(("a", "b"), ((0, 0, 0), (1, 1, 1)))
        transform = print  # would fail

        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> dict:
            assert self.transform is None
            masks = torch.zeros(1, 30, 40, dtype=torch.bool)
            masks[0, 2:12, 3:23] = True
            boxes = torch.tensor([[3.0, 2.0, 23.0, 12.0]])
            return {
                "image": torch.zeros(3, 30, 40, dtype=torch.uint8),
                "boxes": boxes,
                "labels": torch.tensor([index]),
                "masks": masks,
                "crowd": torch.tensor([False]),
                "image_id": index,
                "name": str(index),
            }

    truth = DetectionTruth.from_dataset(Shapes())
    from hotcoco import mask

    full = np.zeros((30, 40), np.uint8)
    full[2:12, 3:23] = 1
    masks = [mask.encode(np.asfortranarray(full))] * 2
    found = made([0, 1], [[3, 2, 23, 12]] * 2, [0.5, 0.5], [0, 1], masks)
    scores = detection_prediction(truth, found, iou_types=("bbox", "segm"))
    assert scores.overall["AP"] == pytest.approx(1) and scores.overall["mask_AP"] == pytest.approx(1)


def test_refuses_masks_of_annotations_that_cannot_be_read() -> None:
    content, _ = made_up(0)
    content["annotations"] = [{**content["annotations"][3], "segmentation": {"size": [200, 200], "counts": [5, 5]}}]
    with pytest.raises(DataError, match="mask of annotation 3 of the annotations: the run lengths cover 10 pixels"):
        DetectionTruth(content).check_masks()


def test_truth_of_some_images(tmp_path: Path) -> None:
    truth, detections = made_up(0)
    (tmp_path / "all.json").write_text(json.dumps(truth))
    wanted = [image["id"] for image in truth["images"][:3]]
    some = DetectionTruth(tmp_path / "all.json").only(wanted)
    assert some.image_ids.tolist() == sorted(wanted) and some.class_names == DetectionTruth(truth).class_names
    here = [d for d in detections if d["image_id"] in wanted]
    part = {
        **truth,
        "images": truth["images"][:3],
        "annotations": [a for a in truth["annotations"] if a["image_id"] in wanted],
    }
    run = evaluate(some, arrays(some, here, tmp_path))
    np.testing.assert_allclose(per_class(run), slow_ap(part, here, False, 100), atol=1e-12)


def test_counts_of_a_sample_are_not_taken_for_the_training_split() -> None:
    content, _ = made_up(2)
    for c in content["categories"]:
        c |= {"frequency": "f", "image_count": 200, "instance_count": 300}
    assert DetectionTruth(content).frequency.instances.tolist() == [300] * 6
    content["categories"][0]["image_count"] = 0  # of a frequent class
    truth = DetectionTruth(content)
    assert truth.foreign_counts and truth.frequency is None and truth.groups.names == ("rare", "common", "frequent")
    present = [a["category_id"] for a in content["annotations"] if not a.get("iscrowd")]
    expected = [present.count(i) for i in sorted(c["id"] for c in content["categories"])]
    assert truth.counted.instances.tolist() == expected
