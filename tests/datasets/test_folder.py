import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

from longtail.datasets import SegmentationFolder
from longtail.datasets.base import ClassInfo, label_type
from longtail.datasets.pairs import ImageLabelPairs
from longtail.datasets.photographs import RGB
from longtail.errors import ConfigError, DataError
from longtail.frequency.count_pixels import count_pixels
from longtail.frequency.label_format import LabelFormat


def write(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def photo(path: Path, size=(6, 8), value=120) -> Path:
    return write(path, np.full((*size, 3), value, np.uint8))


def label(path: Path, size=(6, 8), value=1) -> Path:
    return write(path, np.full(size, value, np.uint8))


@pytest.fixture
def root(tmp_path) -> Path:
    """The split layout, two training images and one of validation."""
    for split, names in (("train", ("a", "b")), ("val", ("c",))):
        for name in names:
            photo(tmp_path / "images" / split / f"{name}.jpg")
            label(tmp_path / "labels" / split / f"{name}.png")
    (tmp_path / "classes.json").write_text(json.dumps({"names": ["sky", "sea"], "palette": [[1, 2, 3], [4, 5, 6]]}))
    return tmp_path


def test_split_layout(root):
    data = SegmentationFolder(root, "train")
    assert [data[i]["name"] for i in range(len(data))] == ["a", "b"]
    assert data.classes.names == ("sky", "sea") and data.classes.palette == ((1, 2, 3), (4, 5, 6))
    sample = data[0]
    assert isinstance(sample["image"], tv_tensors.Image) and isinstance(sample["mask"], tv_tensors.Mask)
    assert sample["image"].shape == (3, 6, 8) and sample["image"].dtype == torch.uint8
    assert sample["mask"].shape == (6, 8) and sample["mask"].dtype == torch.uint8 and (sample["mask"] == 1).all()
    assert [f.name for f in data.label_files] == ["a.png", "b.png"] and data.label_format.table is None
    assert len(SegmentationFolder(root, "val")) == 1
    assert len(SegmentationFolder(root, None)) == 3


def test_relative_root(root, monkeypatch):
    monkeypatch.chdir(root.parent)
    assert len(SegmentationFolder(root.name, "train")) == len(SegmentationFolder(root, "train"))


@pytest.mark.parametrize("folder", ["masks", "labels", "annotations"])
def test_plain_layout_with_classes_txt(tmp_path, folder):
    photo(tmp_path / "images" / "x.png")
    label(tmp_path / folder / "x.png", value=255)
    (tmp_path / "images" / ".DS_Store").write_text("")
    (tmp_path / "images" / "notes.txt").write_text("")
    (tmp_path / "classes.txt").write_text("sky\nsea \n\n")
    data = SegmentationFolder(tmp_path)
    assert data.classes.names == ("sky", "sea") and len(data) == 1
    assert len(set(data.classes.palette)) == 2 and (data.mask(0) == 255).all()


def test_folders_names_and_suffixes_of_ones_own(tmp_path):
    photo(tmp_path / "rgb" / "day" / "1_photo.jpg")
    label(tmp_path / "ids" / "day" / "1_ids.png")
    label(tmp_path / "ids" / "day" / "1_colour.png")
    data = SegmentationFolder(
        tmp_path,
        None,
        image_dir="rgb",
        label_dir=tmp_path / "ids",
        names=["a", "b"],
        palette=[[0, 0, 1], [0, 0, 2]],
        image_suffix="_photo",
        label_suffix="_ids",
    )
    assert data[0]["name"] == "day/1" and data.classes.palette == ((0, 0, 1), (0, 0, 2))


def names_of(root, split, **options) -> list[str]:
    return [name for name, _, _ in SegmentationFolder(root, split, **options).pairs]


def test_without_split_folders_each_image_has_its_side_by_name(tmp_path):
    (tmp_path / "classes.txt").write_text("sky\nsea\n")
    for i in range(20):
        photo(tmp_path / "images" / f"{i}.jpg")
        label(tmp_path / "masks" / f"{i}.png")
    train, val = names_of(tmp_path, "train"), names_of(tmp_path, "val")
    everyone = names_of(tmp_path, "all")
    assert everyone == names_of(tmp_path, None) and len(everyone) == 20
    assert sorted(train + val) == sorted(everyone) and 0 < len(val) < len(train)
    assert "no splits" in SegmentationFolder(tmp_path, "val").note and not SegmentationFolder(tmp_path, "all").note
    for i in range(20, 40):
        photo(tmp_path / "images" / f"{i}.jpg")
        label(tmp_path / "masks" / f"{i}.png")
    assert set(train) < set(names_of(tmp_path, "train")) and set(val) < set(names_of(tmp_path, "val"))
    assert set(names_of(tmp_path, "val")) < set(names_of(tmp_path, "val", val_share=0.5))
    assert len(names_of(tmp_path, "train", val_share=0)) == 40
    with pytest.raises(DataError, match=r"none of the 40 images .* is val"):
        SegmentationFolder(tmp_path, "val", val_share=0)
    with pytest.raises(DataError, match=r"no split 'test'\n.*train, val or all"):
        SegmentationFolder(tmp_path, "test")
    with pytest.raises(ConfigError, match="val_share is 20"):
        SegmentationFolder(tmp_path, "val", val_share=20)


def test_the_split_in_the_name_of_a_folder(root):
    folders = {"image_dir": "images/{split}", "label_dir": "labels/{split}"}
    for split in ("train", "val", None):
        assert names_of(root, split, **folders) == names_of(root, split)
    named = {"image_dir": "images/train", "label_dir": "labels/train"}
    assert names_of(root, "train", **named) == names_of(root, "all", **named) == ["a", "b"]
    with pytest.raises(DataError, match="images/train holds split 'train' by its name, not 'val'"):
        SegmentationFolder(root, "val", **named)


def test_transform_gets_the_whole_sample(root):
    data = SegmentationFolder(root, "val", transform=lambda sample: {**sample, "name": sample["name"] + "!"})
    assert data[0]["name"] == "c!"


def test_more_than_255_classes_are_int32(tmp_path):
    photo(tmp_path / "images" / "x.png")
    write(tmp_path / "masks" / "x.png", np.full((6, 8), 299, np.uint16))
    names = [f"c{i}" for i in range(300)]
    with pytest.raises(ConfigError, match=r"ignore_index 255 is the id of class 'c255'"):
        SegmentationFolder(tmp_path, names=names)
    with pytest.raises(ConfigError, match="ignore_index -1 is negative"):
        SegmentationFolder(tmp_path, names=names, ignore_index=-1)
    data = SegmentationFolder(tmp_path, names=names, ignore_index=65535)
    assert data[0]["mask"].dtype == torch.int32 and (data.mask(0) == 299).all()
    assert count_pixels(data).pixels[299] == 48


def test_ignore_index_comes_from_the_classes_file(root):
    (root / "classes.json").write_text(json.dumps({"names": ["sky", "sea"], "ignore_index": 250}))
    label(root / "labels" / "train" / "a.png", value=250)
    assert SegmentationFolder(root).ignore_index == 250
    assert count_pixels(SegmentationFolder(root)).ignored_pixels == 48


@pytest.mark.parametrize("suffix", ["bmp", "tif", "webp", "png"])
def test_images_of_other_formats(tmp_path, suffix):
    photo(tmp_path / "images" / f"x.{suffix}", value=77)
    label(tmp_path / "masks" / "x.png")
    image = SegmentationFolder(tmp_path, names=["a", "b"])[0]["image"]
    assert image.shape == (3, 6, 8) and (image.float() - 77).abs().max() <= 2


@pytest.mark.parametrize("kind", ["L", "RGBA", "P", "CMYK", "disguised"])
def test_every_image_becomes_rgb_bytes(tmp_path, kind):
    folder = tmp_path / "images"
    folder.mkdir()
    value = 100
    match kind:
        case "CMYK":
            Image.new("RGB", (8, 6), (value,) * 3).convert("CMYK").save(folder / "x.jpg")
        case "disguised":
            Image.new("RGB", (8, 6), (value,) * 3).save(folder / "x.bmp")
            (folder / "x.bmp").rename(folder / "x.png")
        case _:
            Image.new("RGB", (8, 6), (value,) * 3).convert(kind).save(folder / "x.png")
    label(tmp_path / "masks" / "x.png")
    image = SegmentationFolder(tmp_path, names=["a", "b"])[0]["image"]
    assert image.dtype == torch.uint8 and image.shape == (3, 6, 8)
    assert (image.float() - value).abs().max() <= 3


def test_photographs_are_turned_upright(tmp_path):
    (tmp_path / "images").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (6, 8)).save(tmp_path / "images" / "x.jpg", exif=exif)
    label(tmp_path / "masks" / "x.png", size=(6, 8))
    assert SegmentationFolder(tmp_path, names=["a", "b"])[0]["image"].shape == (3, 6, 8)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda r: (r / "labels/train/a.png").unlink(), r"1 image without label in .*labels/train: a"),
        (lambda r: (r / "images/train/a.jpg").unlink(), r"1 label without image in .*images/train: a"),
        (lambda r: photo(r / "images/train/a.png"), r"two images of one name"),
        (lambda r: [p.unlink() for p in (r / "images/train").iterdir()], r"no images .* in .*images/train"),
        (lambda r: [p.unlink() for p in (r / "labels/train").iterdir()], r"no images .* in .*labels/train"),
        (lambda r: (r / "images/train").rename(r / "images/x"), r"has no split 'train'.*\n.*val, x"),
        (lambda r: (r / "labels").rename(r / "truth"), r"has no folders images and labels, masks, annotations"),
        (lambda r: (r / "classes.json").unlink(), r"has none of classes.json, classes.txt"),
        (lambda r: (r / "classes.json").write_text("{"), r"cannot read .*classes.json"),
        (lambda r: (r / "classes.json").write_text('{"names": 3}'), r"holds no list of names"),
        (lambda r: (r / "classes.json").write_text('["a", "a"]'), r"gives the name .a. to the classes 0, 1"),
        (lambda r: (r / "classes.json").write_text('["", "a"]'), r"class 0 of .* has no name"),
        (lambda r: (r / "classes.json").write_text('{"names": ["a", "b"], "palette": [[1, 2, 3]]}'), r"not 2 colours"),
    ],
)
def test_an_unexpected_folder_is_refused(root, damage, problem):
    damage(root)
    with pytest.raises(DataError, match=problem):
        SegmentationFolder(root, "train")


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda r: label(r / "labels/train/a.png", size=(6, 9)), r"a\.png is 9x6, its image .*a\.jpg 8x6"),
        (lambda r: label(r / "labels/train/a.png", value=2), r"a\.png holds value 2 \(48 pixels\)"),
        (lambda r: photo(r / "labels/train/a.png"), r"a\.png holds colours of no class: \(120, 120, 120\)"),
        (lambda r: (r / "labels/train/a.png").write_bytes(b"x"), r"cannot read label image .*a\.png"),
        (lambda r: (r / "images/train/a.jpg").write_bytes(b"x"), r"cannot read image .*a\.jpg"),
        (lambda r: (r / "images/train/a.jpg").write_bytes(b""), r"cannot read image .*a\.jpg"),
    ],
)
def test_an_unexpected_file_is_refused_when_read(root, damage, problem):
    damage(root)
    with pytest.raises(DataError, match=problem):
        SegmentationFolder(root, "train")[0]


@pytest.mark.parametrize("chunk", [1, 100])
@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda r: label(r / "labels/train/b.png", size=(6, 9)), r"b\.png is 9x6, its image .*b\.jpg 8x6"),
        (lambda r: (r / "labels/train/b.png").write_bytes(b"x"), r"cannot read label image .*b\.png"),
        (lambda r: (r / "images/train/b.jpg").write_bytes(b""), r"cannot read image .*b\.jpg"),
    ],
)
def test_headers_tell_unfit_files(root, damage, problem, chunk, monkeypatch):
    monkeypatch.setattr("longtail.datasets.pairs._CHUNK", chunk)
    data = SegmentationFolder(root, "train")
    data.check_images()
    damage(root)
    with pytest.raises(DataError, match=problem):
        data.check_images()


@pytest.mark.parametrize("alpha", [255, 254])
def test_an_alpha_channel_is_looked_at_before_training(root, alpha):
    photo = root / "images/train/b.jpg"
    image = Image.open(photo).convert("RGBA")
    image.putpixel((3, 1), (0, 0, 0, alpha))
    image.save(photo.with_suffix(".png"))
    photo.unlink()
    data = SegmentationFolder(root, "train")
    if alpha == 255:  # nothing is transparent
        data.check_images()
        assert {len(data[i]["image"]) for i in range(len(data))} == {3}
    else:
        with pytest.raises(DataError, match=r"b\.png has 4 bands"):
            data.check_images()


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_headers_of_turned_photographs(tmp_path, suffix):
    (tmp_path / "images").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (6, 8)).save(tmp_path / "images" / f"x.{suffix}", exif=exif)
    label(tmp_path / "masks" / "x.png", size=RGB.read(tmp_path / "images" / f"x.{suffix}").shape[-2:])
    SegmentationFolder(tmp_path, None, names=["a", "b"]).check_images()


def test_a_file_that_vanishes_is_named(root):
    data = SegmentationFolder(root, "train")
    (root / "images/train/a.jpg").unlink()
    with pytest.raises(DataError, match=r"a\.jpg does not exist"):
        data[0]


def test_missing_root(tmp_path):
    with pytest.raises(DataError, match="none does not exist"):
        SegmentationFolder(tmp_path / "none")


def test_fingerprint_changes_with_labels_and_classes(root):
    before = SegmentationFolder(root, "train").fingerprint
    assert SegmentationFolder(root, "train").fingerprint == before != SegmentationFolder(root, "val").fingerprint
    assert SegmentationFolder(root, "train", names=["x", "y"]).fingerprint != before
    write(root / "labels/train/a.png", np.eye(6, 8, dtype=np.uint8))
    assert SegmentationFolder(root, "train").fingerprint != before


def test_label_table_maps_what_is_read_and_counted(root):
    table = np.full(256, -1)
    table[[0, 1]] = 255, 0
    known = SegmentationFolder(root, "train")
    data = ImageLabelPairs(known.pairs, known.classes, label_format=LabelFormat(table))
    assert (data.mask(0) == 0).all() and count_pixels(data).pixels.tolist() == [96, 0]
    label(root / "labels/train/b.png", value=9)
    with pytest.raises(DataError, match=r"b\.png holds value 9"):
        data.mask(1)


@pytest.mark.parametrize("name", ["ccp51", "camvid11"])
def test_real_samples_load(real_data, name):
    data = SegmentationFolder(real_data / name, "val")
    recorded = json.loads((real_data / name / "classes.json").read_text())
    assert list(data.classes.names) == recorded["names"] and len(data) == recorded["splits"]["val"]["images"]
    sample = data[len(data) // 2]
    assert sample["image"].shape[-2:] == sample["mask"].shape


def test_frames_of_a_video_stay_together(tmp_path):
    (tmp_path / "classes.txt").write_text("sky\nsea\n")
    for video in range(12):
        for frame in range(2):
            photo(tmp_path / "images" / f"video_{video}_{frame}.jpg")
            label(tmp_path / "masks" / f"video_{video}_{frame}.png")
    sides = [
        {name.rpartition("_")[0] for name in names_of(tmp_path, split, split_by=r"video_(\d+)", val_share=0.4)}
        for split in ("train", "val")
    ]
    assert len(sides[0]) + len(sides[1]) == 12 and not sides[0] & sides[1]


def test_split_by_of_folders_with_splits(root):
    with pytest.raises(ConfigError, match="already has splits"):
        SegmentationFolder(root, "train", split_by=r"video_(\d+)")


def test_255_classes_still_fit_bytes_and_the_first_free_id_may_be_ignored():
    def classes(number):
        return ClassInfo(tuple(map(str, range(number))), ((0, 0, 0),) * number)

    assert label_type(classes(255), 255) is np.uint8
    assert label_type(classes(256), 256) is np.int32
    assert label_type(classes(3), 3) is np.uint8
