"""What the best weights are chosen by, early stopping, and the last weights."""

import csv
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from longtail.errors import ConfigError
from longtail.frequency import CategoryGroups
from longtail.training.checkpoints import read_state
from longtail.training.config import LoggingConfig, MonitorConfig, OptimiserConfig
from longtail.training.monitor import check_monitor, monitored
from longtail.training.run import build_task, fit, score_run
from longtail.training.tasks.base import Validation
from support.fake_runs import make_results
from support.tiny_runs import tiny_config
from support.toy_run import ToyTask, toy_config

TWO = CategoryGroups.explicit({"head": [0], "tail": [1]})


class Plateau(ToyTask):
    """Scores that rise twice and then fall."""

    scores = (0.1, 0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1)

    def validate(self, device):
        self.validated.append(self.method.phase)
        return Validation(self.scores[len(self.validated) - 1], {}, None)


def config(patience, **changes):
    logging = LoggingConfig(logger="none", log_interval=10, val_interval=5, checkpoint_interval=7)
    return toy_config(logging=logging, monitor=MonitorConfig(patience=patience), **changes)


def test_numbers_of_results_by_path():
    results = make_results("medoe")
    own = results.own
    assert monitored(results, "overall.mAcc") == own.overall["mAcc"]
    assert monitored(results, "groups.tail.mIoU") == own.groups["tail"]["mIoU"]
    name = results.class_names[3]
    assert monitored(results, f"per_class.IoU.{name}") == own.per_class["IoU"][3]
    values = [group["mIoU"] for group in own.groups.values()]
    assert monitored(results, "harmonic.mIoU") == pytest.approx(len(values) / sum(1 / v for v in values))
    own.groups["tail"]["mIoU"] = 0.0
    assert monitored(results, "harmonic.mIoU") == 0
    own.groups["tail"]["mIoU"] = math.nan  # a group that the images do not show
    rest = [group["mIoU"] for name, group in own.groups.items() if name != "tail"]
    assert monitored(results, "harmonic.mIoU") == pytest.approx(len(rest) / sum(1 / v for v in rest))
    for path in ("groups.tail.mIoU", "overall.AP", "harmonic.AP"):
        with pytest.raises(ConfigError, match="which the validation does not measure"):
            monitored(results, path)


@pytest.mark.parametrize("path", ["mIoU", "groups.tail", "groups.rare.mIoU", "per_class.IoU.dragon", "overall.a.b.c"])
def test_paths_that_no_results_have_are_refused_before_training(path):
    with pytest.raises(ConfigError, match=r"monitor\.metric is"):
        check_monitor(path, TWO, ("road", "pole"))
    for known in ("overall.mIoU", "groups.tail.mIoU", "harmonic.mAcc", "per_class.IoU.road"):
        check_monitor(known, TWO, ("road", "pole"), shown=[0, 1])


def test_groups_that_no_validation_image_shows_are_refused_before_training():
    for path in ("groups.tail.mIoU", "per_class.IoU.pole"):
        with pytest.raises(ConfigError, match="no validation image shows such a class"):
            check_monitor(path, TWO, ("road", "pole"), shown=[0])
    check_monitor("groups.head.mIoU", TWO, ("road", "pole"), shown=[0])
    check_monitor("harmonic.mIoU", TWO, ("road", "pole"), shown=[0])  # a mean over the groups that have a value
    with pytest.raises(ConfigError, match=r"monitor\.patience without validations"):
        toy_config(logging=LoggingConfig(logger="none", val_interval=0), monitor=MonitorConfig(patience=1))


def test_a_phase_ends_where_nothing_better_is_found(tmp_path):
    task = Plateau()
    run = fit(config(3, iterations={"experts": 60, "ensemble": 5}), tmp_path / "run", task=task, quiet=True)
    # the second validation is the best one; three more, then the next phase
    assert task.validated == ["experts"] * 5 + ["ensemble"]
    state = read_state(run.last)
    assert state["finished"] and state["phase"] == "ensemble" and state["done"] == ["experts"]
    assert "ends at iteration 25" in run.log.read_text()
    assert run.phase_weights("experts").is_file() and run.phase_weights("ensemble").is_file()


def test_best_and_last_weights_are_both_kept(tmp_path):
    task = Plateau()
    run = fit(config(0, iterations={"experts": 5, "ensemble": 15}), tmp_path / "run", task=task, quiet=True)
    best, last = load_file(run.weights), load_file(run.phase_weights("ensemble"))
    assert not all(best[name].equal(last[name]) for name in best)
    state = read_state(run.last)["method"]
    assert all(last[name].equal(state[name]) for name in last)


def test_patience_survives_a_resume(tmp_path):
    settings = config(3, iterations={"experts": 60, "ensemble": 5})
    whole = fit(settings, tmp_path / "whole", task=Plateau(), quiet=True)

    class Killed(Plateau):
        def validate(self, device):
            if len(self.validated) == 3:
                raise KeyboardInterrupt
            return super().validate(device)

    first = Killed()
    with pytest.raises(KeyboardInterrupt):
        fit(settings, tmp_path / "cut", task=first, quiet=True)
    second = Plateau()
    second.validated = list(first.validated)
    cut = fit(settings, tmp_path / "cut", task=second, resume=True, quiet=True)
    one, other = read_state(whole.last), read_state(cut.last)
    assert second.validated == ["experts"] * 5 + ["ensemble"]
    assert all(one["method"][name].equal(other["method"][name]) for name in one["method"])


def test_scores_of_groups_and_classes_are_logged(tmp_path, monkeypatch):
    monkeypatch.setenv("LONGTAIL_CACHE", str(tmp_path / "cache"))
    settings = tiny_config(method={"name": "baseline"}, iterations={"train": 1}, monitor={"metric": "harmonic.mAcc"})
    task = build_task(settings)
    outcome = task.validate(torch.device("cpu"))
    assert {"mIoU/head", "mAcc/head"} <= outcome.values.keys()
    assert set(outcome.classes) <= {f"IoU_by_class/{name}" for name in task.frequency.class_names} and outcome.classes
    run = fit(settings, tmp_path / "run", task=task, quiet=True)
    with run.metrics.open() as file:
        assert "val/mAcc/head" in csv.DictReader(file).fieldnames


def test_classes_that_nothing_can_be_learned_of_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("LONGTAIL_CACHE", str(tmp_path / "cache"))
    task = build_task(tiny_config(method={"name": "baseline"}, iterations={"train": 1}))
    pixels = np.maximum(task.frequency.pixels, 1)
    task.frequency = replace(task.frequency, pixels=pixels)
    assert not task._absent()
    pixels = pixels.copy()
    pixels[[2, 5]] = 0
    task.frequency = replace(task.frequency, pixels=pixels)
    names = task.frequency.class_names
    (said,) = [words for subject, words in task.describe() if subject == "warning"]
    assert said == f"2 classes have no pixels to train on, and will score 0: {names[2]}, {names[5]}"


def test_a_learning_rate_that_does_nothing_is_told(tmp_path):
    tiny = fit(toy_config(optimiser=OptimiserConfig(lr=1e-30)), tmp_path / "tiny", task=ToyTask(), quiet=True)
    assert "no weight has changed in 10 iterations" in tiny.log.read_text().replace("\n", " ")
    usual = fit(toy_config(), tmp_path / "usual", task=ToyTask(), quiet=True)
    assert "no weight has changed" not in usual.log.read_text()


def test_the_last_weights_are_scored(tmp_path, monkeypatch):
    monkeypatch.setenv("LONGTAIL_CACHE", str(tmp_path / "cache"))
    run = fit(tiny_config(method={"name": "baseline"}, iterations={"train": 1}), tmp_path / "run", quiet=True)
    with pytest.raises(ConfigError, match="scores with the last weights"):
        score_run(run.path, last=True, progress=False)
    last = load_file(run.phase_weights("train"))
    save_file({name: torch.zeros_like(value) for name, value in last.items()}, run.phase_weights("train"))
    zeros = score_run(run.path, last=True, out=tmp_path / "zeros", progress=False)
    best = score_run(run.path, out=tmp_path / "best", progress=False)
    assert zeros.own.extra["confusion"] != best.own.extra["confusion"] or zeros.own.per_class != best.own.per_class
