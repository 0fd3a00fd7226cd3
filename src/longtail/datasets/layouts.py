"""Where the photographs and label images of a folder lie, and which of them are of a split."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from longtail.datasets.class_files import CLASS_FILES
from longtail.datasets.pairing import Pair, has_both, pair_folders, strip_suffix
from longtail.datasets.splits import ALL, is_split, no_split, spellings
from longtail.errors import DataError
from longtail.folders import folders_in, matching

_IMAGE_FOLDERS = ("images", "JPEGImages")
_LABEL_FOLDERS = ("labels", "masks", "annotations", "SegmentationClass")
_LABEL_ENDS = ("_labels", "_masks", "_annotations", "annot")
_LISTS = ("ImageSets/Segmentation", "ImageSets", "splits", "")


@dataclass(frozen=True)
class Layout:
    """Folders of the photographs and of the label images of one split, or of all of them.

    Args:
        images: Folder of photographs.
        labels: Folder of label images, maybe the same.
        whole: Whether they hold every split.
        prefix: Start of the names of the samples, where several such pairs of folders are read.
    """

    images: Path
    labels: Path
    whole: bool = False
    prefix: str = ""


def find_folders(root: Path, split: str | None) -> list[Layout]:
    """Folders of a split, or of all splits where each has its own.

    Raises:
        DataError: No layout is recognised, or it has other splits.
    """
    images = _first_folder(root, _IMAGE_FOLDERS)
    labels = _first_folder(root, _LABEL_FOLDERS)
    if images and labels:
        return [split_of(images, labels, split)]
    by_split = list(_split_folders(root))
    if by_split:
        if split in (None, ALL):
            return [Layout(i, m, prefix=f"{name}/") for name, i, m in by_split]
        found = next(((i, m) for name, i, m in by_split if name in spellings(split)), None)
        if found is None:
            raise no_split(root, split, [*(name for name, *_ in by_split), ALL])
        return [Layout(*found)]
    if has_both(root):
        return [Layout(root, root, whole=True)]
    folders = f"{_IMAGE_FOLDERS[0]} and {', '.join(_LABEL_FOLDERS[:-1])} or {_LABEL_FOLDERS[-1]}"
    raise DataError(
        f"{root} has no folders {folders}, and no photographs next to label images",
        fix="name the folders with image_dir and label_dir (options of the data set), and the ends of the names with "
        "label_suffix",
    )


def named_folders(root: Path, image_dir: str | Path, label_dir: str | Path, split: str | None) -> Layout:
    """The folders that the caller names, ``{split}`` in them replaced.

    Raises:
        DataError: A folder is missing, or is of another split by its name.
    """
    whole = split in (None, ALL)
    images, labels = (
        placed(root, str(f).replace("{split}", "" if whole else str(split))) for f in (image_dir, label_dir)
    )
    if "{split}" in str(image_dir):
        return Layout(images, labels)
    own = [part for part in Path(image_dir).parts if is_split(part)][-1:]
    if not own:
        return split_of(images, labels, split, only_customary=True)
    if not whole and own[0] not in spellings(split):
        raise DataError(
            f"image_dir {image_dir} holds split {own[0]!r} by its name, not {split!r}",
            fix=f"ask for split {own[0]} or {ALL}, or write {{split}} into image_dir and label_dir",
        )
    return Layout(images, labels)


def split_of(images: Path, labels: Path, split: str | None, *, only_customary: bool = False) -> Layout:
    """The sub-folders of a split; the folders themselves where all is asked for, or they have no splits.

    Args:
        images: Folder of photographs.
        labels: Folder of label images.
        split: Name of the split.
        only_customary: Whether sub-folders are splits only where one is called train, val or test, or as the split.

    Raises:
        DataError: A folder is missing, or has other splits.
    """
    if not images.is_dir():
        raise DataError(f"folder {images} does not exist", fix="check the layout, or name it with image_dir")
    splits = folders_in(images)
    if only_customary and not any(is_split(path.name) or path.name == split for path in splits):
        splits = []
    if split in (None, ALL) or not splits:
        return Layout(images, labels, whole=True)
    for path in splits:
        if path.name in spellings(split):
            names = (path.name, *spellings(split))
            return Layout(path, next((labels / n for n in names if (labels / n).is_dir()), labels / path.name))
    raise no_split(images, split, [*(path.name for path in splits), ALL])


def placed(root: Path, path: str | Path) -> Path:
    """A path that is relative to the data set, or to the working folder where only that has it."""
    return Path(path) if Path(path).exists() and not (root / path).exists() else root / path


def find_split_list(root: Path, split: str) -> Path | None:
    """``ImageSets/Segmentation/train.txt``, ``train.txt`` …: the list of the images of a split, where there are such.

    Raises:
        DataError: There are lists of other splits alone.
    """
    for folder in (root / name for name in _LISTS):
        for name in spellings(split):
            if (path := folder / f"{name}.txt").is_file():
                return path
        others = [path.stem for path in matching(folder, "*.txt") if is_split(path.stem)]
        if others:
            raise DataError(f"{folder} has no list {split}.txt", fix=f"choose one of {', '.join(others)}, or {ALL}")
    return None


def is_labelled_folder(root: Path) -> bool:
    """Whether a folder holds photographs and label images in a layout that is recognised."""
    if _first_folder(root, _IMAGE_FOLDERS):
        return True
    if any((root / name).is_file() for name in CLASS_FILES) and has_both(root):
        return True
    return any(True for _ in _split_folders(root))


def all_pairs(layouts: Sequence[Layout], image_suffix: str, label_suffix: str | None) -> list[Pair]:
    """Samples of some pairs of folders.

    Raises:
        DataError: A folder is missing or empty, or an image has no label, or a label no image.
    """
    return [
        (layout.prefix + name, image, label)
        for layout in layouts
        for name, image, label in pair_folders(layout.images, layout.labels, image_suffix, label_suffix)
    ]


def listed(pairs: Sequence[Pair], listing: Path, entries: Sequence[str], root: Path) -> list[Pair]:
    """The pairs that a list names, by the names of their images with or without extension and folders.

    Raises:
        DataError: The list names an image that does not exist.
    """
    stems = [strip_suffix(image) for _, image, _ in pairs]
    times = Counter(stem.name for stem in stems)
    by_name = {stem.name: pair for stem, pair in zip(stems, pairs, strict=True) if times[stem.name] == 1}
    by_name |= {pair[0]: pair for pair in pairs}
    by_name |= {s.relative_to(root).as_posix(): p for s, p in zip(stems, pairs, strict=True) if s.is_relative_to(root)}
    found = []
    for entry in entries:
        first = entry.split()[0]
        keys = (entry, first, strip_suffix(Path(entry)).as_posix(), strip_suffix(Path(first)).as_posix())
        matching = next((by_name[key] for key in keys if key in by_name), None)
        if matching is None:
            hint = "write folders with /, not \\" if "\\" in entry else "correct the list, or restore the files"
            raise DataError(f"{listing} names {entry}, of which there is no image with its label", fix=hint)
        found.append(matching)
    if not found:
        raise DataError(f"{listing} names no image", fix="write one name per line")
    name, most = Counter(pair[0] for pair in found).most_common(1)[0]
    if most > 1:
        raise DataError(f"{listing} names {name} {most} times", fix="name every image once")
    return found


def _first_folder(root: Path, names: Sequence[str]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


def _split_folders(root: Path) -> Iterator[tuple[str, Path, Path]]:
    """Split, folder of images and folder of labels of ``train/images``, ``train_labels`` and ``train/NAME_mask.png``."""
    for folder in folders_in(root):
        if not is_split(folder.name):
            continue
        images, labels = _first_folder(folder, _IMAGE_FOLDERS), _first_folder(folder, _LABEL_FOLDERS)
        parallel = _first_folder(root, [f"{folder.name}{end}" for end in _LABEL_ENDS])
        if images and labels:
            yield folder.name, images, labels
        elif parallel:
            yield folder.name, folder, parallel
        elif has_both(folder):
            yield folder.name, folder, folder
