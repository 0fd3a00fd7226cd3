"""Files of weights and of training state: complete or absent, and read without executing anything."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_model
from torch import nn

from longtail.encoders import read_state_dict
from longtail.errors import CheckpointError, TrainingError
from longtail.files import replace_file
from longtail.models.weights_file import read_weights, recorded_phases
from longtail.training.run_folder import RunFolder, environment_rank


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn all errors of writing into one.

    Raises:
        TrainingError: The disk is full, or the folder cannot be written.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        # torch and safetensors report a full disk as other errors
        raise TrainingError(
            f"cannot write {path}: {error}", fix="free some space; earlier states are kept, then use --resume"
        ) from error


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a temporary file next to ``path`` and move it into place once it is complete; on failure the old file stays.

    Raises:
        TrainingError: The disk is full, or the folder cannot be written.
    """
    with writing(path):
        replace_file(path, write, f".part{environment_rank() or ''}")  # several ranks may write the same file


def save_weights(model: nn.Module, path: Path, **metadata: str) -> None:
    """Write the weights of ``model`` as safetensors; shared tensors are written once."""
    write_whole(path, lambda part: save_model(model, str(part), metadata={"format": "pt", **metadata}))


def save_state(state: dict[str, Any], path: Path) -> None:
    """Write a training state: tensors and plain values."""
    write_whole(path, lambda part: torch.save(state, part))


def read_state(path: Path) -> dict[str, Any]:
    """Training state of ``save_state``; nothing in the file is executed.

    Raises:
        CheckpointError: The file is missing, broken, or not such a state.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no {path}", fix="start without --resume") from error
    except Exception as error:
        raise CheckpointError(
            f"cannot read {path}: {error}", fix="it is broken or not of this library: start again with --overwrite"
        ) from error
    if not isinstance(state, dict) or not {"phase", "iteration", "method", "optimiser"} <= state.keys():
        raise CheckpointError(f"{path} is no training state of this library", fix="give a checkpoints/last.ckpt")
    return state


def finished_phases(state: dict[str, Any]) -> tuple[str, ...]:
    """Phases that a training state has been through."""
    return (*state["done"], *([state["phase"]] if state["finished"] else []))


def find_weights(source: str | Path, phases: Sequence[str]) -> tuple[dict[str, torch.Tensor], tuple[str, ...] | None]:
    """Weights to start from, and the phases that they have been through; None where they do not say so.

    Args:
        source: A run folder, a folder with ``best.safetensors`` or ``model.safetensors``, such a file, a ``last.ckpt``, or
            a file of ``torch.save`` of another program.
        phases: Phases of the method, in order.

    Raises:
        CheckpointError: There are no weights, or they cannot be read.
    """
    path = Path(source)
    if path.is_dir():
        earlier = [RunFolder(path).phase_weights(phase) for phase in reversed(phases[:-1])]
        found = [p for p in (*earlier, RunFolder(path).weights, path / "model.safetensors") if p.is_file()]
        if not found:
            raise CheckpointError(
                f"{path} holds no weights", fix="give a run folder, or a folder with model.safetensors"
            )
        path = found[0]
    if path.suffix != ".safetensors" and path.name != RunFolder(path.parent).last.name:
        return read_state_dict(path), None
    if path.suffix == ".ckpt":
        state = read_state(path)
        return state["method"], _known(finished_phases(state), phases)
    weights = read_weights(path)
    done = recorded_phases(path)
    return {k.removeprefix("method."): v for k, v in weights.items()}, _known(done, phases) if done else None


def _known(done: Sequence[str], phases: Sequence[str]) -> tuple[str, ...]:
    return tuple(phase for phase in phases if phase in done)
