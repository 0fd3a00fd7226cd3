"""``open_dataset``: a data set by name, path or dotted path."""

from collections.abc import Callable, Mapping
from inspect import signature
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from longtail.components import Components
from longtail.datasets.layouts import is_labelled_folder
from longtail.datasets.photographs import RGB, PhotoFormat
from longtail.errors import ConfigError, DataError
from longtail.folders import matching
from longtail.json_files import read_json
from longtail.settings import Chosen, nearest, one_of, read

Task = Literal["segmentation", "detection"]
DATASETS = Components(
    "data set",
    "longtail.datasets",
    "longtail.datasets.base:ImageDataset",
    given=("root", "split", "transform", "task"),
    duck=True,
)


class FoundDataset(NamedTuple):
    """The class of a data set, and the folder that it reads; None for one without files."""

    chosen: Chosen
    root: str | None


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
        ConfigError: There is no such data set, it does not take one of the options, or it is of another task.
        DataError: Its files are not what they should be.
    """
    text = str(name_or_path)
    folders = "image_dir" in options and Path(text).expanduser().is_dir()  # of names that no layout has
    chosen, root = find_dataset(f"folder:{text}" if folders else text, task)
    options = read(chosen.target, options, **{**chosen.reading(), "subject": text})
    known = signature(chosen.target).parameters
    if task and "task" in known:
        options = {"task": task, **options}
    if labels_only and "check_files" in known:
        options = {"check_files": False, "masks": False, **options}
    folder = () if root is None else (root,)
    dataset = chosen.target(*folder, split=split, transform=transform, **options)
    if task:
        _check_task(dataset, text, task)
    if photos is not None and photos != RGB:
        if getattr(dataset, "photos", None) is None:
            raise ConfigError(f"{text} reads no bands or ranges", fix="leave data.bands and data.value_range out")
        dataset.photos = photos
    return dataset


def find_dataset(name_or_path: str, task: Task | None = None) -> FoundDataset:
    """The data set of a name, path or dotted path.

    Args:
        name_or_path: See ``open_dataset``.
        task: See ``open_dataset``.

    Raises:
        ConfigError: There is no such data set.
        DataError: The layout of a folder is of no known one.
    """
    kind, colon, root = name_or_path.partition(":")
    if colon and DATASETS.has(kind):
        return FoundDataset(_named(kind, task, root), root)
    if DATASETS.has(name_or_path) and not _reads_folder(chosen := DATASETS.choose(name_or_path)):
        return FoundDataset(chosen, None)
    if name_or_path and Path(name_or_path).expanduser().is_dir():
        layout = _layout(Path(name_or_path).expanduser(), task)
        return FoundDataset(_named(layout, task, name_or_path), name_or_path)
    serving = {name: _named(name, task or "segmentation", "") for name in DATASETS.names() if name != "hf_boxes"}
    known = {name: _reads_folder(chosen) for name, chosen in serving.items() if _serves(chosen, task)}
    names = [f"{name}:ROOT" if known[name] else name.replace("_", "-") for name in sorted(known, key=known.__getitem__)]
    fix = f"{nearest(name_or_path, names)}choose {', '.join(names)}, an existing folder, or my.package.MyData"
    if "." not in kind or not kind.replace(".", "").replace("_", "").isalnum():
        raise ConfigError(f"no data set {name_or_path!r}", fix=fix)
    try:
        return FoundDataset(DATASETS.choose(name_or_path), None)
    except ConfigError as error:
        raise ConfigError(f"no data set {name_or_path!r}: {error.problem}", fix=fix) from error


def _named(name: str, task: Task | None, root: str) -> Chosen:
    boxes = name == "hf" and (task == "detection" or (task is None and _saved_boxes(Path(root).expanduser())))
    return DATASETS.choose("hf_boxes" if boxes else name)


def _saved_boxes(root: Path) -> bool:
    """Whether a data set of ``save_to_disk`` has boxes, by its features."""
    infos = matching(root, "dataset_info.json", "*/dataset_info.json")
    info = read_json(infos[0], "features", "save the data set again") if infos else {}
    return isinstance(info, dict) and "objects" in (info.get("features") or {})


def _reads_folder(chosen: Chosen) -> bool:
    return "root" in signature(chosen.target).parameters


def _kinds() -> dict[Task, type]:
    from longtail.datasets.base import DetectionDataset, SegmentationDataset

    return {"segmentation": SegmentationDataset, "detection": DetectionDataset}


def _serves(chosen: Chosen, task: Task | None) -> bool:
    """Whether a data set has a task; one that is a function may have any."""
    return task is None or not isinstance(chosen.target, type) or issubclass(chosen.target, _kinds()[task])


def _check_task(dataset: Any, name: str, task: Task) -> None:
    kinds = _kinds()
    if isinstance(dataset, kinds[task]) and getattr(dataset, "task", task) == task:
        return
    other = next((of for of, kind in kinds.items() if of != task and isinstance(dataset, kind)), None)
    fix = f"docs/guide/data.md lists the layouts for {task}; or name a class of your own"
    raise ConfigError(
        f"{name} is no data set for {task}",
        fix=f"use it for {other} (`longtail train {other}`); {fix}" if other else fix,
    )


def data_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a data set as a user gives them, to pass on to ``open_dataset``.

    Raises:
        ConfigError: One is an argument that the command gives, or a task that there is not.
    """
    for name in options:
        if name in ("name_or_path", "labels_only", "photos", "root", "split", "transform") or not isinstance(name, str):
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
    if any((root / name).is_file() for name in ("dataset_dict.json", "state.json")):
        return "hf"
    if found:
        return found
    holds = ", ".join([path.name for path in matching(root, "*")][:6]) or "nothing"
    ways = "; or ".join(way for of, way in _ELSEWHERE.items() if task in (of, None))
    raise DataError(
        f"the layout of {root} is of no known data set; it holds {holds}",
        fix=f"docs/guide/data.md lists the layouts; or {ways}",
    )


_ELSEWHERE: dict[Task, str] = {
    "segmentation": "call it folder:ROOT and name image_dir and label_dir",
    "detection": "convert the annotations to COCO's format, call it coco:ROOT and name annotations and images",
}


def detection_layout(root: Path) -> str | None:
    """Name of the layout of boxes that a folder has; None for no such layout."""
    from longtail.datasets.coco_layouts import coco_files
    from longtail.datasets.table import table_files
    from longtail.datasets.voc import is_voc
    from longtail.datasets.yolo import is_yolo

    if records := coco_files(root):
        return "lvis" if any(path.name.startswith("lvis") for path in records) else "coco"
    if is_yolo(root):
        return "yolo"
    if is_voc(root):
        return "voc"
    return "table" if table_files(root) else None
