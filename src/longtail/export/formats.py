"""Write a graph as a file of one format, and run the file."""

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast, get_args

import torch
from torch import Tensor

from longtail.errors import ConfigError, MissingDependencyError
from longtail.export.graph import Graph
from longtail.export.names import SUFFIXES, Format
from longtail.settings import one_of

#: Name of each axis of the input that may vary.
AXES = {0: "batch", 2: "height", 3: "width"}
#: Key of what is told of the model in a file.
FACTS = "longtail"

Runner = Callable[[Tensor], list[Tensor]]


def check_format(name: str, path: Path) -> Format:
    """A format that this environment can write.

    Raises:
        ConfigError: There is no such format, or the file's name is of another.
        MissingDependencyError: Packages of ONNX are not installed.
    """
    kind = cast(Format, one_of("format", name, get_args(Format)))
    if path.suffix != SUFFIXES[kind]:
        raise ConfigError(f"{path} for a file of {kind}", fix=f"name it {path.with_suffix(SUFFIXES[kind])}")
    if kind == "onnx":
        try:
            import onnxruntime  # noqa: F401
            import onnxscript  # noqa: F401
        except ImportError as error:
            raise MissingDependencyError(
                f"{error.name} is not installed, which --format onnx needs",
                fix="pip install 'longtail[export]', or choose torch-export or torchscript",
            ) from error
    return kind


def write(graph: Graph, example: Tensor, path: Path, kind: Format, varying: Sequence[int], facts: str) -> None:
    """Write a graph.

    Args:
        graph: In evaluation mode.
        example: Input; its sizes along other axes than the ``varying`` ones are fixed.
        path: The file.
        kind: Its format.
        varying: Axes of the input that may have any size.
        facts: What the file says of the model, as JSON, under the key ``longtail``.
    """
    with torch.no_grad(), _quiet():
        if kind == "torchscript":
            traced: Any = torch.jit.trace(graph, (example,), check_trace=False)
            torch.jit.save(traced, str(path), _extra_files={FACTS: facts})
        elif kind == "torch-export":
            dynamic = (dict.fromkeys(varying, torch.export.Dim.DYNAMIC),)
            program = torch.export.export(graph, (example,), dynamic_shapes=dynamic)
            torch.export.save(program, path, extra_files={FACTS: facts})
        else:
            _write_onnx(graph, example, path, varying, facts)


def _write_onnx(graph: Graph, example: Tensor, path: Path, varying: Sequence[int], facts: str) -> None:
    import onnxruntime

    for optimised in (True, False):  # the exporter's optimiser spoils the graphs of some detectors
        program: Any = torch.onnx.export(
            graph,
            (example,),
            dynamo=True,
            input_names=["image"],
            output_names=list(graph.outputs),
            dynamic_shapes=({axis: AXES[axis] for axis in varying},),
            optimize=optimised,
            verbose=False,
        )
        program.model.metadata_props[FACTS] = facts
        program.save(path)
        with suppress(Exception):  # the last file is kept and told about by whoever reads it
            onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
            return


def read(path: Path, kind: Format) -> Runner:
    """Image -> outputs of a file, on the CPU.

    Args:
        path: The file.
        kind: Its format.
    """
    if kind == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return lambda image: [torch.from_numpy(value) for value in session.run(None, {"image": image.numpy()})]
    loaded: Any = torch.jit.load(str(path)) if kind == "torchscript" else torch.export.load(path).module()

    def run(image: Tensor) -> list[Tensor]:
        with torch.no_grad():
            found = loaded(image)
        return list(found) if isinstance(found, (tuple, list)) else [found]

    return run


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' warnings and logs off the terminal, and transformers' checks out of the graph.

    The file is checked; the checks of shapes have no form in ONNX.
    """
    before, variable = logging.root.manager.disable, "TRANSFORMERS_DISABLE_TORCH_CHECK"
    checks = os.environ.get(variable)
    logging.disable(logging.WARNING)
    os.environ[variable] = "1"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        os.environ.pop(variable)
        if checks is not None:
            os.environ[variable] = checks
