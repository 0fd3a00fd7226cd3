"""Run missing experiments in subprocesses, in parallel across devices."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import yaml

from longtail.errors import TrainingError
from longtail.reproduce.plan import PlannedRun


def command(run: PlannedRun) -> list[str]:
    """The equivalent shell command; resumes and scores."""
    words = ["train", run.task, "--config", str(settings_file(run)), "--run", str(run.folder), "--resume"]
    return [*words, "--from", str(run.start_from)] if run.start_from else words


def settings_file(run: PlannedRun) -> Path:
    """Where the settings of a run are written."""
    return run.folder.with_name(run.folder.name + ".yaml")


def write_settings(run: PlannedRun) -> Path:
    """Write the settings of a run, so that ``command(run)`` can be typed, queued or sent to a cluster."""
    path = settings_file(run)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(run.settings, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def execute(
    runs: Sequence[PlannedRun],
    *,
    jobs: int = 1,
    devices: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> None:
    """Make every run that has no results; a run waits for the one that it begins with.

    Args:
        runs: In an order in which each comes after the one that it begins with.
        jobs: How many at once.
        devices: CUDA devices to share out among the jobs; the first ones of this machine where empty.
        say: Called with the start and end of each run.

    Raises:
        TrainingError: Runs failed; the others are finished first.
    """
    places: SimpleQueue[str] = SimpleQueue()
    for job in range(jobs):
        places.put(devices[job % len(devices)] if devices else str(job))
    waiting: dict[Path, Future[bool]] = {}

    def make(run: PlannedRun, before: Future[bool] | None) -> bool:
        if before is not None and not before.result():
            return False
        place = places.get()
        try:
            return _make(run, place, jobs, say)
        finally:
            places.put(place)

    failed = []
    # in the order of the plan; a run comes after the one that it starts from, so a waiting run waits for a running one
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        for run in runs:
            if run.state == "done":
                continue
            before = waiting.get(run.start_from) if run.start_from else None
            waiting[run.folder] = pool.submit(make, run, before)
        failed = [folder for folder, future in waiting.items() if not future.result()]
    if failed:
        raise TrainingError(
            f"{len(failed)} of {len(waiting)} runs failed: {', '.join(folder.name for folder in failed)}",
            fix="read the .log files next to their folders; the same command tries them again, and finished runs stay; "
            "--settings FILE.yaml changes settings of all runs, such as data: {groups: {by: rank, sizes: [4, 3, 4]}}",
        )


def _make(run: PlannedRun, place: str, jobs: int, say: Callable[[str], None]) -> bool:
    write_settings(run)
    run.folder.parent.mkdir(parents=True, exist_ok=True)
    log = run.folder.with_name(run.folder.name + ".log")
    say(f"{run.folder.name}: {run.length}, {run.state}; log in {log}")
    environment = {**os.environ}
    if jobs > 1:
        environment |= {
            "CUDA_VISIBLE_DEVICES": place,
            "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs)),
        }
    before = log.stat().st_size if log.is_file() else 0
    with log.open("a", encoding="utf-8") as output:
        words = [sys.executable, "-m", "longtail", *command(run)]
        code = subprocess.run(words, env=environment, stdout=output, stderr=output, check=False).returncode
    done = code == 0 and run.state == "done"
    say(f"{run.folder.name}: " + ("done" if done else f"failed with exit code {code}: {_last_error(log, before)}"))
    return done


def _last_error(log: Path, before: int) -> str:
    """Last error of a failed run in its part of the log, with its fix."""
    lines = log.read_bytes()[before:].decode("utf-8", errors="replace").splitlines()
    errors = [i for i, line in enumerate(lines) if line.startswith("error: ")]
    said = lines[errors[-1] :] if errors else lines[-1:]
    return " ".join(line.strip() for line in said[:2]) or f"see {log}"
