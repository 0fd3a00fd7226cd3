"""The same two images with boxes in every layout that is read, with the right values worked by hand.

``sky.jpg`` is 100 x 50 pixels with a cat at (10, 5) … (30, 25) and a dog at (40, 20) … (90, 50); ``sea.jpg`` is
60 x 80 with a dog at (0, 0) … (30, 40). ``fog.jpg``, 20 x 20, has no object where a layout can say so.
"""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

#: Name -> (width, height) and the objects: class, left, top, right, bottom.
IMAGES: dict[str, tuple[int, int]] = {"sky": (100, 50), "sea": (60, 80), "fog": (20, 20)}
OBJECTS: dict[str, list[tuple[str, int, int, int, int]]] = {
    "sky": [("cat", 10, 5, 30, 25), ("dog", 40, 20, 90, 50)],
    "sea": [("dog", 0, 0, 30, 40)],
    "fog": [],
}
CLASSES = ("cat", "dog")


def photo(path: Path, name: str, colour: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", IMAGES[name], (90 * colour, IMAGES[name][0], 90)).save(path)


def coco_content(names: Sequence[str] = tuple(IMAGES), file_name: str = "{}.jpg", first: int = 1) -> dict[str, Any]:
    """COCO-style content whose category ids begin at ``first``."""
    images = [
        {"id": i, "file_name": file_name.format(n), "width": IMAGES[n][0], "height": IMAGES[n][1]}
        for i, n in enumerate(names)
    ]
    annotations = [
        {"image_id": i, "category_id": CLASSES.index(c) + first, "bbox": [x0, y0, x1 - x0, y1 - y0], "iscrowd": 0}
        for i, n in enumerate(names)
        for c, x0, y0, x1, y1 in OBJECTS[n]
    ]
    return {
        "images": images,
        "annotations": [{"id": i, "area": a["bbox"][2] * a["bbox"][3], **a} for i, a in enumerate(annotations)],
        "categories": [{"id": c + first, "name": name} for c, name in enumerate(CLASSES)],
    }


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def roboflow(root: Path) -> None:
    for colour, split in enumerate(("train", "valid", "test")):
        for name in IMAGES:
            photo(root / split / f"{name}.jpg", name, colour)
        write_json(root / split / "_annotations.coco.json", coco_content())


def cvat(root: Path) -> None:
    for colour, split in enumerate(("Train", "Validation")):
        for name in IMAGES:
            photo(root / "images" / split / f"{name}.jpg", name, colour)
        write_json(root / "annotations" / f"instances_{split}.json", coco_content())


def objects365(root: Path) -> None:
    for colour, split in enumerate(("train", "val")):
        for name in IMAGES:
            photo(root / split / "patch3" / f"{name}.jpg", name, colour)
        write_json(root / f"zhiyuan_objv2_{split}.json", coco_content(file_name="images/v2/patch3/{}.jpg"))


def label_studio(root: Path) -> None:
    """One file, no splits, and paths of Windows."""
    for name in IMAGES:
        photo(root / "images" / f"{name}.jpg", name)
    write_json(root / "result.json", coco_content(file_name="images\\{}.jpg", first=0))
    write_json(root / "notes.json", {"categories_of": [], "info": {}})


def yolo_lines(name: str) -> str:
    width, height = IMAGES[name]
    boxes = [(CLASSES.index(c), x0 + x1, y0 + y1, x1 - x0, y1 - y0) for c, x0, y0, x1, y1 in OBJECTS[name]]
    return "".join(f"{c} {x / 2 / width} {y / 2 / height} {w / width} {h / height}\n" for c, x, y, w, h in boxes)


def yolo(root: Path) -> None:
    """The layout of Ultralytics."""
    for colour, split in enumerate(("train", "val")):
        for name in IMAGES:
            photo(root / "images" / split / f"{name}.jpg", name, colour)
            if OBJECTS[name]:
                label = root / "labels" / split / f"{name}.txt"
                label.parent.mkdir(parents=True, exist_ok=True)
                label.write_text(yolo_lines(name))
    (root / "data.yaml").write_text(
        "path: ../somewhere/else\ntrain: images/train\nval: images/val\nnames: {0: cat, 1: dog}\n"
    )


def yolo_roboflow(root: Path) -> None:
    """The layout of Roboflow's export: a folder for each split, and paths that lead out of the data set."""
    for colour, split in enumerate(("train", "valid")):
        for name in IMAGES:
            photo(root / split / "images" / f"{name}.jpg", name, colour)
            (root / split / "labels").mkdir(exist_ok=True)
            (root / split / "labels" / f"{name}.txt").write_text(yolo_lines(name))
    (root / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnc: 2\nnames: ['cat', 'dog']\n")


def yolo_lists(root: Path) -> None:
    """Lists of the images of each split, and labels beside the images."""
    (root / "data").mkdir(parents=True)
    for colour, split in enumerate(("train", "val")):
        for name in IMAGES:
            photo(root / "data" / f"{split}_{name}.jpg", name, colour)
            (root / "data" / f"{split}_{name}.txt").write_text(yolo_lines(name))
        listed = "\n".join(f"./data/{split}_{name}.jpg" for name in IMAGES)
        (root / f"{split}.txt").write_text(listed + "\n")
    (root / "pets.yaml").write_text("train: train.txt\nval: val.txt\nnames: [cat, dog]\n")


def voc_xml(name: str, *, shift: int = 1, difficult: bool = False, size: bool = True) -> str:
    """A VOC annotation; ``shift`` 1 counts pixels from 1 and includes the last, 0 writes edges."""
    width, height = IMAGES[name]
    objects = "".join(
        f"<object><name>{c}</name><difficult>{int(difficult and c == 'dog')}</difficult><bndbox>"
        f"<xmin>{x0 + shift}</xmin><ymin>{y0 + shift}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox>"
        "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part></object>"
        for c, x0, y0, x1, y1 in OBJECTS[name]
    )
    stated = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>" if size else ""
    return f"<annotation><filename>{name}.jpg</filename>{stated}{objects}</annotation>"


def voc(root: Path, **options: Any) -> None:
    base = root / "VOCdevkit" / "VOC2012"
    for folder in ("Annotations", "ImageSets/Main"):
        (base / folder).mkdir(parents=True)
    for colour, split in enumerate(("train", "val")):
        for name in IMAGES:
            photo(base / "JPEGImages" / f"{split} {name}.jpg", name, colour)
            (base / "Annotations" / f"{split} {name}.xml").write_text(voc_xml(name, **options))
        names = [f"{split} {name}" for name in IMAGES]
        (base / "ImageSets/Main" / f"{split}.txt").write_text("\n".join(names) + "\n")
        (base / "ImageSets/Main" / f"cat_{split}.txt").write_text("\n".join(f"{name} -1" for name in names))


def voc_roboflow(root: Path) -> None:
    for colour, split in enumerate(("train", "valid")):
        for name in IMAGES:
            photo(root / split / f"{name}.jpg", name, colour)
            (root / split / f"{name}.xml").write_text(voc_xml(name, shift=0))


def write_csv(path: Path, rows: Sequence[Sequence[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def open_images(root: Path) -> None:
    """Shares of the image, ids instead of file names, and labels that a second file names."""
    for colour, split in enumerate(("train", "validation")):
        rows: list[Sequence[Any]] = [
            ["ImageID", "Source", "LabelName", "Confidence", "XMin", "XMax", "YMin", "YMax", "IsGroupOf"]
        ]
        for name, (width, height) in IMAGES.items():
            photo(root / split / f"{split}{name}.jpg", name, colour)
            for c, x0, y0, x1, y1 in OBJECTS[name]:
                label = f"/m/0{CLASSES.index(c)}"
                rows.append([f"{split}{name}", "xclick", label, 1, x0 / width, x1 / width, y0 / height, y1 / height, 0])
        write_csv(root / f"{split}-annotations-bbox.csv", rows)
    write_csv(root / "class-descriptions-boxable.csv", [["/m/00", "cat"], ["/m/01", "dog"]])


def table_roboflow(root: Path) -> None:
    for colour, split in enumerate(("train", "valid")):
        rows: list[Sequence[Any]] = [["filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"]]
        for name, size in IMAGES.items():
            photo(root / split / f"{name}.jpg", name, colour)
            rows += [[f"{name}.jpg", *size, *found] for found in OBJECTS[name]] or [[f"{name}.jpg", *size, *[""] * 5]]
        write_csv(root / split / "_annotations.csv", rows)


def table_json(root: Path) -> None:
    for colour, split in enumerate(("train", "val")):
        rows = []
        for name in IMAGES:
            photo(root / "images" / split / f"{name}.jpg", name, colour)
            keys = ("label", "x1", "y1", "x2", "y2")
            rows += [{"image": f"{name}.jpg", **dict(zip(keys, found, strict=True))} for found in OBJECTS[name]]
        write_json(root / f"{split}.json", rows)


#: Layout -> (what writes it, class that reads it, number of images of a split that it can tell).
LAYOUTS: dict[str, tuple[Callable[[Path], None], str, int]] = {
    "roboflow": (roboflow, "Coco", 3),
    "cvat": (cvat, "Coco", 3),
    "objects365": (objects365, "Coco", 3),
    "yolo": (yolo, "Yolo", 3),
    "yolo_roboflow": (yolo_roboflow, "Yolo", 3),
    "yolo_lists": (yolo_lists, "Yolo", 3),
    "voc": (voc, "Voc", 3),
    "voc_roboflow": (voc_roboflow, "Voc", 3),
    "open_images": (open_images, "BoxTable", 2),
    "table_roboflow": (table_roboflow, "BoxTable", 3),
    "table_json": (table_json, "BoxTable", 2),
}
