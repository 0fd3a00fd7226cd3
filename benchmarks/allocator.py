"""What glibc's default handling of large blocks costs a training step on a CPU; each side needs a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

from harness import RESULTS, arguments

STEP = """
import sys, torch
sys.path.insert(0, {here!r})
from harness import arguments, measure
options = arguments("").parse_args(["--allocator", "{kind}", "--repeats", "{repeats}"])
z = torch.randn(8, 51, 192, 192, requires_grad=True)
y = torch.randint(0, 51, (8, 192, 192))
def step():
    torch.nn.functional.cross_entropy(z * 1.0, y).backward()
    z.grad = None
measure("allocator_{kind}", {{"cross-entropy of 8x51x192x192": step}}, options, note="forward and backward")
"""


def main() -> None:
    options = arguments(__doc__).parse_args()
    times = {}
    for kind in ("default", "kept"):
        code = STEP.format(here=str(Path(__file__).parent), kind=kind, repeats=options.repeats)
        subprocess.run([sys.executable, "-c", code], check=True)
        record = json.loads((RESULTS / f"allocator_{kind}.json").read_text())
        times[kind] = next(iter(record["milliseconds"].values()))
    sys.stdout.write(f"  keeping freed memory is {times['default'] / times['kept']:.2f}x faster\n")


if __name__ == "__main__":
    main()
