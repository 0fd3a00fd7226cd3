"""Weights of this library's models in safetensors files."""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from longtail.errors import CheckpointError


def load_weights(module: nn.Module, path: Path, device: str = "cpu") -> None:
    """Load a safetensors file into a module, every tensor of both accounted for.

    Raises:
        CheckpointError: Missing or corrupt file, or tensors that do not fit.
    """
    state = read_weights(path, device)
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path} does not fit the model: {error}", fix="load it with its own config.json"
        ) from error


def read_weights(path: Path, device: str = "cpu") -> dict[str, Tensor]:
    """Tensors of a safetensors file.

    Raises:
        CheckpointError: The file is missing, torn, or of another format.
    """
    try:
        return load_file(path, device=device)
    except (OSError, SafetensorError) as error:
        if _is_of_torch(path):
            raise CheckpointError(
                f"{path} is no safetensors file, but one of torch.save",
                fix="convert it: safetensors.torch.save_file(state, 'weights.safetensors'), where state = "
                f"torch.load({str(path)!r}, weights_only=True), or the entry of it that maps names to tensors",
            ) from error
        raise CheckpointError(
            f"cannot read weights from {path}: {error}", fix="give a complete safetensors file"
        ) from error


def _is_of_torch(path: Path) -> bool:
    """Whether a file begins as ``torch.save`` writes it: an archive, or a pickle in old versions."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4).startswith((b"PK\x03\x04", b"\x80"))


def recorded_phases(path: Path) -> list[str]:
    """Training phases that the weights of a safetensors file have been through, as far as it says so."""
    with safe_open(path, "pt") as file:
        return ((file.metadata() or {}).get("phases") or "").split()
