"""Where COCO-style annotation files and their images are, in the layouts that tools export."""

import re
from pathlib import Path

from longtail.annotations.read import read_coco_file
from longtail.datasets.annotated import Annotated, choose_file
from longtail.datasets.splits import spellings
from longtail.errors import DataError
from longtail.folders import matching

_ROBOFLOW = "_annotations.coco.json"
_ENDS = 1 << 16  # bytes at either end of a file in which its keys are looked for
_KEYS = re.compile(rb'"(images|annotations|categories)"\s*:\s*\[')
_OTHER_TASKS = ("captions", "keypoints", "panoptic", "stuff", "image_info")


def find_coco(root: Path, split: str | None) -> Annotated:
    """Annotations of a split of COCO itself, or as Roboflow, CVAT, Label Studio, Objects365 and others export them.

    Raises:
        DataError: There are none, or more than one file may be meant.
    """
    candidates = [root / name for name in _names(split)]
    exact = next((path for path in candidates if path.is_file()), None)
    chosen = (exact, True) if exact else choose_file(coco_files(root), root, split, "annotation files")
    if chosen is None:
        shown = ", ".join(map(str, candidates[:4])) or str(root)
        raise DataError(f"no annotations at {shown}", fix="name the file with annotations=…, or check the split")
    path, has_splits = chosen
    return Annotated(read_coco_file(path), image_folders(root, split, path), has_splits)


def coco_files(root: Path) -> list[Path]:
    """Files of a folder, its ``annotations`` and the folders of its splits that look like COCO-style annotations."""
    found = matching(root, "*.json", "annotations/*.json", f"*/{_ROBOFLOW}")
    likely = sorted(path for path in found if _looks_like_coco(path))
    of_boxes = [path for path in likely if not any(word in path.name for word in _OTHER_TASKS)]
    return of_boxes or likely


def image_folders(root: Path, split: str | None, file: Path) -> list[Path]:
    """Folders that the image names of an annotation file may be relative to, those of the split first."""
    of_split = [folder for s in spellings(split) for folder in (root / "images" / s, root / f"{s}2017", root / s)]
    return [*of_split, root / "images", root, file.parent, file.parent.parent / "images"]


def _names(split: str | None) -> list[str]:
    return [
        name
        for s in spellings(split)
        for name in (
            f"annotations/{s}.json",
            f"annotations/instances_{s}2017.json",
            f"annotations/instances_{s}.json",
            f"{s}.json",
            f"{s}/{_ROBOFLOW}",
        )
    ]


def _looks_like_coco(path: Path) -> bool:
    with path.open("rb") as file:
        ends = file.read(_ENDS)
        file.seek(max(path.stat().st_size - _ENDS, 0))
        ends += file.read(_ENDS)
    start = ends.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if path.parent.name == "annotations":  # also a damaged one, so that reading it says what is wrong
        return start != b"["
    return start == b"{" and _KEYS.search(ends) is not None
