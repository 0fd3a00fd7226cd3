import numpy as np
import pytest
from PIL import Image

from longtail.datasets import ADE20K
from longtail.errors import DataError
from longtail.frequency.count_pixels import count_pixels


@pytest.fixture
def root(tmp_path):
    for split in ("training", "validation"):
        for folder in ("images", "annotations"):
            (tmp_path / folder / split).mkdir(parents=True)
        Image.new("RGB", (3, 1)).save(tmp_path / "images" / split / "ADE_1.jpg")
        Image.fromarray(np.array([[0, 1, 150]], np.uint8)).save(tmp_path / "annotations" / split / "ADE_1.png")
    return tmp_path


@pytest.mark.parametrize("split", ["train", "training", "val", "validation"])
def test_zero_is_ignored_and_the_rest_moves_down(root, split):
    data = ADE20K(root, split)
    assert data.mask(0).tolist() == [[255, 0, 149]]
    frequency = count_pixels(data)
    assert frequency.pixels[[0, 149]].tolist() == [1, 1] and frequency.ignored_pixels == 1


def test_the_folder_above_will_do(root, tmp_path_factory):
    above = tmp_path_factory.mktemp("above")
    root.rename(above / "ADEChallengeData2016")
    assert len(ADE20K(above)) == 1


def test_150_names_and_colours(root):
    classes = ADE20K(root).classes
    assert len(set(classes.names)) == len(classes.palette) == 150
    assert (classes.names[0], classes.names[57], classes.names[149]) == ("wall", "pillow", "flag")
    assert classes.palette[0] == (120, 120, 120)


def test_what_must_not_occur_is_named(root):
    Image.fromarray(np.array([[0, 1, 151]], np.uint8)).save(root / "annotations/training/ADE_1.png")
    with pytest.raises(DataError, match=r"ADE_1\.png holds value 151"):
        count_pixels(ADE20K(root))
    with pytest.raises(DataError, match="no labelled split 'test'"):
        ADE20K(root, "test")
