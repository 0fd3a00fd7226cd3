import numpy as np
import pytest
import torch
from PIL import Image

from longtail.datasets.photo_statistics import photo_statistics
from longtail.datasets.photographs import RGB, PhotoFormat, image_sizes
from longtail.datasets.rgb_photographs import as_rgb
from longtail.errors import ConfigError, DataError

tifffile = pytest.importorskip("tifffile")
RNG = np.random.default_rng(0)


def values_of(bands, kind, size=(6, 9)):
    values = RNG.integers(0, 200, (*size, bands))
    return (values / 200).astype(kind) if kind == np.float32 else values.astype(kind)


def write(path, values, **options):
    """Store (h, w, bands) values."""
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".tif":
        planar = "separate" if options.pop("planar", False) else "contig"
        values = np.moveaxis(values, -1, 0) if planar == "separate" else values
        options |= {} if values.shape[-1] == 1 else {"planarconfig": planar}
        values = values[..., 0] if values.shape[-1] == 1 else values
        tifffile.imwrite(path, values, photometric="minisblack", **options)
    else:
        Image.fromarray(values.squeeze()).save(path)
    return path


@pytest.mark.parametrize("suffix", ["npy", "tif", "planar", "lzw"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("bands", [1, 2, 4, 13])
def test_bands_are_read_as_they_are_stored(tmp_path, bands, kind, suffix):
    values = values_of(bands, kind, (20, 30))
    options = {"planar": {"planar": bands > 1}, "lzw": {"compression": "lzw", "predictor": True}}.get(suffix, {})
    path = write(tmp_path / f"a.{'npy' if suffix == 'npy' else 'tif'}", values, **options)
    image = PhotoFormat(bands, (0, 255)).read(path)
    assert image.shape == (bands, 20, 30) and image.dtype == torch.float32
    assert np.allclose(image.numpy(), np.moveaxis(values, -1, 0).astype(np.float32) / 255)
    if kind == np.uint8:
        assert np.array_equal(PhotoFormat(bands).read(path).numpy(), np.moveaxis(values, -1, 0))
    else:
        with pytest.raises(DataError, match=r"a\..* holds .* values\n.*data\.value_range"):
            PhotoFormat(bands).read(path)
    with pytest.raises(DataError, match=rf"has {bands} bands, 5 is asked for"):
        PhotoFormat(5, (0, 255)).read(path)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16"])
def test_pngs_have_bands(tmp_path, mode):
    bands = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "I;16": 1}[mode]
    values = values_of(bands, np.uint16 if mode == "I;16" else np.uint8)
    path = write(tmp_path / "a.png", values)
    assert np.allclose(PhotoFormat(bands, (0, 200)).read(path).numpy() * 200, np.moveaxis(values, -1, 0), atol=1e-4)


def test_bands_are_chosen_and_the_scale_is_one_for_all(tmp_path):
    values = values_of(5, np.uint16)
    path = write(tmp_path / "a.tif", values)
    image = PhotoFormat((3, 0), (50, 150)).read(path)
    expected = np.clip((np.moveaxis(values[..., [3, 0]], -1, 0).astype(float) - 50) / 100, 0, 1)
    assert np.allclose(image.numpy(), expected, atol=1e-6)
    with pytest.raises(DataError, match="has 5 bands"):
        PhotoFormat((5,), (0, 1)).read(path)
    dim = write(tmp_path / "dim.tif", np.full((4, 4, 1), 100, np.uint16))
    bright = np.full((4, 4, 1), 100, np.uint16)
    bright[0, 0] = 60_000
    one, other = (PhotoFormat(1, (0, 4095)).read(p) for p in (dim, write(tmp_path / "bright.tif", bright)))
    assert one[0, 1, 1] == other[0, 1, 1]


def test_grey_is_repeated_where_rgb_is_asked_for(tmp_path):
    path = write(tmp_path / "a.png", np.full((4, 5, 1), 1000, np.uint16))
    image = PhotoFormat(value_range=(0, 4000)).read(path)
    assert image.shape == (3, 4, 5) and (image == 0.25).all()


@pytest.mark.parametrize(
    "name, values, word",
    [
        ("deep.png", np.full((4, 5, 1), 15, np.uint16), "kind I;16"),
        ("deep.tif", np.full((4, 5, 1), 15, np.uint16), "16 bits"),
        ("rgb16.tif", np.full((4, 5, 3), 15, np.uint16), "16 bits|cannot read"),
        ("float.tif", np.full((4, 5, 1), 0.5, np.float32), "32 bits"),
        ("signed.tif", np.full((4, 5, 1), -1, np.int8), "signed"),
        ("four.tif", np.full((40, 50, 4), 9, np.uint8), "bands|pages|cannot read"),
        ("many.tif", np.full((40, 50, 13), 9, np.uint16), "bands|pages|cannot read|16 bits"),
        ("alpha.png", np.full((4, 5, 4), 9, np.uint8), "4 bands"),
        ("alpha.webp", np.full((4, 5, 4), 9, np.uint8), "4 bands"),
        ("grey.npy", np.full((4, 5), 9, np.uint8), "an array"),
    ],
)
def test_what_is_no_rgb_is_refused_with_the_way_out(tmp_path, name, values, word):
    path = write(tmp_path / name, values)
    with pytest.raises(DataError, match=rf"(?s)(?=.*{name})(?=.*({word})).*data\.bands"):
        RGB.read(path)


def test_transparency_that_says_nothing_is_left_out(tmp_path):
    values = values_of(4, np.uint8)
    values[..., 3] = 255
    for name in ("a.png", "a.tif", "a.bmp"):
        Image.fromarray(values).save(tmp_path / name)
        assert np.array_equal(RGB.read(tmp_path / name).numpy(), np.moveaxis(values[..., :3], -1, 0)), name


def test_pages_are_refused_or_bands(tmp_path):
    path = tmp_path / "a.tif"
    pages = [np.full((8, 9), i, np.uint8) for i in range(3)]
    tifffile.imwrite(path, np.stack(pages), photometric="minisblack")
    for photos in (RGB, PhotoFormat(3)):
        with pytest.raises(DataError, match=r"3 pages"):
            photos.read(path)
    assert PhotoFormat(3, pages="bands").read(path)[:, 0, 0].tolist() == [0, 1, 2]


def test_values_that_are_no_brightness_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 5), np.uint8), photometric="miniswhite")
    with pytest.raises(DataError, match="MINISWHITE"):
        PhotoFormat(1).read(tmp_path / "a.tif")
    np.save(tmp_path / "nan.npy", np.full((4, 5), np.nan, np.float32))
    with pytest.raises(DataError, match="no number"):
        PhotoFormat(1, (0, 1)).read(tmp_path / "nan.npy")
    np.save(tmp_path / "object.npy", np.array([[{}]], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"cannot read image .*object\.npy"):
        PhotoFormat(1, (0, 1)).read(tmp_path / "object.npy")
    np.save(tmp_path / "deep.npy", np.zeros((2, 3, 4, 5)))
    with pytest.raises(DataError, match="shape"):
        PhotoFormat(1, (0, 1)).read(tmp_path / "deep.npy")
    with pytest.raises(DataError, match="does not exist"):
        PhotoFormat(1).read(tmp_path / "gone.tif")


@pytest.mark.parametrize("options", [{"bands": 0}, {"bands": (-1,)}, {"bands": ()}, {"value_range": (1, 1)}])
def test_formats_that_cannot_be(options):
    with pytest.raises(ConfigError):
        PhotoFormat(**options)


def test_what_is_shown_is_rgb_bytes():
    for bands in (1, 2, 3, 13):
        shown = as_rgb(torch.full((bands, 2, 3), 0.5))
        assert shown.shape == (3, 2, 3) and shown.dtype == torch.uint8 and (shown == 128).all()


def test_sizes_of_any_file(tmp_path):
    files = [write(tmp_path / name, values_of(2, np.uint16)) for name in ("a.npy", "b.tif")]
    assert image_sizes(files) == [(6, 9), (6, 9)]


def test_statistics_are_those_of_all_pixels(tmp_path):
    stacked = [values_of(4, np.uint16, (5 + i, 7)) for i in range(40)]
    files = [write(tmp_path / f"{i}.npy", values) for i, values in enumerate(stacked)]
    pixels = np.concatenate([values.reshape(-1, 4) for values in stacked]).astype(np.float64)
    found = photo_statistics(files, PhotoFormat())
    assert np.allclose(found.mean, pixels.mean(0)) and np.allclose(found.std, pixels.std(0))
    assert (found.low == pixels.min(0)).all() and (found.high == pixels.max(0)).all() and found.images == 40
    assert found.value_range == (pixels.min(), pixels.max()) and found.kind == "uint16"
    mean, std = found.scaled((0, 400))
    assert np.allclose(mean, pixels.mean(0) / 400) and np.allclose(std, pixels.std(0) / 400)
    assert np.allclose(photo_statistics(files, PhotoFormat((2,))).mean, pixels[:, 2].mean())
    write(tmp_path / "other.npy", values_of(3, np.uint16))
    with pytest.raises(DataError, match=r"other\.npy has 3 bands of uint16, those before 4"):
        photo_statistics([*files, tmp_path / "other.npy"], PhotoFormat())


def test_headers_tell_what_cannot_be_read_as_rgb(tmp_path):
    plain, deep = write(tmp_path / "a.png", values_of(3, np.uint8)), write(tmp_path / "b.png", values_of(1, np.uint16))
    assert RGB.header_size(plain) == (6, 9) and RGB.header_size(deep) is None
    assert PhotoFormat(1, (0, 1)).header_size(deep) == (6, 9) and RGB.header_size(tmp_path / "gone.png") is None


def test_pictures_of_less_rows_than_bands_keep_their_axes(tmp_path):
    pixels = np.arange(2 * 5 * 3, dtype=np.uint8).reshape(2, 5, 3)
    Image.fromarray(pixels).save(tmp_path / "a.bmp")
    assert np.array_equal(PhotoFormat(3).stored(tmp_path / "a.bmp"), np.moveaxis(pixels, -1, 0))
