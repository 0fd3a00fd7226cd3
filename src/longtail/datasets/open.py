"""``open_dataset``: a data set by name, path or dotted path."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from longtail.datasets.folder import SegmentationFolder
from longtail.datasets.synthetic import LongTailScenes
from longtail.errors import ConfigError, DataError, LongtailError


def open_dataset(
    name_or_path: str | Path, split: str, *, transform: Callable[[Any], Any] | None = None, **options: Any
) -> Any:
    """Open one split of a data set.

    Args:
        name_or_path: ``longtail-scenes``; ``cityscapes:ROOT``, ``ade20k:ROOT`` or ``folder:ROOT``; a folder,
            recognised by its layout; or the dotted path of a class, ``my.package.MyData``, called with (split=, transform=, **options).
        split: "train", "val", … as the data set calls it.
        transform: Applied to every sample dict.
        options: Passed on to the data set's class.

    Raises:
        ConfigError: There is no such data set, or it does not take one of the options.
        DataError: Its files are not what they should be.
    """
    text = str(name_or_path)
    kind, found, root = text.partition(":")
    if text in _NAMED_ROOTLESS:
        make, arguments = _NAMED_ROOTLESS[text], ()
    elif found and kind in _NAMED:
        make, arguments = _NAMED[kind], (root,)
    elif Path(text).expanduser().is_dir():
        make, arguments = _recognise(Path(text).expanduser()), (text,)
    else:
        make, arguments = _import(text), ()
    try:
        return make(*arguments, split=split, transform=transform, **options)
    except TypeError as error:
        if isinstance(error, LongtailError) or "argument" not in str(error):
            raise
        raise ConfigError(f"{text}: {error}", fix=f"see the arguments of {make.__name__}") from error


_NAMED_ROOTLESS: dict[str, Callable] = {"longtail-scenes": LongTailScenes}
_NAMED: dict[str, Callable] = {"folder": SegmentationFolder}


def _recognise(root: Path) -> Callable:
    """Class of the data set whose layout a folder has."""
    if (root / "images").is_dir():
        return SegmentationFolder
    raise DataError(
        f"the layout of {root} is of no known data set: {', '.join(sorted(p.name for p in root.iterdir())[:6])}",
        fix="give it images/, labels/ and classes.json, or say which it is: folder:ROOT with image_dir and label_dir",
    )


def _import(path: str) -> Callable:
    module, _, name = path.rpartition(".")
    problem = f"no data set {path!r}"
    fix = f"choose {', '.join([*_NAMED_ROOTLESS, *(f'{n}:ROOT' for n in _NAMED)])}, a folder, or my.package.MyData"
    if not module or not path.replace(".", "").replace("_", "").isalnum():
        raise ConfigError(problem, fix=fix)
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{problem}: {error}", fix=fix) from error
