"""A training step on all cores while other processes use them: how threads wait decides what it costs.

The command line sets ``OMP_WAIT_POLICY=PASSIVE``. Each side is a process that measures its own CPU time.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from harness import arguments, write

_STEPS = """
import json, sys, time, torch, torchvision
torch.set_num_threads(int(sys.argv[1]))
torch.manual_seed(0)
model, images = torchvision.models.mobilenet_v2(), torch.randn(8, 3, 96, 128)
def step():
    model.zero_grad()
    model(images).sum().backward()
step()
times = []
for _ in range(int(sys.argv[2])):
    start = time.process_time()
    step()
    times.append(time.process_time() - start)
print(json.dumps(times))
"""


@contextmanager
def busy_cores(number: int) -> Iterator[None]:
    """Processes that never rest."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def seconds_of_steps(threads: int, policy: str | None, steps: int) -> list[float]:
    """CPU seconds of each step in a process of its own."""
    variables = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "OMP_NUM_THREADS")}
    if policy:
        variables["OMP_WAIT_POLICY"] = policy
    command = [sys.executable, "-c", _STEPS, str(threads), str(steps)]
    return json.loads(subprocess.run(command, env=variables, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    options = arguments(__doc__).parse_args()
    cores = len(os.sched_getaffinity(0))
    sides = {
        "threads that spin, torch's default": (cores, None),
        "threads that sleep, as the command line sets it": (cores, "PASSIVE"),
        "one thread": (1, None),
    }
    with busy_cores(cores):
        times = {side: seconds_of_steps(*given, options.repeats) for side, given in sides.items()}
    note = f"a step of MobileNetV2 on {cores} threads beside {cores} processes that never rest"
    write("busy_machine", times, {}, note=note, floor="one thread")


if __name__ == "__main__":
    main()
