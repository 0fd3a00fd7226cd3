import json
from pathlib import Path

import pytest
from PIL import Image

from longtail.datasets.lvis import Lvis
from longtail.errors import DataError
from longtail.frequency.count_instances import count_instances
from longtail.metrics.detection_truth import DetectionTruth


def write(root: Path, version: str) -> None:
    url = "http://images.cocodataset.org"
    content = {
        "images": [
            {"id": 1, "width": 8, "height": 6, "coco_url": f"{url}/val2017/1.jpg", "neg_category_ids": [30, 10]},
            {
                "id": 2,
                "width": 8,
                "height": 6,
                "coco_url": f"{url}/train2017/2.jpg",  # LVIS v1's val has images of train2017
                "neg_category_ids": [],
                "not_exhaustive_category_ids": [20],
            },
        ],
        "categories": [
            {"id": 30, "name": "c", "frequency": "f", "image_count": 101, "instance_count": 200},
            {"id": 10, "name": "a", "frequency": "r", "image_count": 10, "instance_count": 11},
            {"id": 20, "name": "b", "frequency": "c", "image_count": 100, "instance_count": 12},
        ],
        "annotations": [
            {"id": 1, "image_id": 2, "category_id": 20, "bbox": [0, 0, 4, 4], "segmentation": [[0, 0, 4, 0, 4, 4]]}
        ],
    }
    if version == "v0.5":
        content["images"][0]["file_name"] = "COCO_val2014_000000000001.jpg"
    for image in content["images"]:
        path = root / "/".join(image["coco_url"].split("/")[-2:])
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 6)).save(path)
    (root / f"lvis_{version}_val.json").write_text(json.dumps(content))


@pytest.mark.parametrize("version", ["v1", "v0.5"])
def test_federated_fields_and_folders(version: str, tmp_path: Path) -> None:
    write(tmp_path, version)
    dataset = Lvis(tmp_path, "val", version=version)
    assert [f.parent.name for f in dataset.image_files] == ["val2017", "train2017"]
    looked_for = [dataset.file.classes_looked_for(index) for index in (0, 1)]
    assert [classes["neg_category_ids"] for classes in looked_for] == [[0, 2], []]
    assert [classes["not_exhaustive_category_ids"] for classes in looked_for] == [[], [1]]
    truth = DetectionTruth.from_dataset(dataset)
    assert truth.frequency.images.tolist() == [10, 100, 101]
    assert truth.groups.to_dict() == {"rare": [0], "common": [1], "frequent": [2]}
    assert dataset[1]["labels"].tolist() == [1] and dataset[1]["masks"].any()
    assert count_instances(dataset).images.tolist() == [0, 1, 0]


def test_annotations_beside_or_below(tmp_path: Path) -> None:
    write(tmp_path, "v1")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "lvis_v1_val.json").rename(tmp_path / "annotations/lvis_v1_val.json")
    assert len(Lvis(tmp_path, "val")) == 2
    with pytest.raises(DataError, match=r"annotations.lvis_v1_train"):
        Lvis(tmp_path, "train")


def test_real_annotations(real_data: Path) -> None:
    folder = real_data / "lvis_sample"
    if not folder.exists():
        pytest.skip(f"{folder} is absent")
    dataset = Lvis(folder, "val", version="v0.5", annotations="lvis_val_100.json", check_files=False)
    assert dataset.classes.num_classes == 1230 and len(dataset) == 100
    assert count_instances(dataset).instances.sum() == 977
    assert sum(len(dataset.file.classes_looked_for(i)["neg_category_ids"]) for i in range(100)) > 100
    assert dataset.image_files[0].parent.name == "val2017"
    place = dataset.file.of_image(0)[:1]
    size = (dataset.file.images[0]["height"], dataset.file.images[0]["width"])
    assert dataset.file.masks(place, size).sum() > 0
