import numpy as np
import pytest
from PIL import Image

from longtail.datasets import Cityscapes
from longtail.datasets.cityscapes import label_id_table
from longtail.errors import DataError
from longtail.frequency.count_pixels import count_pixels
from longtail.frequency.label_format import PLAIN


def add(root, split, name, values, kind="labelIds", source="gtFine"):
    city = name.split("_")[0]
    for folder, file, pixels in (
        ("leftImg8bit", f"{name}_leftImg8bit.png", np.zeros((*values.shape, 3), np.uint8)),
        (source, f"{name}_{source}_{kind}.png", values.astype(np.uint8)),
    ):
        path = root / folder / split / city / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def test_label_ids_become_the_19_train_ids(tmp_path):
    add(tmp_path, "train", "ulm_000000_000019", np.array([[7, 8, 33, 31, 0, 15, 29, 26]]))
    add(tmp_path, "train", "ulm_000000_000019", np.zeros((1, 8)), kind="instanceIds")  # further files of the city
    data = Cityscapes(tmp_path, "train")
    assert data.mask(0).tolist() == [[0, 1, 18, 16, 255, 255, 255, 13]] and data[0]["name"] == "ulm/ulm_000000_000019"
    assert data.classes.num_classes == 19 and data.classes.names[16] == "train"
    frequency = count_pixels(data)
    assert frequency.pixels[[0, 1, 13, 16, 18]].tolist() == [1] * 5 and frequency.ignored_pixels == 3


def test_train_ids_are_taken_as_they_are(tmp_path):
    add(tmp_path, "val", "bonn_0_0", np.array([[0, 18, 255]]), kind="labelTrainIds")
    assert Cityscapes(tmp_path, "val").mask(0).tolist() == [[0, 18, 255]]
    add(tmp_path, "val", "bonn_0_0", np.array([[7, 33, 4]]))
    assert Cityscapes(tmp_path, "val").mask(0).tolist() == [[0, 18, 255]]
    assert Cityscapes(tmp_path, "val", labels="labelTrainIds").label_format is PLAIN


def test_coarse(tmp_path):
    add(tmp_path, "train_extra", "bonn_0_0", np.array([[11, 0]]), source="gtCoarse")
    assert Cityscapes(tmp_path, "train_extra", annotation="coarse").mask(0).tolist() == [[2, 255]]
    with pytest.raises(DataError, match="gtFine"):
        Cityscapes(tmp_path, "train_extra")


def test_unknown_ids_and_missing_labels_are_named(tmp_path):
    add(tmp_path, "train", "ulm_0_0", np.array([[34, 7]]))
    with pytest.raises(DataError, match=r"ulm_0_0_gtFine_labelIds\.png holds value 34"):
        Cityscapes(tmp_path, "train").mask(0)
    add(tmp_path, "train", "ulm_0_1", np.array([[7]]))
    (tmp_path / "gtFine/train/ulm/ulm_0_1_gtFine_labelIds.png").unlink()
    with pytest.raises(DataError, match=r"1 image without label.*ulm/ulm_0_1"):
        Cityscapes(tmp_path, "train")
    (tmp_path / "gtFine/train/ulm/ulm_0_0_gtFine_labelIds.png").unlink()
    with pytest.raises(DataError, match=r"no \*_gtFine_labelIds"):
        Cityscapes(tmp_path, "train")


def test_the_table_has_15_ignored_ids_and_19_classes():
    table = label_id_table()
    assert (table[:34] == 255).sum() == 15 and sorted(table[table < 19][table[table < 19] >= 0]) == list(range(19))
    assert (table[34:255] == -1).all() and table[255] == 255
