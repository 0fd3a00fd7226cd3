import os
import time

import pytest

from longtail.errors import DataError
from longtail.folders import files_by_name, files_in, folders_in


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_hidden_files_and_folders_are_no_data(tmp_path):
    for name in (
        ".ipynb_checkpoints/a.png", "__MACOSX/a.png", ".AppleDouble/a.png", "._a.png", ".a.png", "b/._a.png", "b/.c/a.png"
    ):  # fmt: skip
        touch(tmp_path / name)
    kept = [touch(tmp_path / "b" / "a.PNG"), touch(tmp_path / "c.png")]
    touch(tmp_path / "notes.txt")
    assert files_in(tmp_path, {".png"}) == kept
    assert [path.name for path in folders_in(tmp_path)] == ["b"]


def test_linked_folders_are_followed_but_not_in_a_circle(tmp_path):
    touch(tmp_path / "elsewhere" / "inner" / "a.png")
    root = tmp_path / "root"
    touch(root / "own" / "b.png")
    (root / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (root / "again").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (root / "own" / "circle").symlink_to(root, target_is_directory=True)
    (tmp_path / "elsewhere" / "self").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    found = [str(path.relative_to(root)) for path in files_in(root, {".png"})]
    assert found == ["again/inner/a.png", "linked/inner/a.png", "own/b.png"]
    assert [path.name for path in folders_in(root)] == ["again", "linked", "own"]


def test_a_link_that_leads_nowhere_is_named(tmp_path):
    (tmp_path / "a.png").symlink_to("gone.png")
    with pytest.raises(DataError, match=r"a\.png leads to gone\.png"):
        files_in(tmp_path, {".png"})
    with pytest.raises(DataError, match="leads to gone"):
        folders_in(tmp_path)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a user whose rights can be taken")
def test_a_folder_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(DataError, match="closed: Permission denied"):
        files_in(tmp_path, {".png"})


def test_many_files_take_linear_time(tmp_path):
    def seconds(count):
        folder = tmp_path / str(count)
        folder.mkdir()
        for i in range(count):
            (folder / f"{i}.png").touch()
        start = time.perf_counter()
        assert len(files_in(folder, {".png"})) == count
        return time.perf_counter() - start

    assert seconds(8000) < 40 * seconds(1000)


def test_names_are_paths_within_the_folder_without_ends(tmp_path):
    for name in ("a/x_left.png", "x_left.PNG", "x_right.png", "x.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = files_by_name(tmp_path, {".png"}, "images", "_left")
    assert found == {"a/x": tmp_path / "a/x_left.png", "x": tmp_path / "x_left.PNG"}
    (tmp_path / "x_left.png").touch()
    with pytest.raises(DataError, match="two images of one name"):
        files_by_name(tmp_path, {".png"}, "images", "_left")
    with pytest.raises(DataError, match=r"folder of labels .*none does not exist"):
        files_by_name(tmp_path / "none", {".png"}, "labels")
