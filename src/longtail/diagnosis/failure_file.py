"""Pictures of failures in one file. This module imports neither torch nor readers of photographs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypedDict

from longtail.errors import DataError
from longtail.files import write_text
from longtail.json_files import check_kind, read_json

#: Name of the file in a folder of pictures.
FILE = "failures.json"
_BASE64 = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")


class _Shown(TypedDict):
    sort: str
    words: str
    jpeg: str


class _Content(TypedDict):
    classes: dict[str, list[_Shown]]


@dataclass(frozen=True)
class Failure:
    """One picture.

    Args:
        sort: ``false positive``, ``confusion``, ``missed`` or ``training``.
        words: What it shows.
        jpeg: The picture, base64.
    """

    sort: str
    words: str
    jpeg: str


def save_failures(failures: Mapping[str, Sequence[Failure]], folder: str | Path) -> None:
    """Write pictures into a folder of pictures.

    Raises:
        ConfigError: They cannot be written.
    """
    content = {name: [asdict(failure) for failure in of] for name, of in failures.items()}
    write_text(Path(folder) / FILE, json.dumps({"classes": content}) + "\n")


def load_failures(folder: str | Path) -> dict[str, list[Failure]]:
    """Pictures of a folder; empty where it has none.

    Raises:
        DataError: The file is not what ``save_failures`` writes.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        return {}
    fix = "evaluate again, or remove the file"
    content = check_kind(read_json(path, "pictures", fix), _Content, path, fix)
    shown = {name: [Failure(**of) for of in list_] for name, list_ in content["classes"].items()}
    if any(not set(f.jpeg) <= _BASE64 for of in shown.values() for f in of):
        raise DataError(f"{path} holds pictures that are not base64", fix=fix)
    return shown
