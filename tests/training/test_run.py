import contextlib
import csv
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from longtail.errors import CheckpointError, ConfigError, DataError, TrainingError
from longtail.training.checkpoints import read_state
from longtail.training.config import HardwareConfig, LoggingConfig, OptimiserConfig
from longtail.training.run import fit
from longtail.training.run_folder import RunFolder
from support import toy_run
from support.toy_run import ToyTask, toy_config

# Children fork from a server that has imported the engine once.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["longtail.training.run"])


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def unkilled(tmp_path_factory) -> RunFolder:
    torch.set_num_threads(1)
    return fit(toy_config(), tmp_path_factory.mktemp("unkilled") / "run", task=ToyTask(), quiet=True)


def same_weights(one: RunFolder, other: RunFolder) -> bool:
    a, b = read_state(one.last), read_state(other.last)
    assert a["finished"] and b["finished"]
    return all(torch.equal(a["method"][k], b["method"][k]) for k in a["method"])


def saved(run: RunFolder) -> tuple[str, int]:
    if not run.last.is_file():
        return "", 0
    state = read_state(run.last)
    return state["phase"], state["iteration"]


def kill(process) -> None:
    """End a process as a power cut would; its loading workers notice some seconds later and do no harm."""
    os.kill(process.pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        while True:
            os.kill(process.pid, 0)
            time.sleep(0.01)


def wait_for(condition, process, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the run never got there"
        assert process.is_alive() if hasattr(process, "is_alive") else process.poll() is None, "the run ended early"
        time.sleep(0.01)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("phase", ["experts", "ensemble"])
def test_a_killed_run_resumes_to_the_weights_of_an_unkilled_one(tmp_path, unkilled, phase, workers):
    run = RunFolder(tmp_path / "run")
    process = PROCESSES.Process(target=toy_run.train, args=(str(run.path), workers, 0.004 * (1 + workers)))
    process.start()
    wait_for(lambda: saved(run)[0] == phase, process)
    time.sleep(0.05)  # somewhere between two checkpoints
    kill(process)
    where = saved(run)
    assert where[0] == phase and 0 < where[1] < {"experts": 30, "ensemble": 20}[phase]

    task = ToyTask()
    fit(toy_config(workers), run.path, task=task, resume=True, quiet=True)

    assert same_weights(run, unkilled)
    if phase == "ensemble":
        assert set(task.validated) == {"ensemble"}  # the finished phase was not run again
    rows = [
        [(r["phase"], r["iteration"], r["loss"]) for r in csv.DictReader(f.metrics.open())] for f in (run, unkilled)
    ]
    assert rows[0] == rows[1]


def test_a_run_killed_while_it_validates_loses_nothing(tmp_path, unkilled):
    run = RunFolder(tmp_path / "run")
    process = PROCESSES.Process(target=toy_run.train_and_hang, args=(str(run.path),))
    process.start()
    wait_for((run.path / "validating").exists, process)
    kill(process)
    assert saved(run) == ("experts", 15)
    task = ToyTask()
    fit(toy_config(), run.path, task=task, resume=True, quiet=True)
    assert task.validated == ["experts", "experts", "ensemble", "ensemble"]
    assert same_weights(run, unkilled)
    rows = [
        [(r["phase"], r["iteration"], r["val/score"]) for r in csv.DictReader(f.metrics.open())]
        for f in (run, unkilled)
    ]
    assert rows[0] == rows[1]


def test_batches_do_not_depend_on_workers(tmp_path, unkilled):
    assert same_weights(fit(toy_config(workers=2), tmp_path / "run", task=ToyTask(), quiet=True), unkilled)


def test_another_seed_gives_other_weights(tmp_path, unkilled):
    assert not same_weights(fit(toy_config(seed=4), tmp_path / "run", task=ToyTask(), quiet=True), unkilled)


def test_a_later_phase_starts_from_the_weights_of_an_earlier_run(tmp_path, unkilled):
    task = ToyTask()
    run = fit(toy_config(), tmp_path / "run", task=task, start_from=unkilled.path, quiet=True)
    assert set(task.validated) == {"ensemble"}
    assert same_weights(run, unkilled)


def test_weights_of_another_model_are_refused(tmp_path, unkilled):
    task = ToyTask()
    task.method.head = torch.nn.Linear(8, 5)
    with pytest.raises(CheckpointError, match=r"head\.weight is \[3, 8\], the model needs \[5, 8\]"):
        fit(toy_config(), tmp_path / "run", task=task, start_from=unkilled.path, quiet=True)


def test_a_finished_run_is_not_run_again(tmp_path):
    run = fit(toy_config(), tmp_path / "run", task=ToyTask(), quiet=True)
    before = run.last.read_bytes()
    task = ToyTask()
    fit(toy_config(), run.path, task=task, resume=True, quiet=True)
    assert task.validated == [] and run.last.read_bytes() == before


def test_changed_settings_are_refused_on_resume(unkilled):
    changed = toy_config(optimiser=OptimiserConfig(lr=0.1))
    with pytest.raises(ConfigError, match=r"optimiser\.lr: 0\.05 -> 0\.1"):
        fit(changed, unkilled.path, task=ToyTask(), resume=True, quiet=True)


def test_changed_data_are_refused_on_resume(tmp_path):
    run = fit(toy_config(), tmp_path / "run", task=ToyTask(), quiet=True)
    other = ToyTask()
    other.data_fingerprint = "one image less"
    with pytest.raises(DataError, match=r"not those that .*run has been trained on(?s:.*)--from .*last\.ckpt"):
        fit(toy_config(), run.path, task=other, resume=True, quiet=True)


def test_resume_and_overwrite_exclude_each_other(tmp_path, unkilled):
    with pytest.raises(ConfigError, match="not both"):
        fit(toy_config(), unkilled.path, task=ToyTask(), resume=True, overwrite=True, quiet=True)


def test_an_accelerator_that_is_not_there_is_one_sentence(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ConfigError, match=r"cannot compute with these devices: .*gpu"):
        fit(toy_config(hardware=HardwareConfig(accelerator="gpu")), tmp_path, task=ToyTask(), quiet=True)


def test_a_folder_that_holds_something_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        fit(toy_config(), tmp_path, task=ToyTask(), quiet=True)
    fit(toy_config(), tmp_path, task=ToyTask(), overwrite=True, quiet=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_start_that_failed_leaves_the_folder_free_and_what_it_would_replace(tmp_path):
    run = RunFolder(tmp_path / "run")
    wrong = toy_config(iterations={"nothing": 4})
    with pytest.raises(ConfigError, match="nothing"):
        fit(wrong, run.path, task=ToyTask(), quiet=True)
    fit(toy_config(), run.path, task=ToyTask(), quiet=True)
    kept = run.weights.read_bytes()
    with pytest.raises(ConfigError, match="nothing"):
        fit(wrong, run.path, task=ToyTask(), overwrite=True, quiet=True)
    assert run.weights.read_bytes() == kept


def test_weights_that_do_not_fit_leave_the_folder_free_and_what_they_would_replace(tmp_path):
    save_file({"other": torch.zeros(2)}, tmp_path / "other.safetensors")
    for options in ({}, {"overwrite": True}):
        with pytest.raises(CheckpointError, match="the names of no program"):
            fit(
                toy_config(),
                tmp_path / "run",
                task=ToyTask(),
                quiet=True,
                start_from=tmp_path / "other.safetensors",
                **options,
            )
        assert not options or (tmp_path / "run/best.safetensors").is_file()
        if not options:
            fit(toy_config(), tmp_path / "run", task=ToyTask(), quiet=True)


def test_a_loss_that_is_not_finite_before_anything_is_saved(tmp_path):
    with pytest.raises(TrainingError) as caught:
        fit(toy_config(), tmp_path, task=ToyTask(poison=1), quiet=True)
    assert "last.ckpt" not in caught.value.fix and not RunFolder(tmp_path).last.exists()


def test_a_loss_that_is_not_finite_names_iteration_and_term(tmp_path):
    task = ToyTask(poison=11)

    with pytest.raises(TrainingError, match=r"loss 'cross_entropy' is nan in iteration \d+ of phase 'experts'"):
        fit(toy_config(), tmp_path / "run", task=task, quiet=True)
    if (tmp_path / "run/checkpoints/last.ckpt").is_file():
        state = read_state(tmp_path / "run/checkpoints/last.ckpt")["method"]
        assert all(v.isfinite().all() for v in state.values())


def test_after_a_loss_that_is_not_finite_another_run_begins_with_the_weights_before_it(tmp_path):
    class Breaks(ToyTask):
        def inputs(self, batch):
            self.seen = getattr(self, "seen", 0) + 1
            return batch["x"] * (float("nan") if self.seen == 10 else 1.0), batch["y"]

    with pytest.raises(TrainingError, match="in iteration 10 of") as caught:
        fit(toy_config(), tmp_path / "run", task=Breaks(), quiet=True)
    last = RunFolder(tmp_path / "run").last
    assert f"--from {last}" in caught.value.fix and "--overwrite" in caught.value.fix
    gentle = toy_config(optimiser=OptimiserConfig(lr=0.01))
    task = ToyTask()
    fit(gentle, tmp_path / "again", task=task, start_from=last, quiet=True)
    assert set(task.validated) == {"experts", "ensemble"}


def test_a_full_disk_keeps_the_last_state(tmp_path, monkeypatch):
    whole, calls = torch.save, []

    def save(state, path):
        calls.append(path)
        if len(calls) > 1:
            Path(path).write_bytes(b"half")
            raise OSError(28, "No space left on device")
        whole(state, path)

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(TrainingError, match="No space left"):
        fit(toy_config(), tmp_path / "run", task=ToyTask(), quiet=True)
    assert saved(RunFolder(tmp_path / "run")) == ("experts", 7)
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_ends_with_its_code(tmp_path, unkilled, number, code):
    run = RunFolder(tmp_path / "run")
    process = PROCESSES.Process(target=toy_run.train, args=(str(run.path), 0, 0.01))
    process.start()
    wait_for(lambda: saved(run)[1] == 7, process)
    os.kill(process.pid, number)
    process.join()
    assert process.exitcode == code
    assert saved(run)[0] == "experts" and saved(run)[1] > 7  # between two intervals
    assert same_weights(fit(toy_config(), run.path, task=ToyTask(), resume=True, quiet=True), unkilled)


def test_a_compiled_method_trains_to_the_same_weights(tmp_path, unkilled):
    task = ToyTask()
    task.method.encoder.compile(backend="eager")
    run = fit(toy_config(), tmp_path / "run", task=task, quiet=True)
    assert same_weights(run, unkilled)


def test_mixed_precision_and_clipping(tmp_path, unkilled):
    hardware = HardwareConfig(accelerator="cpu", devices=1, precision="bf16-mixed", gradient_clip=1.0)
    run = fit(toy_config(hardware=hardware), tmp_path / "run", task=ToyTask(), quiet=True)
    assert not same_weights(run, unkilled)


def test_phases_that_the_method_does_not_have_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="phase 'stage1'"):
        fit(toy_config(iterations={"stage1": 5}), tmp_path / "run", task=ToyTask(), quiet=True)


def test_accumulated_batches_are_resumed_at_whole_steps(tmp_path):
    config = toy_config(hardware=HardwareConfig(accelerator="cpu", devices=1, accumulate=2))
    whole = fit(config, tmp_path / "whole", task=ToyTask(), quiet=True)
    run = RunFolder(tmp_path / "cut")
    process = PROCESSES.Process(target=toy_run.train, args=(str(run.path), 0, 0.004), kwargs={"accumulate": 2})
    process.start()
    wait_for(lambda: saved(run)[1] == 7, process)
    kill(process)
    assert same_weights(fit(config, run.path, task=ToyTask(), resume=True, quiet=True), whole)


def test_tensorboard(tmp_path):
    config = toy_config(logging=LoggingConfig(log_interval=10, val_interval=0, checkpoint_interval=100))
    run = fit(config, tmp_path / "run", task=ToyTask(), quiet=True)
    (events,) = (run.path / "tensorboard").glob("events*")
    read = EventAccumulator(str(events)).Reload()
    assert {"experts/loss/sum", "ensemble/lr"} <= set(read.Tags()["scalars"])
    rows = [row for row in csv.DictReader(run.metrics.open()) if row["phase"] == "experts"]
    assert [(e.step, f"{e.value:.4g}") for e in read.Scalars("experts/loss/sum")] == [
        (int(row["iteration"]), f"{float(row['loss']):.4g}") for row in rows
    ]


@pytest.mark.parametrize("strategy", ["fsdp", "ddp_spawn", "nothing"])
def test_strategies_that_part_the_weights_or_are_none(tmp_path, strategy):
    with pytest.raises(ConfigError, match=r"hardware\."):
        fit(toy_config(hardware=HardwareConfig("cpu", 2, strategy=strategy)), tmp_path, task=ToyTask(), quiet=True)


def ranks(folder: Path, resume: bool = False) -> list:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [PROCESSES.Process(target=toy_run.train_rank, args=(str(folder), r, 2, port, resume)) for r in range(2)]
    for process in processes:
        process.start()
    return processes


def test_two_ranks_end_with_equal_weights_and_resume_to_the_same(tmp_path):
    for run in (RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "cut")):
        processes = ranks(run.path)
        if run.path.name == "cut":
            wait_for(lambda run=run: saved(run)[0] == "ensemble", processes[0])
            for process in processes:
                kill(process)
            assert saved(run)[1] < 20
            processes = ranks(run.path, resume=True)
        for process in processes:
            process.join(300)
            assert process.exitcode == 0
        state = read_state(run.last)
        assert state["world_size"] == 2 and state["finished"]
        first, second = state["random_states"]
        assert not torch.equal(first["torch"], second["torch"])  # dropout differs between ranks
        weights = [load_file(run.path / f"rank_{r}.safetensors") for r in range(2)]
        assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])
    assert same_weights(RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "cut"))


def test_another_number_of_ranks_is_warned_of(tmp_path, unkilled):
    run = RunFolder(tmp_path / "run")
    process = PROCESSES.Process(target=toy_run.train, args=(str(run.path), 0, 0.004))
    process.start()
    wait_for(lambda: saved(run)[1] == 7, process)
    kill(process)
    state = read_state(run.last)
    state["world_size"] = 4
    torch.save(state, run.last)
    fit(toy_config(), run.path, task=ToyTask(), resume=True)
    assert "saved on 4 ranks and resumes on 1" in " ".join(run.log.read_text().split())


@pytest.mark.slow
def test_lightning_launches_the_second_rank_itself(tmp_path):
    script = [sys.executable, str(Path(toy_run.__file__)), str(tmp_path / "run"), "0", "0", "0", "2"]
    done = subprocess.run(script, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    run = RunFolder(tmp_path / "run")
    assert read_state(run.last)["world_size"] == 2
    assert done.stdout.count("phase ") == 2  # only one rank speaks


def test_without_an_interval_nothing_is_validated_and_the_last_weights_are_kept(tmp_path):
    task = ToyTask()
    logging = LoggingConfig(logger="none", log_interval=10, val_interval=0, checkpoint_interval=100)
    run = fit(toy_config(logging=logging), tmp_path / "run", task=task, quiet=True)
    assert task.validated == []
    kept, last = load_file(run.weights), task.method.state_dict()
    assert kept.keys() == last.keys() and all(torch.equal(kept[name], last[name]) for name in last)
    assert "val/score" not in run.metrics.read_text()
