"""``open_dataset``: a data set by name, path or dotted path."""

from collections.abc import Callable, Mapping
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any, Literal, get_args

from longtail.datasets.layouts import is_labelled_folder
from longtail.datasets.photographs import RGB, PhotoFormat
from longtail.errors import ConfigError, DataError
from longtail.settings import one_of, read

Task = Literal["segmentation", "detection"]
_GIVEN = ("root", "split", "transform")
_NAMED_WITHOUT_FILES = {"longtail-scenes": "longtail.datasets.synthetic.LongTailScenes"}
_NAMED = {
    "ade20k": "longtail.datasets.ade20k.ADE20K",
    "cityscapes": "longtail.datasets.cityscapes.Cityscapes",
    "coco": "longtail.datasets.coco.Coco",
    "folder": "longtail.datasets.folder.SegmentationFolder",
    "hf": "longtail.datasets.samples.SavedSamples",
    "lvis": "longtail.datasets.lvis.Lvis",
    "table": "longtail.datasets.box_table.BoxTable",
    "voc": "longtail.datasets.voc.Voc",
    "yolo": "longtail.datasets.yolo.Yolo",
}


def open_dataset(
    name_or_path: str | Path,
    split: str,
    *,
    transform: Callable[[Any], Any] | None = None,
    task: Task | None = None,
    labels_only: bool = False,
    photos: PhotoFormat | None = None,
    **options: Any,
) -> Any:
    """Open one split of a data set.

    Args:
        name_or_path: ``longtail-scenes``; ``cityscapes:ROOT``, ``ade20k:ROOT``, ``folder:ROOT``, ``coco:ROOT``,
            ``lvis:ROOT``, ``yolo:ROOT``, ``voc:ROOT``, ``table:ROOT`` or ``hf:ROOT`` (``save_to_disk``); a folder,
            recognised by its layout; or the dotted path of a class, ``my.package.MyData``, which is called with ``split``,
            ``transform`` and the options.
        split: "train", "val", … as the data set calls it.
        transform: Applied to every sample dict.
        task: Task of the data, where they hold both label images and boxes (Pascal VOC, synthetic scenes).
        labels_only: Classes will be read and nothing else: a COCO-style data set needs neither image files nor masks.
        photos: How photographs are read that are no RGB bytes.
        options: Passed on to the data set's class.

    Raises:
        ConfigError: There is no such data set, or it does not take one of the options.
        DataError: Its files are not what they should be.
    """
    text = str(name_or_path)
    kind, colon, root = text.partition(":")
    arguments: tuple[str, ...]
    if kind == "hf" and task == "detection":
        make, arguments = _import("longtail.datasets.box_samples.SavedBoxes"), (root,)
    elif colon and kind in _NAMED:
        make, arguments = _import(_NAMED[kind]), (root,)
    elif text in _NAMED_WITHOUT_FILES:
        make, arguments = _import(_NAMED_WITHOUT_FILES[text]), ()
    elif text and Path(text).expanduser().is_dir():
        make, arguments = _import(_NAMED[_layout(Path(text).expanduser(), task)]), (text,)
    else:
        make, arguments = _import(text), ()
    options = read(make, options, subject=text, given=_GIVEN)
    if task and text in _NAMED_WITHOUT_FILES:
        options = {"task": task, **options}
    if labels_only and "check_files" in signature(make).parameters:
        options = {"check_files": False, "masks": False, **options}
    dataset = make(*arguments, split=split, transform=transform, **options)
    if photos is not None and photos != RGB:
        if getattr(dataset, "photos", None) is None:
            raise ConfigError(f"{text} reads no bands or ranges", fix="leave data.bands and data.value_range out")
        dataset.photos = photos
    return dataset


def data_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a data set as a user gives them, to pass on to ``open_dataset``.

    Raises:
        ConfigError: One is an argument that the command gives, or a task that there is not.
    """
    for name in options:
        if name in ("name_or_path", "labels_only", "photos", *_GIVEN) or not isinstance(name, str):
            raise ConfigError(f"{name!r} is no option of a data set", fix="leave it out; --split names the split")
    if "task" in options:
        one_of("task", options["task"], get_args(Task))
    return dict(options)


def _layout(root: Path, task: Task | None = None) -> str:
    """Name of the data set whose layout a folder has."""
    if (root / "leftImg8bit").is_dir():
        return "cityscapes"
    if (root / "ADEChallengeData2016").is_dir() or (root / "annotations" / "training").is_dir():
        return "ade20k"
    found = detection_layout(root)
    if found and not (found == "voc" and task == "segmentation"):
        return found
    if is_labelled_folder(root):
        return "folder"
    holds = ", ".join(sorted(path.name for path in root.iterdir())[:6]) or "nothing"
    raise DataError(
        f"the layout of {root} is of no known data set; it holds {holds}",
        fix="docs/guide/data.md lists the layouts; or call it folder:ROOT and name image_dir and label_dir",
    )


def detection_layout(root: Path) -> str | None:
    """Name of the layout of boxes that a folder has; None for no such layout."""
    from longtail.datasets.box_table import table_files
    from longtail.datasets.coco_layouts import coco_files
    from longtail.datasets.voc import is_voc
    from longtail.datasets.yolo import is_yolo

    if records := coco_files(root):
        return "lvis" if any(path.name.startswith("lvis") for path in records) else "coco"
    if is_yolo(root):
        return "yolo"
    if is_voc(root):
        return "voc"
    return "table" if table_files(root) else None


def _import(path: str) -> Callable:
    module, _, name = path.rpartition(".")
    problem = f"no data set {path!r}"
    names = [*_NAMED_WITHOUT_FILES, *(f"{name}:ROOT" for name in _NAMED)]
    fix = f"choose {', '.join(names)}, an existing folder, or my.package.MyData"
    if not module or not path.replace(".", "").replace("_", "").isalnum():
        raise ConfigError(problem, fix=fix)
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{problem}: {error}", fix=fix) from error
