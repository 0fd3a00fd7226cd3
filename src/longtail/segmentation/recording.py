"""Record the experts' logits once, below the image's size, and read them again an image at a time."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Integer
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from longtail.distributed import rank
from longtail.errors import ConfigError, DataError
from longtail.json_files import check_kind
from longtail.pixels import Upsampling

_PATTERN = "maps-*.safetensors"
_FIX = "record them again: longtail evaluate RUN --record FOLDER"


@dataclass(frozen=True)
class RecordedMaps:
    """The experts' logits of one image, and its labels.

    Args:
        logits: At the heads' own resolution.
        upsampling: From there to the size of the network's input.
        target: Labels at their own size.
    """

    logits: Float[Tensor, "experts logits h w"]
    upsampling: Upsampling
    target: Integer[Tensor, "H W"]


class MapRecorder:
    """Write the experts' logits into a folder, in files of several images.

    Args:
        folder: Created if needed; must hold no recording.
        per_file: Images in one file; bounds the memory.

    Use it as a context: the last file is written when it ends. Every rank writes files of its own.
    """

    def __init__(self, folder: str | Path, *, per_file: int = 32) -> None:
        self.folder = Path(folder)
        self.per_file = per_file
        self._waiting: list[RecordedMaps] = []
        self._files = 0
        self.folder.mkdir(parents=True, exist_ok=True)
        if any(self.folder.glob(f"maps-{rank():03d}-*.safetensors")):
            raise ConfigError(f"{self.folder} holds a recording already", fix="remove it, or record elsewhere")

    def add(
        self,
        logits: Float[Tensor, "experts n logits h w"],
        upsampling: Upsampling,
        target: Integer[Tensor, "n H W"],
    ) -> None:
        """Record a batch."""
        small = torch.uint8 if int(target.max()) <= 255 and int(target.min()) >= 0 else torch.int32
        for own, labels in zip(logits.detach().cpu().unbind(dim=1), target.cpu(), strict=True):
            self._waiting.append(RecordedMaps(own.contiguous(), upsampling, labels.to(small)))
        while len(self._waiting) >= self.per_file:
            self._write(self._waiting[: self.per_file])
            self._waiting = self._waiting[self.per_file :]

    def __enter__(self) -> "MapRecorder":
        return self

    def __exit__(self, *_: object) -> None:
        if self._waiting:
            self._write(self._waiting)
            self._waiting = []

    def _write(self, images: Sequence[RecordedMaps]) -> None:
        tensors: dict[str, Tensor] = {}
        for index, image in enumerate(images):
            tensors |= {f"{index}.logits": image.logits, f"{index}.target": image.target.contiguous()}
        geometry = [[*i.upsampling.size, i.upsampling.divisor, int(i.upsampling.align_corners)] for i in images]
        path = self.folder / f"maps-{rank():03d}-{self._files:05d}.safetensors"
        save_file(tensors, path, {"geometry": json.dumps(geometry)})
        self._files += 1


def read_maps(folder: str | Path) -> Iterator[RecordedMaps]:
    """The images of a recording, one at a time; files are mapped into memory, not read whole.

    Raises:
        DataError: There is no recording in the folder, or a file of it is broken.
    """
    for path in _files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                for index, (height, width, divisor, align_corners) in enumerate(_geometry(file, path)):
                    upsampling = Upsampling((height, width), divisor, bool(align_corners))
                    logits, target = file.get_tensor(f"{index}.logits"), file.get_tensor(f"{index}.target")
                    yield RecordedMaps(logits.float(), upsampling, target.long())
        except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
            raise DataError(f"cannot read recorded maps from {path}: {error}", fix=_FIX) from error


def count_maps(folder: str | Path) -> int:
    """Number of images of a recording, from the headers of its files.

    Raises:
        DataError: See ``read_maps``.
    """
    total = 0
    for path in _files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                total += len(_geometry(file, path))
        except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
            raise DataError(f"cannot read recorded maps from {path}: {error}", fix=_FIX) from error
    return total


def _geometry(file: Any, path: Path) -> list[list[int]]:
    """Height, width, divisor and alignment of every image of a file."""
    found = check_kind(json.loads(file.metadata()["geometry"]), list[list[int]], path, _FIX, "geometry")
    for index, own in enumerate(found):
        if len(own) != 4 or min(own[:3]) < 1:
            raise DataError(f"{path}: geometry.{index} is {own}, not the size of an image", fix=_FIX)
    return found


def _files(folder: str | Path) -> list[Path]:
    files = sorted(Path(folder).glob(_PATTERN))
    if not files:
        raise DataError(f"{folder} holds no recorded experts", fix=_FIX)
    return files
