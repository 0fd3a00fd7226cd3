"""``export``: write a trained model as a file that runs without this library, and compare it with the model."""

import copy
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from longtail.detection.cascade_rcnn import CascadeDetector
from longtail.detection.queries.detector import QueryDetector
from longtail.errors import ConfigError, ExportError
from longtail.export.cascade import CascadeGraph
from longtail.export.formats import check_format, read, write
from longtail.export.graph import Graph
from longtail.export.names import Format
from longtail.export.queries import QueryGraph
from longtail.export.segmentation import SegmentationGraph
from longtail.files import make_folder, saving
from longtail.models.detector import Detector
from longtail.models.pretrained import PretrainedModel
from longtail.models.segmenter import Segmenter
from longtail.version import __version__

#: Height and width of the example where any size is allowed, and of the images that the file is checked on.
_EXAMPLE, _CHECKED = (160, 224), ((203, 131), (128, 192))
#: Largest difference that is taken for rounding, of values in 0 … 1.
_TOLERANCE = 2e-3


@dataclass(frozen=True)
class Exported:
    """A file, and how far it is from the model.

    Args:
        path: The file.
        differences: (images, height, width) of each check, and the largest difference found.
    """

    path: Path
    differences: dict[tuple[int, int, int], float]


def export(
    model: PretrainedModel,
    path: str | Path,
    kind: str = "onnx",
    *,
    size: Sequence[int] | None = None,
    batch: int | None = None,
    labels_only: bool = False,
    normalise: bool = False,
    top_k: int = 100,
) -> Exported:
    """Write a trained model as a file, and compare the file with the model at other sizes.

    The input is ``image``: normalised float32 (n, bands, h, w), scaled as the model's ``input`` says; the file holds this
    description as JSON under the key ``longtail``.

    Args:
        model: A ``Segmenter`` or a ``Detector``.
        path: File to write; it replaces an older one after the check.
        kind: ``onnx``, ``torch-export`` or ``torchscript``.
        size: Height and width of every image; None for any.
        batch: Number of images; None for any. Detectors take one.
        labels_only: Segmentation: labels instead of class probabilities.
        normalise: Whether the file takes pixels (bytes of RGB) and normalises them.
        top_k: Detection: number of detections.

    Raises:
        ConfigError: An option that does not fit the model, or a path that cannot be written.
        ExportError: The model cannot be exported so, or the file gives other results.
        MissingDependencyError: Packages of ONNX are not installed.
    """
    path = Path(path)
    kind = check_format(kind, path)
    make_folder(path.parent)
    graph = _graph(model, labels_only=labels_only, normalise=normalise, top_k=top_k)
    if not graph.batches and batch not in (None, 1):
        raise ConfigError(f"batch {batch} of a detector", fix="export it for one image at a time: leave batch out")
    varying = [*([0] if batch is None and graph.batches else []), *([2, 3] if size is None else [])]
    number = batch or (2 if graph.batches else 1)
    height, width = _EXAMPLE if size is None else (int(size[0]), int(size[1]))
    example = graph.example((number, height, width), 0)
    facts = json.dumps(_facts(model, graph))
    with saving(path), tempfile.TemporaryDirectory(dir=path.parent, prefix=".export") as folder:
        part = Path(folder) / path.name
        try:
            write(graph, example, part, kind, varying, facts)
        except Exception as error:  # exporters fail in many ways, with errors of their own
            raise ExportError(_refusal(model, kind, error), fix=_way_out(kind, size)) from error
        numbers = (1, number + 1) if 0 in varying else (number, number)
        sizes = _CHECKED if size is None else ((height, width), (height, width))
        differences = _compare(graph, part, kind, [(n, *s) for n, s in zip(numbers, sizes, strict=True)], size)
        for written in Path(folder).iterdir():  # large ONNX models keep their weights in a second file
            written.replace(path.parent / written.name)
    return Exported(path, differences)


def _graph(model: PretrainedModel, *, labels_only: bool, normalise: bool, top_k: int) -> Graph:
    model = copy.deepcopy(model).cpu().float().eval()
    if isinstance(model, Detector):
        if labels_only:
            raise ConfigError("labels_only of a detector", fix="leave it out: it is for segmentation")
        for kind, graph in ((CascadeDetector, CascadeGraph), (QueryDetector, QueryGraph)):
            if isinstance(model.method, kind):
                return graph(model, top_k=top_k, normalise=normalise).eval()
        raise ExportError(
            f"a detector of {type(model.method).__name__} cannot be exported",
            fix="export a detector of this library or of transformers, or use the exporter of your detector's library",
        )
    if not isinstance(model, Segmenter):
        raise ConfigError(f"{type(model).__name__} is no trained model", fix="give a Segmenter or a Detector")
    return SegmentationGraph(model, labels_only=labels_only, normalise=normalise).eval()


def _facts(model: Any, graph: Graph) -> dict[str, Any]:
    return {
        "longtail": __version__,
        "task": model.task,
        "model": model.fingerprint(),
        "classes": list(model.class_names),
        "groups": {"names": list(model.groups.names), "members": [list(m) for m in model.groups.members]},
        "input": model.input,
        "takes": "normalised images" if graph.normalise is None else "pixels",
        "gives": list(graph.outputs),
    }


def _compare(
    graph: Graph, path: Path, kind: Format, shapes: Sequence[tuple[int, int, int]], size: Sequence[int] | None
) -> dict[tuple[int, int, int], float]:
    """Largest difference from the model for each shape.

    Raises:
        ExportError: The file fails, or differs by more than rounding.
    """
    found: dict[tuple[int, int, int], float] = {}
    file = None
    for seed, shape in enumerate(shapes, start=1):
        image = graph.example(shape, seed)
        try:
            file = file or read(path, kind)
            with torch.no_grad():
                found[shape] = max(found.get(shape, 0.0), graph.difference(image, file(image)))
        except Exception as error:  # of the runtime, or of outputs that have another shape
            raise ExportError(
                f"the exported file fails on {_words(shape)}: {_first_line(error)}", fix=_way_out(kind, size)
            ) from error
        if not found[shape] <= _TOLERANCE:
            raise ExportError(
                f"the exported file differs from the model by {found[shape]:.2g} on {_words(shape)}",
                fix=_way_out(kind, size),
            )
    return found


def _words(shape: tuple[int, int, int]) -> str:
    return f"{shape[0]} image{'s' if shape[0] > 1 else ''} of {shape[1]} x {shape[2]}"


def _refusal(model: Any, kind: Format, error: Exception) -> str:
    names = f"{model.settings['model'].get('name', 'your own network')}, {model.settings['method']['name']}"
    return f"this model ({names}) cannot be exported as {kind}: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    deepest: BaseException = error
    while deepest.__cause__ is not None:
        deepest = deepest.__cause__
    lines = [line.strip() for line in str(deepest).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(deepest).__name__


def _way_out(kind: Format, size: Sequence[int] | None) -> str:
    others = " or ".join(name for name in ("onnx", "torch-export", "torchscript") if name != kind)
    return f"{'fix the size: --size [height, width]; or ' if size is None else ''}choose --format {others}"
