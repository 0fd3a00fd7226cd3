import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from longtail.errors import DataError
from longtail.frequency.label_image import class_histogram, label_values, open_label, value_histogram

NAMES = ("a", "b", "c")


def grey_png(values: np.ndarray, bits: int) -> bytes:
    """A grey PNG of 1, 2 or 4 bits a pixel, which PIL cannot write."""
    rows = b""
    for row in values:
        line = "".join(format(v, f"0{bits}b") for v in row)
        line += "0" * (-len(line) % 8)
        rows += b"\0" + bytes(int(line[i : i + 8], 2) for i in range(0, len(line), 8))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_pngs_of_few_bits_keep_their_stored_values(tmp_path, bits):
    values = np.arange(12).reshape(3, 4) % 2**bits
    path = tmp_path / "a.png"
    path.write_bytes(grey_png(values, bits))
    assert label_values(open_label(path)).tolist() == values.tolist()


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_binary_masks_are_zero_and_one(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.array([[True, False, False]])).save(path)
    assert value_histogram(open_label(path))[:3].tolist() == [2, 1, 0]


def test_palette_labels_are_their_indices(tmp_path):
    image = Image.fromarray(np.array([[0, 1, 255]], np.uint8), mode="P")
    image.putpalette([9, 9, 9, 200, 100, 0] + [7] * 762)
    image.save(tmp_path / "a.png")
    opened = open_label(tmp_path / "a.png")
    assert label_values(opened).tolist() == [[0, 1, 255]]
    assert np.flatnonzero(value_histogram(opened)).tolist() == [0, 1, 255]


def test_sixteen_bits(tmp_path):
    values = np.array([[0, 300, 300, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    opened = open_label(tmp_path / "a.png")
    assert label_values(opened).dtype == np.int32 and label_values(opened).tolist() == values.tolist()
    assert value_histogram(opened)[[0, 300, 65535]].tolist() == [1, 2, 1]


@pytest.mark.parametrize("mode", ["L", "P"])
@pytest.mark.parametrize("shape", [(512, 512), (1, 2**18 + 1), (2, 2**17 + 1), (3, 2**17 + 1)])
def test_large_images_are_counted_as_small_ones(shape, mode):
    values = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    values[:, 1000:] = 255
    values[-1, -3:] = [7, 8, 9]
    image = Image.frombytes(mode, shape[::-1], values.tobytes())
    counts = value_histogram(image)
    assert counts.dtype == np.int64 and counts.tolist() == image.histogram() == np.bincount(values.ravel()).tolist()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "F"])
def test_colour_labels_are_refused_with_their_name(tmp_path, mode):
    path = tmp_path / ("a.tif" if mode == "F" else "a.png")
    Image.new(mode, (4, 4)).save(path)
    with pytest.raises(DataError, match=f"{path.name} has mode {mode}"):
        open_label(path)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + b"\0" * 20])
def test_corrupt_files_are_named(tmp_path, content):
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.png"):
        open_label(path)


def test_truncated_and_missing_files_are_named(tmp_path):
    path = tmp_path / "cut.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(DataError, match=r"cut\.png"):
        open_label(path)
    with pytest.raises(DataError, match=r"none\.png does not exist"):
        open_label(tmp_path / "none.png")


def test_classes_and_ignored_pixels_are_told_apart():
    values = np.bincount([0, 0, 2, 255, 255, 255], minlength=256)
    pixels, ignored = class_histogram(values, NAMES, 255)
    assert pixels.tolist() == [2, 0, 1] and ignored == 3


def test_a_table_merges_values_and_ignores():
    table = np.full(256, -1)
    table[[0, 1, 2, 3]] = [255, 0, 0, 2]
    values = np.bincount([0, 1, 2, 3, 3], minlength=256)
    pixels, ignored = class_histogram(values, NAMES, 255, table)
    assert pixels.tolist() == [2, 0, 2] and ignored == 1


@pytest.mark.parametrize(
    ("value", "table"), [(3, None), (254, None), (7, np.r_[0, 1, 2, [255] * 4, [-1] * 249]), (300, np.full(256, 255))]
)
def test_unknown_values_are_named_and_are_not_the_ignored_one(value, table):
    values = np.bincount([0, value, value], minlength=256)
    with pytest.raises(DataError, match=rf"x\.png holds value {value} \(2 pixels\).*ignored one \(255\)"):
        class_histogram(values, NAMES, 255, table, "x.png")


def test_an_ignored_value_below_the_number_of_classes_wins():
    pixels, ignored = class_histogram(np.array([4, 5, 6]), NAMES, 0)
    assert pixels.tolist() == [0, 5, 6] and ignored == 4
