import json

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

from longtail.datasets.coco import Coco
from longtail.datasets.longtail_scenes import LongTailScenes
from longtail.datasets.semantic_maps import paint_semantic_map, read_semantic_map
from longtail.errors import ConfigError, DataError
from longtail.transforms import detection_train
from support.tiny_detection import write_coco


def with_polygons(folder) -> None:
    """Every box as its polygon."""
    file = folder / "annotations/val.json"
    content = json.loads(file.read_text())
    for a in content["annotations"]:
        x, y, w, h = a["bbox"]
        a["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    file.write_text(json.dumps(content))


def test_smaller_objects_lie_on_larger_ones():
    masks = np.zeros((3, 4, 5), dtype=bool)
    masks[0, 1:3, 1:3] = True
    masks[1, :, :4] = True
    masks[2, 3, 3] = True
    painted = paint_semantic_map(masks, np.array([7, 2, 0]), 9)
    assert painted.tolist() == [[2, 2, 2, 2, 9], [2, 7, 7, 2, 9], [2, 7, 7, 2, 9], [2, 2, 2, 0, 9]]
    assert paint_semantic_map(masks[:0], np.zeros(0, dtype=np.int64), 9).tolist() == [[9] * 5] * 4
    assert paint_semantic_map(masks, np.array([7, 2, 0]), 254)[0, 4] == 254
    with pytest.raises(ConfigError, match="255 classes and the background"):
        paint_semantic_map(masks, np.array([7, 2, 0]), 255)


def test_maps_of_a_folder_and_from_objects(tmp_path):
    write_coco(tmp_path, "val")
    with pytest.raises(DataError, match="no masks to paint"):
        Coco(tmp_path, "val", semantic="objects", masks=False)
    with_polygons(tmp_path)
    plain = Coco(tmp_path, "val")
    assert "semantic" not in plain[0]
    sample = Coco(tmp_path, "val", semantic="objects")[0]
    union = sample["masks"].any(dim=0)
    assert isinstance(sample["semantic"], tv_tensors.Mask)
    assert torch.equal(sample["semantic"] == 3, ~union) and union.any()
    values = np.arange(40 * 60, dtype=np.uint8).reshape(40, 60)
    (tmp_path / "stuff/val").mkdir(parents=True)
    Image.fromarray(values).save(tmp_path / "stuff/val/picture 0.png")
    data = Coco(tmp_path, "val", semantic="stuff")
    assert np.array_equal(data[0]["semantic"], values)
    with pytest.raises(DataError, match="picture 1"):
        data[1]
    Image.fromarray(values).save(tmp_path / "stuff/picture 1.png")
    with pytest.raises(DataError, match=r"is \(40, 60\), its image \(44, 56\)"):
        data[1]
    (tmp_path / "stuff/val/picture 0.png").rename(tmp_path / "stuff/picture 0.png")  # all in one place
    assert np.array_equal(read_semantic_map(tmp_path / "stuff", "val/picture 0.png", (40, 60)), values)


def test_scenes_give_both_and_transforms_move_them_together():
    scenes = LongTailScenes("val", num_images=3, size=(48, 64), task="detection", semantic=True)
    segmented = LongTailScenes("val", num_images=3, size=(48, 64))
    assert np.array_equal(scenes[1]["semantic"], segmented.mask(1))
    scenes.transform = detection_train([96], None, flip=1.0)
    sample = scenes[1]
    assert sample["semantic"].shape == (96, 128) == sample["image"].shape[-2:]
    for mask, label in zip(sample["masks"], sample["labels"], strict=True):
        assert (sample["semantic"][mask] == label + 4).all()  # after four surroundings
