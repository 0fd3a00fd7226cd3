"""``SegmentationFolder``: your own images and label images, in the two layouts that people have."""

from collections.abc import Callable, Sequence
from pathlib import Path

from longtail.classes_file import ClassesFile, checked_palette, distinct_names, read_classes_file
from longtail.datasets.base import ClassInfo, SegmentationSample
from longtail.datasets.image_files import pair_files
from longtail.datasets.pairs import ImageLabelPairs
from longtail.datasets.palette import generate_palette
from longtail.datasets.parting import ALL, in_split, parting_note
from longtail.errors import ConfigError, DataError
from longtail.folders import folders_in

_LABEL_FOLDERS = ("labels", "masks", "annotations")


class SegmentationFolder(ImageLabelPairs):
    """A folder of images and label images of equal names.

    Layouts::

        ROOT/images/{split}/NAME.jpg   ROOT/labels/{split}/NAME.png   ROOT/classes.json
        ROOT/images/NAME.jpg           ROOT/masks/NAME.png            ROOT/classes.txt

    The label folder may be called ``labels``, ``masks`` or ``annotations``. Label images hold class ids (8 or 16
    bits, or palette indices). ``classes.json`` holds ``names``, and where wanted ``palette`` and ``ignore_index``;
    ``classes.txt`` one name a line.

    Without sub-folders of splits, "train" and "val" part the images by a hash of their names: an image is on the same
    side whatever other files there are.

    Args:
        root: The folder.
        split: Sub-folder of images and labels, or "train" and "val" where there are none; "all" or None takes all.
        transform: Applied to the whole sample dict.
        image_dir: Folder of the images of this split, where the layout is another; ``{split}`` in it is the split.
        label_dir: Folder of their label images, likewise.
        names: Class names, where there is no classes file.
        palette: Colours, where the classes file has none; generated otherwise.
        ignore_index: Value of pixels without class; None takes that of ``classes.json``, or 255.
        image_suffix: End of image stems that is no part of the name (``IMG_1_photo.jpg``: ``_photo``).
        label_suffix: The same of label stems.
        val_share: Share of the images that is "val" where there are no sub-folders of splits.
        split_by: Pattern that groups the images there, such as ``video_(\\d+)``: see ``parting.in_split``.

    Raises:
        ConfigError: ``val_share`` is not in [0, 1], or ``split_by`` is given for folders that are splits.
        DataError: A folder or the classes file is missing, images and labels do not match, or the split is empty.
    """

    def __init__(
        self,
        root: str | Path,
        split: str | None = "train",
        transform: Callable[[SegmentationSample], SegmentationSample] | None = None,
        *,
        image_dir: str | Path | None = None,
        label_dir: str | Path | None = None,
        names: Sequence[str] | None = None,
        palette: Sequence[Sequence[int]] | None = None,
        ignore_index: int | None = None,
        image_suffix: str = "",
        label_suffix: str = "",
        val_share: float = 0.2,
        split_by: str | None = None,
    ) -> None:
        root = Path(root).expanduser()
        if not root.is_dir():
            raise DataError(f"data folder {root} does not exist", fix="check the path")
        images = _named_folder(root, image_dir, split) if image_dir else _split_folder(root / "images", split)
        labels = _named_folder(root, label_dir, split) if label_dir else _split_folder(_label_folder(root), split)
        classes, stored_ignore = read_classes(root, names, palette)
        pairs = pair_files(images, labels, image_suffix, label_suffix)
        if not image_dir and split not in (None, ALL) and images == root / "images":
            names_of_pairs = [name for name, _, _ in pairs]
            kept = in_split(names_of_pairs, split, images, val_share=val_share, split_by=split_by)
            pairs = [pair for pair, keep in zip(pairs, kept, strict=True) if keep]
            self.note = parting_note(images, val_share, split_by)
        elif split_by is not None and split not in (None, ALL):
            raise ConfigError(
                f"split_by is given, but {root} has splits of its own",
                fix="leave split_by out, or name one folder of all",
            )
        super().__init__(
            pairs,
            classes,
            ignore_index=stored_ignore if ignore_index is None else ignore_index,
            transform=transform,
        )
        self.root, self.split = root, split


def _label_folder(root: Path) -> Path:
    for name in _LABEL_FOLDERS:
        if (root / name).is_dir():
            return root / name
    raise DataError(
        f"{root} has no folder {', '.join(_LABEL_FOLDERS[:-1])} or {_LABEL_FOLDERS[-1]}",
        fix="name the folder of label images with label_dir",
    )


def _named_folder(root: Path, folder: str | Path, split: str | None) -> Path:
    return root / str(folder).replace("{split}", "" if split in (None, ALL) else str(split))


def _split_folder(folder: Path, split: str | None) -> Path:
    """Sub-folder of the split; the folder itself where all is asked for, or there are no sub-folders."""
    if split is not None and (folder / split).is_dir():
        return folder / split
    if split in (None, ALL):
        return folder
    if not folder.is_dir():
        raise DataError(f"folder {folder} does not exist", fix="check the layout, or name it with image_dir")
    splits = [path.name for path in folders_in(folder)]
    if splits:
        raise DataError(f"{folder} has no split {split!r}", fix=f"choose one of {', '.join(splits)}, or {ALL}")
    return folder


def read_classes(
    root: Path, names: Sequence[str] | None = None, palette: Sequence[Sequence[int]] | None = None
) -> tuple[ClassInfo, int]:
    """Classes of a data folder and its ``ignore_index``.

    Args:
        root: Folder of ``classes.json`` or ``classes.txt``.
        names: Taken instead of the file's.
        palette: Taken instead of the file's.

    Raises:
        DataError: There is no classes file, or it does not hold names and as many colours.
    """
    files = [root / name for name in ("classes.json", "classes.txt") if (root / name).is_file()]
    if names is not None:
        source, found = Path("names"), ClassesFile(distinct_names(names, "names"))
    elif files:
        source, found = files[0], read_classes_file(files[0])
    else:
        raise DataError(
            f"{root} has neither classes.json nor classes.txt",
            fix="write the class names, one a line in the order of their ids, into classes.txt, or pass names",
        )
    colours = found.palette if palette is None else checked_palette(palette, len(found.names), source)
    classes = ClassInfo(found.names, generate_palette(len(found.names)) if colours is None else colours)
    return classes, 255 if found.ignore_index is None else found.ignore_index
