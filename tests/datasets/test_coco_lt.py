import json
from pathlib import Path

import numpy as np
import pytest

from longtail.annotations.read import read_coco_file
from longtail.datasets.coco_lt import aligned_targets, build_coco_lt, choose_images
from longtail.errors import ConfigError


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    """2000 images of 20 classes, of which the first occurs most, and one crowd region."""
    rng = np.random.default_rng(0)
    share = 1 / np.arange(1, 21) ** 0.7
    records, images = [], []
    for image in range(2000):
        images.append({"id": image * 3, "width": 10, "height": 10, "file_name": f"{image:05d}.jpg"})
        for c in rng.choice(20, rng.integers(1, 6), p=share / share.sum()):
            records.append({"id": len(records), "image_id": image * 3, "category_id": int(c) + 5, "bbox": [0, 0, 5, 5]})
    records.append({"id": 10**6, "image_id": 0, "category_id": 6, "bbox": [0, 0, 5, 5], "iscrowd": 1})
    path = tmp_path / "all.json"
    categories = [{"id": c + 5, "name": f"c{c}"} for c in range(20)]
    path.write_text(json.dumps({"images": images, "annotations": records, "categories": categories}))
    return path


REFERENCE = (20000 / np.arange(1, 1204) ** 0.9).astype(int) + 1


def test_targets_by_hand() -> None:
    counts = np.array([50, 1000, 200, 0])
    assert aligned_targets(counts, np.array([1, 7, 900, 30, 3, 100, 2]), "top").tolist() == [30, 900, 100, 0]
    # ranks 0, 2, 4, 6 of 900 100 30 7 3 2 1: the class that never occurs takes the last
    assert aligned_targets(counts, np.array([1, 7, 900, 30, 3, 100, 2])).tolist() == [3, 900, 30, 0]
    assert aligned_targets(np.array([4, 2]), np.array([100, 100, 100])).tolist() == [4, 2]
    with pytest.raises(ConfigError):
        aligned_targets(counts, np.array([1, 2]), "top")


def test_targets_are_met_within_one_image(annotations: Path) -> None:
    file = read_coco_file(annotations)
    subset = choose_images(file, REFERENCE, free=5)
    heeded = ~subset.free
    assert subset.free.sum() == 5 and subset.free[np.argsort(-subset.source)[:5]].all()
    assert (subset.result[heeded] >= subset.target[heeded]).all()
    # at most what one image holds of a class beyond the target
    assert (subset.result[heeded] - subset.target[heeded] <= 4).all()
    assert 0 < len(subset.image_ids) < 2000
    order = np.argsort(-subset.target[heeded])
    assert subset.result[heeded][order][0] > 3 * subset.result[heeded][order][-1]


def test_the_seed_decides(annotations: Path) -> None:
    file = read_coco_file(annotations)
    first, again, other = (choose_images(file, REFERENCE, seed=s, free=5).image_ids for s in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_writes_a_data_set(annotations: Path, tmp_path: Path) -> None:
    subset = build_coco_lt(annotations, REFERENCE, tmp_path / "lt", free=5)
    written = read_coco_file(tmp_path / "lt/train.json")
    assert sorted(i["id"] for i in written.images) == subset.image_ids.tolist()
    counts = np.bincount(written.labels[~written.crowd], minlength=20)
    assert counts.tolist() == subset.result.tolist() == [c["instance_count"] for c in written.categories]
    names = (tmp_path / "lt/images.txt").read_text().split()
    assert len(names) == len(subset.image_ids) and names[0].endswith(".jpg")
    record = json.loads((tmp_path / "lt/counts.json").read_text())
    assert record["images"] == len(names) and record["instances"] == sum(record["result"])
    assert len(record["source"]) == len(record["target"]) == 20


def test_free_classes_are_filled_last(annotations: Path) -> None:
    file = read_coco_file(annotations)
    subset = choose_images(file, REFERENCE, free=5)
    assert (subset.result[~subset.free] - subset.target[~subset.free] <= 4).all()  # no other overflows for them
    owner = np.repeat(np.arange(len(file.images)), np.diff(file.first))[~file.crowd]
    contents = np.zeros((len(file.images), 20), dtype=int)
    np.add.at(contents, (owner, file.labels[~file.crowd]), 1)
    left = contents[~np.isin([image["id"] for image in file.images], subset.image_ids)]
    for wanted in np.flatnonzero(subset.result < subset.target):
        over = (left > 0) & (subset.result + left > subset.target)
        over[:, wanted] = False
        assert over[left[:, wanted] > 0].any(axis=1).all()  # each image that is left would make another class overflow


def test_refuses_to_choose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "all.json"
    path.write_text(json.dumps({"images": [{"id": 1}], "annotations": [], "categories": [{"id": 5, "name": "a"}]}))
    with pytest.raises(ConfigError, match=r"no image of .*all\.json has an object"):
        build_coco_lt(path, REFERENCE, tmp_path / "lt")
    assert not (tmp_path / "lt").exists()


def test_reference_from_an_annotation_file(annotations: Path, tmp_path: Path) -> None:
    file = read_coco_file(annotations)
    counts = np.bincount(file.labels[~file.crowd], minlength=20)
    by_file = build_coco_lt(annotations, annotations, tmp_path / "a")
    by_counts = build_coco_lt(annotations, counts.tolist(), tmp_path / "b")
    assert by_file.target.tolist() == by_counts.target.tolist() == counts.tolist()
