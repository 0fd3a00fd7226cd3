"""Pretrained weights of feature extractors from a local file."""

import re
from pathlib import Path

import torch
from torch import Tensor, nn

from longtail.errors import CheckpointError


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a weight file; pickled code is never run.

    Raises:
        CheckpointError: The file is missing or is not a plain table of tensors.
    """
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(
            f"cannot read weights from {path}: {error}", fix="give a .safetensors file or a state_dict saved by torch"
        ) from error
    content = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise CheckpointError(f"{path} does not hold a state_dict", fix="save model.state_dict() instead")
    return {re.sub(r"^(module\.|backbone\.)+", "", name): value for name, value in content.items()}


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Load the weights of a file that the network has a place for; all of the network's own must be there.

    Raises:
        CheckpointError: The file cannot be read, lacks weights of the network, or has them in other shapes.
    """
    found, own = read_weights(path), network.state_dict()
    missing = [n for n in own if n not in found and not n.endswith("num_batches_tracked")]
    unfit = [n for n, value in own.items() if n in found and found[n].shape != value.shape]
    if missing or unfit:
        raise CheckpointError(
            f"{path} does not fit {type(network).__name__}: {len(missing)} weights missing ({missing[:3]}), "
            f"{len(unfit)} of another shape ({unfit[:3]})",
            fix="give weights of the same network, with torchvision's parameter names",
        )
    network.load_state_dict({name: found.get(name, value) for name, value in own.items()})
