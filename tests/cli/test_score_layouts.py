"""Detections are scored against, and predicted with the ids of, every layout of boxes."""

import json
from pathlib import Path

import pytest

from longtail.annotations.read import annotation_table
from longtail.cli import main
from longtail.datasets import open_dataset
from longtail.errors import DataError
from longtail.metrics.results import Results
from longtail.training.predict_detection import image_ids
from support.detection_layouts import CLASSES, LAYOUTS, OBJECTS, cvat


def perfect(root: Path, name_of=lambda path: path.stem) -> list[dict]:
    """Every object of the validation split, found; images by name, categories as the data set has them."""
    data = open_dataset(root, "val")
    found = []
    for file in data.image_files:
        for name, left, top, right, bottom in OBJECTS[next(n for n in OBJECTS if n in file.stem)]:
            category = int(data.category_ids[CLASSES.index(name)])
            box = [left, top, right - left, bottom - top]
            found.append({"image_id": name_of(file), "category_id": category, "score": 0.9, "bbox": box})
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_truth(layout: str, tmp_path: Path) -> None:
    root, file = tmp_path / "data", tmp_path / "found.json"
    root.mkdir()
    LAYOUTS[layout][0](root)
    data = open_dataset(root, "val")
    if data.file.ids_of_names:
        found = perfect(root)
    else:
        ids = dict(zip(data.image_files, data.image_ids, strict=True))
        found = perfect(root, ids.__getitem__)
    file.write_text(json.dumps(found))
    words = ["score", "detection", "--data", str(root), "--detections", str(file), "--out", str(tmp_path / "r.json")]
    assert main(words) == 0
    results = Results.load(tmp_path / "r.json")
    assert results.own.overall["AP"] == pytest.approx(1) and results.data["images"] == len(data)
    # what predict would write
    ids = image_ids({path.stem: path for path in data.image_files}, data.file)
    assert list(ids.values()) == data.image_ids


def test_images_of_a_layout_without_ids_are_not_taken_by_number(tmp_path: Path, capsys) -> None:
    LAYOUTS["yolo"][0](tmp_path)
    found = perfect(tmp_path)
    numbered = [{**d, "image_id": place} for place, d in enumerate(found)]
    (tmp_path / "found.json").write_text(json.dumps(numbered))
    words = ["score", "detection", "--detections", str(tmp_path / "found.json")]
    assert main([*words, "--data", str(tmp_path)]) == 2
    assert "give the file name of each image as image_id" in capsys.readouterr().err
    (tmp_path / "found.json").write_text(json.dumps([{**found[0], "image_id": "no such"}, *found[1:]]))
    assert main([*words, "--data", str(tmp_path)]) == 2
    assert "detections[0]" in capsys.readouterr().err
    assert main([*words, "--data", str(tmp_path), "--annotations", "x.json"]) == 2
    assert main(words) == 2
    assert "--annotations or as --data" in capsys.readouterr().err


def test_a_file_name_that_contradicts_the_id_is_refused(tmp_path: Path, capsys) -> None:
    cvat(tmp_path)
    data = open_dataset(tmp_path, "val")
    ids = dict(zip(data.image_files, data.image_ids, strict=True))
    names = {identity: file.name for file, identity in ids.items()}
    found = perfect(tmp_path, ids.__getitem__)
    words = ["score", "detection", "--data", str(tmp_path), "--detections", str(tmp_path / "found.json")]
    (tmp_path / "found.json").write_text(json.dumps([{**d, "file_name": names[d["image_id"]]} for d in found]))
    assert main(words) == 0
    (tmp_path / "found.json").write_text(json.dumps([{**found[0], "file_name": "other.jpg"}, *found[1:]]))
    capsys.readouterr()
    assert main(words) == 2
    assert "is of other.jpg, but its image_id" in capsys.readouterr().err


def test_ids_of_names(tmp_path: Path) -> None:
    LAYOUTS["yolo"][0](tmp_path)
    whole, val = open_dataset(tmp_path, "train"), open_dataset(tmp_path, "val")
    assert len({*whole.image_ids, *val.image_ids}) == len(whole) + len(val)
    assert min(val.image_ids) > 2**32  # no count from 0 or 1 can be one of them
    for number, file in enumerate(sorted(tmp_path.rglob("*.*"))):
        if file.suffix == ".jpg":
            label = next(tmp_path.rglob(f"{file.stem}.txt"), None)
            for path in filter(None, (file, label)):
                path.rename(path.with_stem(f"{number:06d}"))
    assert max(open_dataset(tmp_path, "val").image_ids) < 1000


def test_an_image_that_is_listed_twice(tmp_path: Path) -> None:
    LAYOUTS["voc"][0](tmp_path)
    listing = next(tmp_path.rglob("val.txt"))
    listing.write_text(listing.read_text().strip() + "\n" + listing.read_text())
    with pytest.raises(DataError, match="is listed twice"):
        open_dataset(tmp_path, "val")
    assert not annotation_table({"images": [], "annotations": [], "categories": []}, "x").ids_of_names
