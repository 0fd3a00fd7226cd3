"""Record stage outputs once, and score ensembles on them without running the detector."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from longtail.detection.config import PostprocessConfig
from longtail.detection.method import Detections, Readout, StageOutputs
from longtail.detection.postprocess import score_offline
from longtail.ensembles.base import Ensemble
from longtail.errors import ConfigError, DataError
from longtail.json_files import check_kind

_PATTERN = "stages-*.safetensors"
_FIX = "record them again"


@dataclass(frozen=True)
class RecordedImage:
    """Recorded stage outputs of one image.

    Args:
        image_id: Id of the image in its annotation file.
        outputs: Logits of every stage and the final boxes.
        original_size: (height, width) of the image before it was resized.
    """

    image_id: int
    outputs: StageOutputs
    original_size: tuple[int, int]


class StageRecorder:
    """Write stage outputs into a folder, in files of several images.

    Args:
        folder: Created if needed; must hold no recording.
        per_file: Images in one file; bounds the memory.
        dtype: Of the logits in the files. Half precision halves them; scores then differ in the fourth digit. An
            image of LVIS has 1000 x 1204 logits per stage, 14 MB in single precision.

    Use it as a context: the last file is written when it ends.
    """

    def __init__(self, folder: str | Path, *, per_file: int = 64, dtype: torch.dtype = torch.float32) -> None:
        self.folder = Path(folder)
        self.per_file = per_file
        self.dtype = dtype
        self._waiting: list[RecordedImage] = []
        self._files = 0
        self.folder.mkdir(parents=True, exist_ok=True)
        if any(self.folder.glob(_PATTERN)):
            raise ConfigError(f"{self.folder} holds a recording already", fix="remove it, or record elsewhere")

    def add(
        self, image_ids: Sequence[int], outputs: Sequence[StageOutputs], original_sizes: Sequence[tuple[int, int]]
    ) -> None:
        """Record a batch: what ``DetectionMethod.stage_outputs`` gave for some images."""
        for identity, output, size in zip(image_ids, outputs, original_sizes, strict=True):
            quality = None if output.quality is None else output.quality.detach().float().cpu()
            logits, boxes = output.logits.detach().to("cpu", self.dtype), output.boxes.detach().cpu()
            kept = StageOutputs(logits, boxes, output.size, quality)
            self._waiting.append(RecordedImage(int(identity), kept, (int(size[0]), int(size[1]))))
        while len(self._waiting) >= self.per_file:
            self._write(self._waiting[: self.per_file])
            self._waiting = self._waiting[self.per_file :]

    def close(self) -> None:
        """Write the images that are still in memory."""
        if self._waiting:
            self._write(self._waiting)
            self._waiting = []

    def __enter__(self) -> "StageRecorder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, images: Sequence[RecordedImage]) -> None:
        tensors = {}
        for image in images:
            tensors[f"{image.image_id}.logits"] = image.outputs.logits.contiguous()
            tensors[f"{image.image_id}.boxes"] = image.outputs.boxes.contiguous()
            if image.outputs.quality is not None:
                tensors[f"{image.image_id}.quality"] = image.outputs.quality.contiguous()
        sizes = {str(i.image_id): [*i.outputs.size, *i.original_size] for i in images}
        path = self.folder / f"stages-{self._files:05d}.safetensors"
        save_file(tensors, path, {"sizes": json.dumps(sizes)})
        self._files += 1


def read_recording(folder: str | Path) -> Iterator[RecordedImage]:
    """The images of a recording in the order of their recording, one at a time.

    Raises:
        DataError: There is no recording in the folder, or a file of it is broken.
    """
    for path in _files(folder):
        with _naming(path), safe_open(path, framework="pt") as file:
            names = set(file.keys())
            for identity, (height, width, *original) in _sizes(file, path).items():
                logits, boxes = file.get_tensor(f"{identity}.logits"), file.get_tensor(f"{identity}.boxes")
                quality = file.get_tensor(f"{identity}.quality") if f"{identity}.quality" in names else None
                outputs = StageOutputs(logits.float(), boxes, (height, width), quality)
                yield RecordedImage(int(identity), outputs, (original[0], original[1]))


def recorded_ids(folder: str | Path) -> list[int]:
    """Image ids of a recording in its order, from the headers of its files.

    Raises:
        DataError: As of ``read_recording``.
    """
    ids: list[int] = []
    for path in _files(folder):
        with _naming(path), safe_open(path, framework="pt") as file:
            ids += map(int, _sizes(file, path))
    return ids


def rescore(
    recording: str | Path,
    ensembles: Mapping[str, Ensemble | Readout],
    postprocess: PostprocessConfig | None = None,
    *,
    unlimited: bool = False,
) -> Iterator[tuple[int, dict[str, Detections]]]:
    """Boxes that each of several ensembles finds in a recording, in one pass over it, an image at a time.

    Equal to the detector's own boxes under the same ensemble. Masks need the network and are not rescored.

    Args:
        recording: Folder that ``StageRecorder`` wrote.
        ensembles: Name -> ensemble of the stages' logits, or a readout of a detector.
        postprocess: Thresholds; None for LVIS's.
        unlimited: See ``score_offline``.

    Yields:
        The image's id, and its detections by each ensemble.

    Raises:
        DataError: As of ``read_recording``.
    """
    settings = postprocess or PostprocessConfig()
    readouts = {name: _readout(ensemble) for name, ensemble in ensembles.items()}
    for image in read_recording(recording):
        with torch.inference_mode():
            found = {
                name: score_offline(image.outputs, readout, settings, image.original_size, unlimited=unlimited)
                for name, readout in readouts.items()
            }
        yield image.image_id, found


def _sizes(file: Any, path: Path) -> dict[str, list[int]]:
    """Id of every image of a file -> height and width in the network, then those of the stored image."""
    sizes = check_kind(json.loads(file.metadata()["sizes"]), dict[str, list[int]], path, _FIX, "sizes")
    for identity, size in sizes.items():
        if len(size) != 4 or min(size) < 1 or not identity.isascii() or not identity.isdigit():
            raise DataError(f"{path}: sizes.{identity} is {size}, not four sizes of an image", fix=_FIX)
    return sizes


def _files(folder: str | Path) -> list[Path]:
    files = sorted(Path(folder).glob(_PATTERN))
    if not files:
        raise DataError(f"{folder} holds no recorded stages", fix="record them with StageRecorder")
    return files


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name the file in errors about its content."""
    try:
        yield
    except DataError:
        raise
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"cannot read recorded stages from {path}: {error}", fix=_FIX) from error


def _readout(ensemble: Ensemble | Readout) -> Readout:
    return (lambda outputs: ensemble(outputs.logits)) if isinstance(ensemble, Ensemble) else ensemble
