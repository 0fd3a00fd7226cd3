"""``SegmentationFolder``: your own images and label images, in the layouts that people have."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from longtail.classes_file import checked_palette, distinct_names
from longtail.datasets.base import SegmentationSample
from longtail.datasets.class_files import (
    CLASS_FILES,
    ClassFile,
    find_class_file,
    read_class_file,
    voc_classes,
)
from longtail.datasets.layouts import Layout, all_pairs, find_folders, find_split_list, listed, named_folders, placed
from longtail.datasets.pairing import Pair
from longtail.datasets.pairs import ImageLabelPairs
from longtail.datasets.photographs import RGB, PhotoFormat
from longtail.datasets.splits import ALL, in_split, parting_note
from longtail.errors import ConfigError, DataError
from longtail.json_files import read_lines


class SegmentationFolder(ImageLabelPairs):
    """A folder of images and label images of equal names.

    Layouts::

        ROOT/images/{split}/NAME.jpg   ROOT/labels/{split}/NAME.png             classes.json
        ROOT/images/NAME.jpg           ROOT/masks/NAME.png                      classes.txt
        ROOT/{split}/images/NAME.jpg   ROOT/{split}/masks/NAME.png
        ROOT/{split}/NAME.jpg          ROOT/{split}_labels/NAME_L.png           class_dict.csv
        ROOT/{split}/NAME.jpg          ROOT/{split}/NAME_mask.png               {split}/_classes.csv (Roboflow)
        ROOT/JPEGImages/NAME.jpg       ROOT/SegmentationClass/NAME.png          labelmap.txt (PASCAL VOC, CVAT)
        ROOT/NAME.jpg                  ROOT/NAME_mask.png

    The label folder may be called ``labels``, ``masks`` or ``annotations``; ``valid`` and ``validation`` are "val". Label
    images hold class ids (8 or 16 bits, or palette indices) or the colours of ``class_dict.csv``, ``labelmap.txt`` or the
    ``palette`` of ``classes.json``.

    Without sub-folders of splits, ``ImageSets/Segmentation/{split}.txt``, ``splits/{split}.txt`` or ``{split}.txt`` lists
    the images; without lists, "train" and "val" part the images by a hash of their names.

    Args:
        root: The folder.
        split: Name of the split; "all" or None takes all.
        transform: Applied to the whole sample dict.
        image_dir: Folder of the images, where the layout is another; ``{split}`` in it is the split. As all paths of
            these options it is relative to ``root``, or to the working folder.
        label_dir: Folder of their label images, likewise.
        image_suffix: End of image stems that is no part of the name (``IMG_1_photo.jpg``: ``_photo``).
        label_suffix: The same of label stems; None finds ``_mask``, ``_label``, ``_L`` and the like.
        split_list: File that lists the images of the split, one per line; ``{split}`` in it is the split.
        val_share: Share of the images that is "val" where nothing else parts them.
        split_by: Pattern that groups the images there, such as ``video_(\\d+)``: see ``splits.in_split``.
        classes: File of classes, where it is elsewhere: ``classes.json``, ``classes.txt``, ``labelmap.txt``,
            ``class_dict.csv`` or ``_classes.csv``.
        names: Class names, instead of a file.
        palette: Colours of ``names``.
        ignore_classes: Names of classes whose pixels count for no class, such as ``Void``.
        ignore_index: Value of pixels without class; None: from ``classes.json``, or 255.
        label_map: What stored values mean, see ``ImageLabelPairs``.
        reduce_zero_label: Label images store class i as i + 1, and 0 for no class.
        photos: How the photographs are read: bands, range of values.

    Raises:
        ConfigError: ``val_share`` is not in [0, 1], or options do not go together.
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
        image_suffix: str = "",
        label_suffix: str | None = None,
        split_list: str | None = None,
        val_share: float = 0.2,
        split_by: str | None = None,
        classes: str | Path | None = None,
        names: Sequence[str] | None = None,
        palette: Sequence[Sequence[int]] | None = None,
        ignore_classes: Sequence[str] = (),
        ignore_index: int | None = None,
        label_map: Mapping[int | str, int] | None = None,
        reduce_zero_label: bool = False,
        photos: PhotoFormat = RGB,
    ) -> None:
        root = Path(root).expanduser()
        if not root.is_dir():
            raise DataError(f"data folder {root} does not exist", fix="check the path")
        if (image_dir is None) != (label_dir is None):
            raise ConfigError("image_dir and label_dir go together", fix="give both, or neither")
        if image_dir is not None and label_dir is not None:
            layouts = [named_folders(root, image_dir, label_dir, split)]
        else:
            layouts = find_folders(root, split)
        file = _class_file(root, layouts, classes, names, palette)
        pairs = all_pairs(layouts, image_suffix, label_suffix)
        if layouts[0].whole and split not in (None, ALL):
            pairs = self._of_split(pairs, str(split), root, layouts[0], split_list, val_share, split_by)
        elif (split_by or split_list) and split not in (None, ALL):
            raise ConfigError(
                f"split_by or split_list is given, but {root} already has splits",
                fix="leave it out, or name one folder of all with image_dir and label_dir",
            )
        ignored = file.ignore_index if ignore_index is None else ignore_index
        super().__init__(
            pairs,
            file.classes(ignore_classes),
            ignore_index=ignored,
            label_format=file.label_format(ignored, ignore_classes),
            label_map=label_map,
            reduce_zero_label=reduce_zero_label,
            photos=photos,
            transform=transform,
        )
        self.root, self.split = root, split

    def _of_split(
        self,
        pairs: list[Pair],
        split: str,
        root: Path,
        layout: Layout,
        split_list: str | None,
        val_share: float,
        split_by: str | None,
    ) -> list[Pair]:
        """The pairs of a split, by a list or the hash of their names."""
        listing = placed(root, split_list.replace("{split}", split)) if split_list else None
        if listing is None and split_by is None:
            listing = find_split_list(root, split)
        if listing is not None:
            return listed(pairs, listing, read_lines(listing, "the images of a split"), root)
        kept = in_split([p[0] for p in pairs], split, layout.images, val_share=val_share, split_by=split_by)
        self.note = parting_note(layout.images, val_share, split_by)
        return [pair for pair, keep in zip(pairs, kept, strict=True) if keep]


def _class_file(
    root: Path,
    layouts: Sequence[Layout],
    classes: str | Path | None,
    names: Sequence[str] | None,
    palette: Sequence[Sequence[int]] | None,
) -> ClassFile:
    """The classes: of the options, of the named file, or of the one that lies in the folder."""
    if names is not None:
        given = distinct_names(names, "names")
        return ClassFile(root, given, None if palette is None else checked_palette(palette, len(given), "names"))
    path = find_class_file([root, *(layout.images for layout in layouts)]) if classes is None else placed(root, classes)
    if path is None:
        if layouts[0].labels.name == "SegmentationClass":
            return voc_classes(root)
        raise DataError(
            f"{root} has none of {', '.join(CLASS_FILES)}",
            fix="write the class names, one per line in the order of their ids, into classes.txt, or pass names",
        )
    file = read_class_file(path)
    if palette is None:
        return file
    return ClassFile(path, file.names, checked_palette(palette, len(file.names), path), file.values, file.ignore_index)
