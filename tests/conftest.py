"""Shared test set-up: shapes and dtypes in annotations are checked while the tests run."""

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line: tests share their cores

import pytest
import torch
from jaxtyping import install_import_hook

# Must come before any import of the package.
install_import_hook("longtail", "typechecker.typechecked")

DATA = Path(os.environ.get("LONGTAIL_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def real_data() -> Path:
    """Folder of the real data sets; the test skips, saying so, where it is absent."""
    if not DATA.is_dir():
        pytest.skip(f"real data not found at {DATA} (set LONGTAIL_DATA)")
    return DATA
