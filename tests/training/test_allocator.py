import subprocess
import sys

import pytest

CODE = """
import resource
import torch
from longtail.training.allocator import keep_freed_memory
{call}
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(12_000_000)
before = faults()
for _ in range(10):
    torch.ones(12_000_000)
print(faults() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_freed_blocks_are_used_again():
    counts = {}
    for call in ("pass", "assert keep_freed_memory()"):
        done = subprocess.run(
            [sys.executable, "-c", CODE.format(call=call)], capture_output=True, text=True, check=True
        )
        counts[call] = int(done.stdout)
    kept, default = counts["assert keep_freed_memory()"], counts["pass"]
    assert kept * 10 < default
