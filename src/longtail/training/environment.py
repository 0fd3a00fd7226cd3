"""Versions and machine of a result. Imports torch only when called."""

import os
import platform
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from longtail.version import __version__

PACKAGES = (
    *("torch", "torchvision", "timm", "lightning", "torchmetrics", "jsonargparse", "safetensors", "huggingface-hub"),
    *("hotcoco", "numpy", "pillow", "matplotlib", "tensorboard", "segmentation-models-pytorch", "transformers"),
)


def environment() -> dict[str, str]:
    """Versions, platform, devices and, in a source checkout, the commit."""
    import torch

    found = {"longtail": __version__, "python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    found["torch"] = str(torch.__version__)
    found["cpu_cores"] = str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
    if torch.cuda.is_available():
        found["cuda"] = str(torch.version.cuda)
        found["gpus"] = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    if (commit := source_commit()) is not None:
        found["commit"] = commit
    return found


def source_commit() -> str | None:
    """Commit of the checkout that this file belongs to, with ``+`` where it has changes; None outside of one."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return None
    try:
        commit, changes = (
            subprocess.run(
                ["git", "-C", str(root), *words], capture_output=True, text=True, timeout=5, check=True
            ).stdout
            for words in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return commit.strip() + ("+" if changes.strip() else "")
