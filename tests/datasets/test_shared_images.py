import os

import pytest

from longtail.datasets.shared_images import refuse_shared_images
from longtail.errors import DataError


@pytest.fixture
def files(tmp_path):
    found = []
    for i in range(6):
        path = tmp_path / f"{i}.png"
        path.write_bytes(os.urandom(20_000))  # one size: the content tells them apart
        found.append(path)
    return found


def test_different_images_pass(files):
    refuse_shared_images(files[:4], files[4:])
    refuse_shared_images(files, [])


def test_one_file_in_both(files):
    with pytest.raises(DataError, match=r"1 of the 3 images of 'val' are training images, .*3\.png one of them"):
        refuse_shared_images(files[:4], files[3:])


def test_copies_and_links_are_the_same_image(files, tmp_path):
    copy, link = tmp_path / "copy.png", tmp_path / "link.png"
    copy.write_bytes(files[0].read_bytes())
    link.symlink_to(files[1])
    with pytest.raises(DataError, match=r"2 of the 2 images of 'b' .*copy\.png, a copy of .*0\.png"):
        refuse_shared_images(files, [copy, link], ("a", "b"))


def test_equal_ends_are_not_enough(files, tmp_path):
    near = bytearray(files[0].read_bytes())
    near[10_000] ^= 1
    other = tmp_path / "near.png"
    other.write_bytes(near)
    refuse_shared_images(files, [other])
    with pytest.raises(DataError, match=r"0\.png"):  # whichever of those with equal ends is listed last
        refuse_shared_images([files[0], other], [files[0]])


def test_a_missing_file_is_named(files, tmp_path):
    with pytest.raises(DataError, match=r"gone\.png"):
        refuse_shared_images(files, [tmp_path / "gone.png"])
