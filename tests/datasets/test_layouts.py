import json
import unicodedata

import numpy as np
import pytest
from PIL import Image

from longtail.datasets import SegmentationFolder, open_dataset
from longtail.datasets.class_files import voc_colours
from longtail.errors import ConfigError, DataError
from longtail.frequency.count_pixels import count_pixels

TRUTH = np.array([[0, 1, 1], [2, 2, 2]], np.uint8)
COLOURS = np.array([(0, 0, 0), (128, 0, 0), (1, 2, 3)], np.uint8)


def photo(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    # every photograph differs, and is told by its name alone
    Image.fromarray(np.random.default_rng(sum(map(ord, str(path)))).integers(0, 255, (2, 3, 3), np.uint8)).save(path)


def label(path, values=TRUTH, palette=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values)
    if palette is not None:
        image.putpalette(palette)
    image.save(path)


def names(root):
    (root / "classes.json").write_text(json.dumps({"names": ["a", "b", "c"]}))


def roboflow(root):
    for split in ("train", "valid"):
        photo(root / split / f"{split}.jpg")
        label(root / split / f"{split}_mask.png")
        (root / split / "_classes.csv").write_text("Pixel Value, Class\n0, a\n1, b\n2, c\n")


def class_dict(root):
    for split in ("train", "val"):
        photo(root / split / f"{split}.png")
        label(root / f"{split}_labels" / f"{split}_L.png", COLOURS[TRUTH])
    rows = [f"{name},{r},{g},{b}\n" for name, (r, g, b) in zip("abc", COLOURS.tolist(), strict=True)]
    (root / "class_dict.csv").write_text("name,r,g,b\n" + "".join(rows))


def cvat(root):
    for split in ("train", "val"):
        photo(root / "JPEGImages" / f"{split}.jpg")
        label(root / "SegmentationClass" / f"{split}.png", COLOURS[TRUTH])
        (root / "ImageSets" / "Segmentation").mkdir(parents=True, exist_ok=True)
        (root / "ImageSets" / "Segmentation" / f"{split}.txt").write_text(f"{split}\n")
    rows = [f"{name}:{r},{g},{b}::\n" for name, (r, g, b) in zip("abc", COLOURS.tolist(), strict=True)]
    (root / "labelmap.txt").write_text("# label:color_rgb:parts:actions\n" + "".join(rows))


def cvat_palettes(root):
    cvat(root)
    order = np.array([2, 0, 1], np.uint8)  # the palette's order is not that of labelmap.txt
    for split in ("train", "val"):
        label(root / "SegmentationClass" / f"{split}.png", order[TRUTH], COLOURS[[1, 2, 0]].reshape(-1).tolist())


def split_first(root):
    for split in ("train", "val"):
        photo(root / split / "images" / f"{split}.jpg")
        label(root / split / "masks" / f"{split}.tif")
    names(root)


def lists(root):
    for split in ("train", "val"):
        photo(root / "images" / f"{split}.jpg")
        label(root / "masks" / f"{split}.png")
        (root / f"{split}.txt").write_text(f"images/{split}.jpg masks/{split}.png\n")
    names(root)


def validation(root):
    for split in ("training", "validation"):
        photo(root / "images" / split / f"{split[:-5] if split == 'training' else 'val'}.jpg")
        label(root / "labels" / split / f"{split[:-5] if split == 'training' else 'val'}.png")
    names(root)


LAYOUTS = [roboflow, class_dict, cvat, cvat_palettes, split_first, lists, validation]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_a_layout_is_read_by_its_path_alone(tmp_path, layout):
    layout(tmp_path)
    for split in ("train", "val", "valid"):
        data = open_dataset(str(tmp_path), split)
        assert data.classes.names == ("a", "b", "c") and len(data) == 1
        assert (data.mask(0) == TRUTH).all() and split[:3] in data[0]["name"]
        assert count_pixels(data).pixels.tolist() == [1, 2, 3]
    everyone = open_dataset(str(tmp_path), "all")
    assert len(everyone) == 2 and len({name for name, *_ in everyone.pairs}) == 2
    with pytest.raises(DataError, match=r"(no split|no list).*\n.*choose"):
        open_dataset(str(tmp_path), "test")


@pytest.mark.parametrize("photos, masks", [("{}.jpg", "{}_mask.png"), ("{}.png", "{}_seg.bmp"), ("{}.jpg", "{}.png")])
def test_images_and_masks_in_one_folder(tmp_path, photos, masks):
    for i in range(12):
        photo(tmp_path / photos.format(i))
        label(tmp_path / masks.format(i))
    names(tmp_path)
    sizes = [len(open_dataset(str(tmp_path), split)) for split in ("train", "val", "all")]
    assert sizes[2] == 12 and sizes[0] + sizes[1] == 12 and 0 < sizes[1] < sizes[0]


def test_pascal_voc_itself(tmp_path):
    photo(tmp_path / "JPEGImages" / "1.jpg")
    label(
        tmp_path / "SegmentationClass" / "1.png",
        np.array([[0, 15, 255]] * 2, np.uint8),
        np.ravel(voc_colours(256)).tolist(),
    )
    (tmp_path / "ImageSets" / "Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Segmentation" / "train.txt").write_text("1")
    data = open_dataset(f"folder:{tmp_path}", "train")
    assert data.classes.num_classes == 21 and data.mask(0).tolist() == [[0, 15, 255]] * 2


def test_colours_of_classes_json_and_a_suffix_of_ones_own(tmp_path):
    photo(tmp_path / "images" / "1.jpg")
    label(tmp_path / "masks" / "1_colours.png", COLOURS[TRUTH])
    label(tmp_path / "masks" / "1_ids.png")
    (tmp_path / "classes.json").write_text(json.dumps({"names": ["a", "b", "c"], "palette": COLOURS.tolist()}))
    with pytest.raises(DataError, match=r"1 image without label.*\n.*1_colours its partner.*label_suffix"):
        SegmentationFolder(tmp_path, "all")
    for suffix in ("_colours", "_ids"):
        assert (SegmentationFolder(tmp_path, "all", label_suffix=suffix).mask(0) == TRUTH).all()


def test_options_say_what_values_mean(tmp_path):
    photo(tmp_path / "images" / "1.jpg")
    label(tmp_path / "masks" / "1.png", np.array([[0, 255, 7]] * 2, np.uint8))
    data = SegmentationFolder(tmp_path, "all", names=["no", "yes"], label_map={255: 1, "5-9": 0})
    assert data.mask(0).tolist() == [[0, 1, 0]] * 2
    assert data.fingerprint != SegmentationFolder(tmp_path, "all", names=["no", "yes"]).fingerprint
    with pytest.raises(DataError, match=r"value 7 .*\n.*label_map: \{0: 0, 7: 1\} if"):
        SegmentationFolder(tmp_path, "all", names=["no", "yes"]).mask(0)
    label(tmp_path / "masks" / "1.png", np.array([[0, 1, 2]] * 2, np.uint8))
    reduced = SegmentationFolder(tmp_path, "all", names=["no", "yes"], reduce_zero_label=True)
    assert reduced.mask(0).tolist() == [[255, 0, 1]] * 2
    ignored = SegmentationFolder(tmp_path, "all", names=["no", "yes", "void"], ignore_classes=["no"])
    assert ignored.classes.names == ("yes", "void") and ignored.mask(0).tolist() == [[255, 0, 1]] * 2


def test_lists_that_do_not_fit_are_refused(tmp_path):
    lists(tmp_path)
    (tmp_path / "train.txt").write_text("images\\train.jpg\n")
    with pytest.raises(DataError, match=r"train\.txt names images\\train.jpg.*\n.*write folders with /"):
        SegmentationFolder(tmp_path, "train")
    (tmp_path / "train.txt").write_text("\n")
    with pytest.raises(DataError, match="names no image"):
        SegmentationFolder(tmp_path, "train")
    (tmp_path / "train.txt").write_text("train\ntrain.jpg\n")
    with pytest.raises(DataError, match="names train 2 times"):
        SegmentationFolder(tmp_path, "train")
    (tmp_path / "mine_train.lst").write_text("val")
    assert SegmentationFolder(tmp_path, "train", split_list="mine_{split}.lst").pairs[0][0] == "val"
    with pytest.raises(ConfigError, match="split_list is given"):
        validation(tmp_path)
        SegmentationFolder(tmp_path, "train", split_list="train.txt")
    with pytest.raises(ConfigError, match="go together"):
        SegmentationFolder(tmp_path, "train", image_dir="images")


@pytest.mark.parametrize(
    "image, mask, cause",
    [
        (unicodedata.normalize("NFC", "straße-ü"), unicodedata.normalize("NFD", "straße-ü"), "NFC, NFD"),
        ("city\\1", "city/1", r"differ in / and \\"),
        ("IMG_1", "img_1", "upper and lower case"),
    ],
)
def test_the_cause_of_names_that_do_not_match_is_named(tmp_path, image, mask, cause):
    photo(tmp_path / "images" / f"{image}.jpg")
    label(tmp_path / "masks" / f"{mask}.png")
    names(tmp_path)
    with pytest.raises(DataError, match=f"1 image without label.*\n.*{cause}"):
        SegmentationFolder(tmp_path, "all")


def test_hidden_folders_are_no_data_and_linked_ones_are(tmp_path):
    validation(tmp_path / "real")
    for folder in ("images", "labels"):
        (tmp_path / "root" / folder).mkdir(parents=True)
        for split in ("training", "validation"):
            (tmp_path / "root" / folder / split).symlink_to(tmp_path / "real" / folder / split)
    photo(tmp_path / "real" / "images" / "training" / ".ipynb_checkpoints" / "train-checkpoint.jpg")
    photo(tmp_path / "root" / "images" / "__MACOSX" / "train.jpg")
    names(tmp_path / "root")
    assert len(open_dataset(str(tmp_path / "root"), "train")) == 1
    assert len(open_dataset(str(tmp_path / "root"), "all")) == 2


def test_what_exif_turns_is_named_as_the_cause(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "images").mkdir()
    Image.new("RGB", (3, 2)).save(tmp_path / "images" / "1.jpg", exif=exif)
    label(tmp_path / "masks" / "1.png")
    names(tmp_path)
    with pytest.raises(
        DataError, match=r"1\.png is 3x2, its image .* 2x3 pixels\n.*EXIF orientation of the photograph"
    ):
        SegmentationFolder(tmp_path, "all").check_images()


def test_colour_masks_of_doubtful_pairs_are_read_as_colours(tmp_path):
    class_dict(tmp_path)
    (tmp_path / "train" / "train.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"cannot read image .*train\.png"):
        SegmentationFolder(tmp_path, "train").check_images()
    values = np.random.default_rng(0).integers(0, 255, (2, 3, 3), np.uint8)
    Image.fromarray(values).convert("CMYK").save(tmp_path / "train" / "train.png", format="TIFF")
    SegmentationFolder(tmp_path, "train").check_images()
