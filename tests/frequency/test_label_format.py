import numpy as np
import pytest
from PIL import Image

from longtail.errors import ConfigError, DataError
from longtail.frequency.label_format import LabelFormat, class_table
from longtail.frequency.label_image import class_histogram, class_ids, label_values, open_label

COLOURS = {(0, 0, 0): 0, (128, 0, 0): 1, (1, 2, 3): 2}


def save(path, values, mode=None, palette=None):
    image = Image.fromarray(values, mode)
    if palette is not None:
        image.putpalette(palette)
    image.save(path)
    return path


@pytest.mark.parametrize("channels", [3, 4])
def test_colours_become_their_places(tmp_path, channels):
    places = np.random.default_rng(0).integers(0, 3, (5, 7))
    pixels = np.asarray(list(COLOURS), np.uint8)[places]
    if channels == 4:
        pixels = np.concatenate([pixels, places[..., None].astype(np.uint8) * 100], axis=2)
    path = save(tmp_path / "a.png", pixels)
    assert (label_values(open_label(path, LabelFormat(colours=COLOURS))) == places).all()
    slow = [[COLOURS[tuple(int(v) for v in pixel[:3])] for pixel in row] for row in pixels]
    assert slow == places.tolist()
    table = class_table(2, 255, table=[255, 0, 1])
    assert (class_ids(path, ["a", "b"], 255, LabelFormat(table, COLOURS), np.uint8) == (places - 1) % 256).all()


def test_more_colours_than_a_byte_holds(tmp_path):
    colours = {(i % 256, i // 256, 9): i for i in range(600)}
    places = np.arange(600).reshape(20, 30)
    path = save(tmp_path / "a.png", np.asarray(list(colours), np.uint8)[places])
    values = label_values(open_label(path, LabelFormat(colours=colours)))
    assert (values == places).all()


def test_unknown_colours_are_named_with_their_pixels(tmp_path):
    pixels = np.zeros((4, 5, 3), np.uint8)
    pixels[0, :3], pixels[1, 0] = (9, 8, 7), (255, 254, 253)
    path = save(tmp_path / "a.png", pixels)
    with pytest.raises(DataError, match=r"a\.png .*: \(9, 8, 7\) \(3 pixels\), \(255, 254, 253\) \(1 pixels\)"):
        open_label(path, LabelFormat(colours=COLOURS))
    with pytest.raises(DataError, match=r"3 channels.*\n.*class_dict\.csv"):
        open_label(path)


def test_palette_images_hold_ids_or_colours(tmp_path):
    indices = np.array([[0, 1, 5]], np.uint8)
    palette = [0, 0, 0, 1, 2, 3, 7, 7, 7, 7, 7, 7, 7, 7, 7, 128, 0, 0]
    path = save(tmp_path / "a.png", indices, palette=palette)
    assert label_values(open_label(path, LabelFormat(colours=COLOURS))).tolist() == [[0, 1, 5]]
    assert label_values(open_label(path, LabelFormat(colours=COLOURS, palettes=True))).tolist() == [[0, 2, 1]]
    indices[0, 0] = 2
    save(path, indices, palette=palette)
    with pytest.raises(DataError, match=r"\(7, 7, 7\) \(1 pixels\)"):
        open_label(path, LabelFormat(colours=COLOURS, palettes=True))


def test_grey_images_hold_ids_unless_every_colour_is_grey(tmp_path):
    path = save(tmp_path / "a.png", np.array([[0, 1, 2]], np.uint8))
    assert label_values(open_label(path, LabelFormat(colours=COLOURS, palettes=True))).tolist() == [[0, 1, 2]]
    save(path, np.array([[0, 255, 0]], np.uint8))
    two = LabelFormat(colours={(0, 0, 0): 0, (255, 255, 255): 1}, palettes=True)
    assert label_values(open_label(path, two)).tolist() == [[0, 1, 0]]


def test_label_map_names_values_and_ranges():
    assert class_table(2, 255) is None
    table = class_table(2, 255, label_map={0: 255, 255: 1})
    assert table[[0, 1, 2, 255]].tolist() == [255, 1, -1, 1]
    table = class_table(3, 255, label_map={"1-3": 2, "7": 0, 300: 1})
    assert table[[0, 1, 2, 3, 4, 7, 300]].tolist() == [0, 2, 2, 2, -1, 0, 1] and len(table) == 301
    table = class_table(2, 255, table=[255, 0, 1], label_map={0: 1})
    assert table[[0, 1, 2]].tolist() == [1, 0, 1]


def test_reduce_zero_label():
    assert class_table(2, 255, reduce_zero_label=True)[[0, 1, 2, 3, 255]].tolist() == [255, 0, 1, -1, 255]
    assert class_table(255, 65535, reduce_zero_label=True)[[0, 255, 65535]].tolist() == [65535, 254, 65535]
    with pytest.raises(ConfigError, match="reduce_zero_label"):
        class_table(2, 255, table=[0], reduce_zero_label=True)


@pytest.mark.parametrize(
    "label_map, named",
    [
        ({0: 2}, "sends 0 to 2"),
        ({0: True}, "sends 0 to True"),
        ({-1: 0}, "key -1"),
        ({"3-1": 0}, "key '3-1'"),
        ({"road": 0}, "key 'road'"),
        ({70000: 0}, "key 70000"),
        ({"1-3": 0, 2: 1}, "value 2 twice"),
    ],
)
def test_maps_that_cannot_be(label_map, named):
    with pytest.raises(ConfigError, match=named):
        class_table(2, 255, label_map=label_map)


@pytest.mark.parametrize(
    "suffix, options", [("jpg", {}), ("webp", {"lossless": True}), ("tif", {"compression": "jpeg"})]
)
def test_lossy_formats_hold_no_ids(tmp_path, suffix, options):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(path, **options)
    with pytest.raises(DataError, match=rf"a\.{suffix} is .* lossy"):
        open_label(path)
    disguised = path.rename(tmp_path / "b.png")
    with pytest.raises(DataError, match="lossy"):
        open_label(disguised)


def test_gif_numbers_its_colours_anew(tmp_path):
    Image.fromarray(np.array([[0, 0, 2], [3, 2, 3]], np.uint8)).save(tmp_path / "a.gif")
    with pytest.raises(DataError, match=r"a\.gif is GIF"):
        open_label(tmp_path / "a.gif")


@pytest.mark.parametrize(("values", "proposed"), [([0, 128], "{0: 0, 128: 1}"), ([0, 1, 128], "{128: 255}")])
def test_a_map_is_proposed_for_values_that_are_no_ids(values, proposed):
    pixels = np.bincount(values, minlength=256)
    with pytest.raises(DataError) as error:
        class_histogram(pixels, ["a", "b"], 255)
    assert proposed in error.value.fix


def test_labels_of_several_pages_are_refused(tmp_path):
    pages = [Image.fromarray(np.full((4, 4), i, np.uint8)) for i in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match="holds 3 pages"):
        open_label(tmp_path / "a.tif")


def test_labels_beyond_what_is_read_at_once(tmp_path, monkeypatch):
    save(tmp_path / "a.png", np.zeros((40, 50), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 900)
    with pytest.raises(DataError, match=r"more than 0 megapixels.*\n.*tiles"):
        open_label(tmp_path / "a.png")
