"""Seeds that depend only on their names, and the state of the random generators."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def derive_seed(*parts: int | str) -> int:
    """A seed in [0, 2**63) that depends only on its parts; other parts give an unrelated seed."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def seed_generators(*parts: int | str) -> None:
    """Seed torch (every device), numpy and Python from the parts."""
    seed = derive_seed(*parts)
    torch.manual_seed(seed)
    _seed_numpy_and_python(seed)


@contextmanager
def isolated_randomness(*parts: int | str) -> Iterator[None]:
    """Run a block with separate CPU generators, seeded from the parts if there are any.

    Whatever the block draws, the generators outside continue as if it had not run.
    """
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002 (users' transforms draw here)
    if parts:
        seed = derive_seed(*parts)
        torch.default_generator.manual_seed(seed)
        _seed_numpy_and_python(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        random.setstate(before[2])


def _seed_numpy_and_python(seed: int) -> None:
    np.random.seed(seed % 2**32)  # noqa: NPY002
    random.seed(seed)


def generator_states() -> dict[str, Any]:
    """State of all generators as tensors and plain values, as a checkpoint may hold them."""
    name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    version, internal, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
        "python": [version, list(internal), gauss],
    }


def restore_generators(states: dict[str, Any]) -> None:
    """Inverse of ``generator_states``; devices that are no longer there are skipped."""
    torch.set_rng_state(states["torch"].cpu())
    for device, state in enumerate(states["cuda"]):
        if device < torch.cuda.device_count():
            torch.cuda.set_rng_state(state.cpu(), device)
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
