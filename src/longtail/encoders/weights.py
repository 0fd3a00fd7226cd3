"""Encoder weights from a local file, whichever library wrote it."""

import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from longtail.errors import CheckpointError

#: Value of ``weights`` that asks the model's own library for its published weights (needs a network, or its cache).
PRETRAINED = "pretrained"

# Keys under which training scripts keep the state dict in their checkpoints.
_CONTAINERS = ("state_dict", "model_state_dict", "model", "model_state", "ema_state_dict", "net", "teacher")
_CONNECT_SECONDS = 5.0
_READ_SECONDS = 30.0


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Tensors by name from a .safetensors file or a PyTorch checkpoint; pickled code is never run.

    Args:
        path: The file. Of a checkpoint, the state dict inside the usual containers is taken.

    Raises:
        CheckpointError: There is no such file, or it holds anything but tensors, or no tensors.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise CheckpointError(f"weights file {path} does not exist", fix="give the path of a .safetensors or .pth file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(
            f"{path} cannot be read as plain tensors: {str(error).splitlines()[0].partition('. ')[0]}",
            fix="save the state dict alone: safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')",
        ) from error
    while isinstance(content, Mapping) and (inner := [k for k in _CONTAINERS if isinstance(content.get(k), Mapping)]):
        content = content[inner[0]]
    state = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}
    if not state:
        raise CheckpointError(f"{path} holds no state dict", fix="give a file that maps parameter names to tensors")
    return state


def load_encoder_weights(encoder: nn.Module, path: str | Path) -> None:
    """Fill every parameter and buffer of an encoder from a local file.

    The names in the file may stand under any prefix (``module.``, ``backbone.``, ``encoder.model.`` …); parameters of
    other modules (a classifier, a decoder) are left out.

    Args:
        encoder: The module to fill, in place.
        path: A .safetensors file or a PyTorch checkpoint.

    Raises:
        CheckpointError: The encoder needs a tensor that the file lacks or has in another shape, or the file has more
            blocks in a stage than the encoder (a deeper network).
    """
    target = encoder.state_dict()
    source, prefix = _without_prefix(read_state_dict(path), target)
    wanted = {k for k in target if not k.endswith("num_batches_tracked")}
    missing = sorted(wanted - source.keys())
    misshapen = sorted(k for k in wanted & source.keys() if source[k].shape != target[k].shape)
    # A name below one of the encoder's own modules is a block that the encoder does not have; others are classifiers.
    unused = tuple(getattr(encoder, "unused_weights", ()))
    modules = {k.split(".")[0] for k in target}
    surplus = sorted(
        k for k in source.keys() - target.keys() if k.split(".")[0] in modules and not k.startswith(unused)
    )
    if missing or misshapen or surplus:
        shapes = [f"{k} {tuple(source[k].shape)} instead of {tuple(target[k].shape)}" for k in misshapen]
        found = [("missing", missing), ("of another shape", shapes), ("without a place", surplus)]
        told = "; ".join(f"{len(keys)} {what} ({_few(keys)})" for what, keys in found if keys)
        raise CheckpointError(
            f"{path} does not fit the encoder: {told}",
            fix=_bands_fix([(tuple(source[k].shape), tuple(target[k].shape)) for k in misshapen])
            or f"give weights of exactly this encoder and width (read under the prefix {prefix!r})",
        )
    encoder.load_state_dict({k: source[k] for k in target if k in source}, strict=False)


def _bands_fix(shapes: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> str:
    """The way out of weights whose first convolution alone, of kernels (out, in, h, w), reads other bands; else empty."""
    if len(shapes) != 1 or len(shapes[0][0]) != 4:
        return ""
    (file, own), bands = shapes[0], shapes[0][0][1]
    if own[1] != 3 or (file[0], *file[2:]) != (own[0], *own[2:]):
        return ""
    return (
        f"the file's first convolution reads {bands} bands: give weights for RGB, which are adapted to data.bands, or begin "
        f"with a trained model of {bands} bands (--from)"
    )


def _without_prefix(state: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """The part of ``state`` under the prefix whose names agree most with ``target``, and that prefix."""
    anchors = sorted(target, key=len, reverse=True)[:3]
    prefixes = {""}
    for name in state:
        # timm flattens ``stages.0`` to ``stages_0`` in its feature extractors.
        for anchor in anchors:
            for form in (anchor, re.sub(r"^(\w+?)_(\d+)\.", r"\1.\2.", anchor)):
                if name.endswith("." + form):
                    prefixes.add(name[: -len(form)])

    def under(prefix: str) -> dict[str, Tensor]:
        return {_flat(k[len(prefix) :], target): v for k, v in state.items() if k.startswith(prefix)}

    best = max(sorted(prefixes), key=lambda prefix: len(under(prefix).keys() & target.keys()))
    return under(best), best


def _flat(name: str, target: Mapping[str, Tensor]) -> str:
    flat = re.sub(r"^(\w+)\.(\d+)\.", r"\1_\2.", name)
    top = flat.split(".")[0]
    return flat if name not in target and any(k.startswith(top + ".") for k in target) else name


def _few(names: list[str], limit: int = 4) -> str:
    return ", ".join(names[:limit]) + (", …" if len(names) > limit else "")


@contextmanager
def published_weights(what: str, *, wanted: bool = True) -> Iterator[None]:
    """Ask a library for published weights within this block: fails soon, and with a way out, where there is no network.

    Args:
        what: Name of the download, for the message.
        wanted: Whether any are asked for; if not, the block runs as it is.

    Raises:
        CheckpointError: The weights are neither in the library's cache nor to be had.
    """
    if not wanted:
        yield
        return
    from huggingface_hub import constants

    before, patience = constants.HF_HUB_OFFLINE, socket.getdefaulttimeout()
    # Without a network the hub's client retries for half a minute; its offline mode answers from the cache at once.
    constants.HF_HUB_OFFLINE = before or not _reachable(constants.ENDPOINT)
    socket.setdefaulttimeout(_READ_SECONDS)
    try:
        yield
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"published weights of {what} could not be had: {reason}",
            fix="download them where there is a network, and give the file: weights=PATH; or weights=None for none",
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = before
        socket.setdefaulttimeout(patience)


def _reachable(url: str) -> bool:
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    try:
        urlopen(Request(url, method="HEAD"), timeout=_CONNECT_SECONDS).close()
    except HTTPError:
        return True
    except (URLError, OSError, ValueError):
        return False
    return True
