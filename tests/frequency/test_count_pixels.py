import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from longtail.errors import DataError
from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.frequency.count_pixels import count_pixels, pixels_per_image
from longtail.frequency.label_format import PLAIN, LabelFormat


@dataclass
class Labels:
    """The least that counting asks for."""

    files: list[Path] | None
    maps: list[np.ndarray]
    names: tuple[str, ...] = ("a", "b", "c")
    ignore_index: int = 255
    label_format: LabelFormat = PLAIN
    fingerprint: str = "f" * 64
    asked: list[int] = field(default_factory=list)

    @property
    def classes(self) -> SimpleNamespace:
        return SimpleNamespace(names=self.names)

    @property
    def label_files(self) -> list[Path] | None:
        return self.files

    def __len__(self) -> int:
        return len(self.maps)

    def mask(self, index: int) -> np.ndarray:
        self.asked.append(index)
        return self.maps[index]


@pytest.fixture
def labels(tmp_path) -> Labels:
    rng = np.random.default_rng(0)
    maps = [rng.choice(np.array([0, 0, 0, 1, 2, 255], np.uint8), (9, 11)) for _ in range(200)]
    maps[3][:] = 255
    maps[4][:] = 1
    files = []
    for i, values in enumerate(maps):
        files.append(tmp_path / f"{i}.png")
        Image.fromarray(values).save(files[-1])
    return Labels(files, maps)


def slow(maps: list[np.ndarray]) -> tuple[list[int], list[int], int]:
    pixels, images, ignored = [0, 0, 0], [0, 0, 0], 0
    for values in maps:
        for c in range(3):
            pixels[c] += sum(int(v == c) for v in values.ravel())
            images[c] += int(c in values)
        ignored += int((values == 255).sum())
    return pixels, images, ignored


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("from_files", [True, False])
def test_equals_the_slow_count(labels, workers, from_files):
    if not from_files:
        labels.files = None
    frequency = count_pixels(labels, workers=workers)
    pixels, images, ignored = slow(labels.maps)
    assert frequency.pixels.tolist() == pixels and frequency.images.tolist() == images
    assert frequency.ignored_pixels == ignored and frequency.num_images == 200
    assert frequency.class_names == ("a", "b", "c") and frequency.fingerprint == labels.fingerprint


def test_label_files_are_counted_without_mask(labels):
    count_pixels(labels, workers=1)
    assert labels.asked == []


@pytest.mark.parametrize("workers", [1, 2])
def test_an_unknown_value_names_file_and_value(labels, workers):
    labels.maps[150][0, 0] = 17
    Image.fromarray(labels.maps[150]).save(labels.files[150])
    with pytest.raises(DataError, match=r"150\.png holds value 17 \(1 pixels\)"):
        count_pixels(labels, workers=workers)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_corrupt_file_is_named(labels, workers):
    labels.files[77].write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match=r"77\.png"):
        count_pixels(labels, workers=workers)


def test_a_bad_mask_is_named():
    with pytest.raises(DataError, match="1 of Labels"):
        count_pixels(Labels(None, [np.zeros((2, 2), int), np.full((2, 2), -1)]))
    with pytest.raises(DataError, match="dtype float64"):
        count_pixels(Labels(None, [np.zeros((2, 2))]))
    with pytest.raises(DataError, match="1 of Labels holds value 9"):
        count_pixels(Labels(None, [np.zeros((2, 2), int), np.full((2, 2), 9)]))


def test_an_empty_data_set_is_refused():
    with pytest.raises(DataError, match="no images"):
        count_pixels(Labels(None, []))


def test_the_table_of_a_general_mask_is_not_applied_twice():
    table = np.full(256, -1)
    table[[1, 2]] = 0, 1
    frequency = count_pixels(Labels(None, [np.array([[0, 1, 1]])], label_format=LabelFormat(table)))
    assert frequency.pixels.tolist() == [1, 2, 0]


def test_cache_is_read_while_the_data_are_the_same(labels, tmp_path):
    cache = tmp_path / "cache"
    first = count_pixels(labels, cache=cache)
    (file,) = cache.iterdir()
    labels.files[0].unlink()  # would fail if it were read
    again = count_pixels(labels, cache=cache)
    assert again.to_dict() == first.to_dict() and again.ignored_pixels == first.ignored_pixels
    labels.fingerprint = "e" * 64
    with pytest.raises(DataError, match=r"0\.png"):
        count_pixels(labels, cache=cache)
    assert list(cache.iterdir()) == [file]


def test_a_cache_file_of_other_data_or_cut_short_is_replaced(labels, tmp_path):
    file = tmp_path / "counts.json"
    ClassFrequency(("a", "b", "c"), np.ones(3, int), np.ones(3, int), fingerprint="other").to_json(file)
    right = count_pixels(labels, cache=file)
    assert right.pixels.tolist() == slow(labels.maps)[0]
    for text in ("", file.read_text()[:40], file.read_text().replace("pixels", "pixel").replace("images", "image")):
        file.write_text(text)
        assert count_pixels(labels, cache=file).pixels.tolist() == right.pixels.tolist()
    assert ClassFrequency.from_json(file).fingerprint == labels.fingerprint


def test_data_without_fingerprint_are_not_cached(labels, tmp_path):
    labels.fingerprint = ""
    count_pixels(labels, cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_cache_that_cannot_be_written_or_has_no_home_is_no_obstacle(labels, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("")
    for _ in range(2):
        assert count_pixels(labels, cache=tmp_path / "file" / "cache").pixels.tolist() == slow(labels.maps)[0]
    assert capsys.readouterr().err.count("\n") == 1
    monkeypatch.setattr(Path, "expanduser", lambda self: (_ for _ in ()).throw(RuntimeError("no home")))
    assert count_pixels(labels, cache="~/cache").pixels.tolist() == slow(labels.maps)[0]


def test_progress_is_plain_without_a_terminal(labels, capsys, monkeypatch):
    monkeypatch.setattr("longtail.progress._SECONDS_BETWEEN_LINES", -1.0)
    count_pixels(labels, workers=1)
    assert re.search(r"counting labels: 200 of 200, \d+ a second\n", capsys.readouterr().err)
    count_pixels(labels, workers=1, progress=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "labelled", "ignored", "sizes"),
    [("ccp51", 104_257_971, 30_797, (7, 22, 22)), ("camvid11", 60_913_605, 2_503_995, (9, 2, 0))],
)
def test_real_data_give_their_documented_counts(real_data, name, labelled, ignored, sizes):
    from longtail.datasets import SegmentationFolder

    frequency = count_pixels(SegmentationFolder(real_data / name, "train"), workers=2)
    assert (frequency.pixels.sum(), frequency.ignored_pixels) == (labelled, ignored)
    assert CategoryGroups.by_share(frequency).sizes == sizes


def test_workers_are_told_by_affinity(monkeypatch):
    from longtail.frequency import count_pixels as module

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 5, 7}, raising=False)
    assert module.num_cores() == 3


@pytest.mark.parametrize("size", [5, 300])
def test_pixels_of_every_image(size):
    masks = [np.full((2, 3), index % 3, dtype=np.uint8) for index in range(size)]
    masks[1][0, 0] = 255
    dataset = Labels(None, masks)
    rows = pixels_per_image(dataset, workers=2)
    assert rows.shape == (size, 3)
    assert rows[0].tolist() == [6, 0, 0]
    assert rows[1].tolist() == [0, 5, 0]
    assert (rows.sum(axis=0) == count_pixels(dataset, workers=1, progress=False).pixels).all()
