"""The kernels in Triton's interpreter, against the sums in PyTorch, and compiled: no GPU is asked for, none has run them."""

import os
import subprocess
import sys

import pytest
import torch

from longtail.pixels import upsampled_sums
from longtail.pixels.upsampled_sums import Wanted

pytest.importorskip("triton")

CHECK = """
import torch
from longtail.errors import ConfigError
from longtail.pixels import upsampled_sums as module, upsampled_triton
from longtail.pixels.upsampled_sums import Wanted, upsampled_sums
from longtail.pixels.upsampling import Upsampling

upsampled_triton._CLASSES, upsampled_triton._CELLS, upsampled_triton._PIXELS = 4, 2, 2
CLASSES = 6
calls = []
kernel_sums = upsampled_triton.kernel_sums
upsampled_triton.kernel_sums = lambda *a, **k: calls.append(1) or kernel_sums(*a, **k)

def run(device, *arguments, **options):
    module._KERNEL_DEVICES = (device,)  # what runs on "cuda" runs here on the CPU
    return upsampled_sums(*arguments, **options)

def case(low, size, align_corners, divisor, members, batch, dtype=torch.float32, scale=3.0):
    g = torch.Generator().manual_seed(0)
    logits = (scale * torch.randn(2, CLASSES, *low, generator=g)).to(dtype).requires_grad_()
    target = torch.randint(0, CLASSES, (2, *size), generator=g)
    target[:, :1] = 255
    weight = torch.rand(2, *size, generator=g)
    wanted = Wanted(members, CLASSES, divergence="batch" if batch else None)
    arguments = (logits, target, Upsampling(size, divisor, align_corners), wanted)
    factors = torch.linspace(0.5, 2, CLASSES)
    values, gradients = [], []
    for device in ("cuda", "cpu"):
        sums = run(device, *arguments, weight=weight)
        mean = sums.probabilities / 50
        values.append(0.3 * sums.cross_entropy + ((mean * (mean + 1e-9).log()) * factors).sum())
        torch.testing.assert_close(sums.probabilities.sum(), sums.probabilities.new_tensor(batch * (target < 255).sum()))
        gradients.append(torch.autograd.grad(values[-1], logits, create_graph=True)[0])
    torch.testing.assert_close(*values)
    assert gradients[0].dtype == dtype and gradients[0].any()
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)
    return gradients[1]

everything = tuple(range(CLASSES))
case((3, 5), (6, 13), False, 1, everything, True)
case((2, 3), (3, 5), False, 2, (1, 2, 5), False)
case((1, 1), (3, 2), False, 1, everything, True)
case((4, 3), (5, 2), False, 1, everything, True)
case((2, 2), (3, 4), True, 1, everything, True, scale=100.0)
gradient = case((3, 2), (2, 2), False, 1, everything, True, dtype=torch.bfloat16)
assert len(calls) == 6
try:
    gradient.sum().backward()
except ConfigError:
    print("all equal")
"""


def test_kernels_in_the_interpreter_equal_the_sums_in_pytorch():
    environment = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", CHECK], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "all equal"


def test_what_the_kernels_compute(monkeypatch):
    everything, some = (0, 1, 2), (1, 2)
    logits = torch.zeros(1, 3, 2, 2)
    monkeypatch.setattr(upsampled_sums, "_KERNEL_DEVICES", ("cpu",))
    for wanted in (Wanted(everything, 3), Wanted(some, 3), Wanted(everything, 3, divergence="batch")):
        assert upsampled_sums._kernel(logits, wanted) is not None
        assert upsampled_sums._kernel(logits.double(), wanted) is None
    for wanted in (
        Wanted(everything, 3, softmax="set"),
        Wanted(everything, 3, divergence="pixel"),
        Wanted(some, 3, divergence="batch"),
        Wanted(some, 3, penalty="square"),
    ):
        assert upsampled_sums._kernel(logits, wanted) is None
    monkeypatch.setenv("LONGTAIL_TRITON", "0")
    assert upsampled_sums._kernel(logits, Wanted(everything, 3)) is None


COMPILE = """
import re, subprocess, sys
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from longtail.pixels import upsampled_triton

folder, capability = Path(sys.argv[1]), int(sys.argv[2])
tile = {"TALL": 4, "WIDE": 4, "CLASSES": upsampled_triton._CLASSES, "CELLS": upsampled_triton._CELLS}
types = dict.fromkeys(("height", "width", "classes", "tall", "wide"), "i32")
types |= dict.fromkeys(("places", "y_starts", "x_starts"), "*i32")
tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
for kernel in ("log_sum", "probability", "pull", "gradient"):
    function = getattr(upsampled_triton, f"_{kernel}_kernel")
    constants = tile | ({"SUMMED": True, "ODD": True} if kernel == "gradient" else {})
    kinds = types | dict.fromkeys(constants, "constexpr")
    source = ASTSource(function, {name: kinds.get(name, "*fp32") for name in function.arg_names}, constants)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=upsampled_triton._OPTIONS)
    binary = folder / kernel
    binary.write_bytes(compiled.asm["cubin"])
    usage = subprocess.run([tool, "--dump-resource-usage", binary], capture_output=True, text=True, check=True).stdout
    registers, stack, local = (int(re.search(rf"{name}:([0-9]+)", usage)[1]) for name in ("REG", "STACK", "LOCAL"))
    assert stack == local == 0, f"{kernel} spills its registers: {usage}"
    assert registers <= 128, f"{kernel} leaves room for fewer than 16 warps: {usage}"
    print(kernel)
"""


@pytest.mark.parametrize("capability", [90, *(pytest.param(c, marks=pytest.mark.slow) for c in (75, 80, 86, 100, 120))])
def test_kernels_compile_for_gpus_and_keep_to_their_registers(capability, tmp_path):
    """Compute capability times ten; ``ptxas`` and ``cuobjdump`` come with Triton."""
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-c", COMPILE, str(tmp_path), str(capability)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["log_sum", "probability", "pull", "gradient"]
