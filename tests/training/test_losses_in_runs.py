"""Losses in whole runs: told how far the phase is, resumed with their state, saved with the model."""

import pytest
import torch

from longtail.cli import main
from longtail.errors import CheckpointError
from longtail.losses.cross_entropy import CrossEntropy
from longtail.losses.label_space import LabelSpace
from longtail.losses.ldam import LDAMLoss
from longtail.models.detector import Detector
from longtail.models.segmenter import Segmenter
from longtail.training.run import build_task, fit, score_run
from support import tiny_detection, tiny_runs


class MyLoss(CrossEntropy):
    """A loss of one's own that notes what it is told."""

    told: list[float]

    def __init__(self, labels: LabelSpace) -> None:
        super().__init__(labels)
        self.told = []

    def set_progress(self, fraction: float) -> None:
        self.told.append(fraction)


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LONGTAIL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def segmentation(loss, iterations: int = 3, **changes):
    method = {"name": "baseline", "loss": loss}
    return tiny_runs.tiny_config(method=method, iterations={"train": iterations}, **changes)


def test_losses_are_told_how_far_the_phase_is(tmp_path):
    hardware = {"accelerator": "cpu", "devices": 1, "accumulate": 2}
    config = segmentation(f"{__name__}:MyLoss", 4, hardware=hardware, loading={"batch_size": 4, "workers": 0})
    task = build_task(config)
    run = fit(config, tmp_path / "run", task=task, quiet=True)
    assert task.method.loss.told == [0, 0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75]
    with pytest.raises(CheckpointError, match=r"asks to run .*MyLoss"):
        Segmenter.from_pretrained(run.path)
    assert Segmenter.from_pretrained(run.path, trust_code=True).method.loss.num_classes


def test_ldam_reweights_at_the_end_of_a_run(tmp_path):
    config = segmentation({"name": "ldam", "defer": 0.5}, 4)
    task = build_task(config)
    assert isinstance(task.method.loss, LDAMLoss)
    fit(config, tmp_path / "run", task=task, quiet=True)
    assert task.method.loss.progress == 0.75


@pytest.mark.parametrize("loss", ["seesaw", {"name": "balanced_softmax", "counts": "seen"}, "equalization_v2"])
def test_segmentation_resumes_with_the_state_of_its_loss(loss, tmp_path):
    logging = {"logger": "none", "log_interval": 1, "val_interval": 0, "checkpoint_interval": 1}
    config = segmentation(loss, 4, logging=logging)
    whole = fit(config, tmp_path / "whole", quiet=True)
    task = build_task(config)
    stopped = tmp_path / "stopped"

    calls = 0
    ours = task.method.losses

    def interrupted(*batch):
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return ours(*batch)

    task.method.losses = interrupted
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(config, stopped, task=task, quiet=True)
    resumed = fit(config, stopped, resume=True, quiet=True)
    first, second = (Segmenter.from_pretrained(run.path).state_dict() for run in (whole, resumed))
    assert any("loss" in name for name in first)
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_segmentation_run_with_sigmoids(tmp_path):
    run = fit(segmentation({"name": "focal", "kind": "sigmoid"}), tmp_path / "run", quiet=True)
    results = score_run(run.path, progress=False)
    assert 0 <= results.own.overall["mIoU"] <= 1
    segmenter = Segmenter.from_pretrained(run.path)
    assert segmenter.settings["method"]["loss"] == {"name": "focal", "kind": "sigmoid"}
    picture = torch.randint(0, 256, (3, 40, 50), dtype=torch.uint8)
    segmenter.save_pretrained(tmp_path / "saved")
    again = Segmenter.from_pretrained(tmp_path / "saved")
    assert torch.equal(again.predict(picture), segmenter.predict(picture))


@pytest.mark.parametrize("name", ["baseline", "mec"])
def test_detection_run_with_seesaw(name, tmp_path):
    config = tiny_detection.tiny_config(method={"name": name, "loss": {"name": "seesaw", "compensation": 1.0}})
    run = fit(config, tmp_path / "run", quiet=True)
    results = score_run(run.path, progress=False)
    assert next(iter(results.predictions)) == name
    detector = Detector.from_pretrained(run.path)
    assert detector.settings["method"]["loss"] == {"name": "seesaw", "compensation": 1.0}
    counts = [value for key, value in detector.state_dict().items() if key.endswith("counts")]
    assert len(counts) == 3 and all(value.sum() > 0 for value in counts)
    picture = torch.randint(0, 256, (3, 48, 60), dtype=torch.uint8)
    detector.save_pretrained(tmp_path / "saved")
    again = Detector.from_pretrained(tmp_path / "saved")
    assert torch.equal(again.predict(picture).scores, detector.predict(picture).scores)


def test_losses_from_the_command_line(tmp_path, capsys):
    arguments = ["--data.dataset", "longtail-scenes", "--dry_run", "--method.name", "baseline"]
    small = ["--model.encoder", "torchvision/mobilenet_v2"]
    assert main(["train", "segmentation", *arguments, *small, "--method.loss", "{name: focal, gamma: 1}"]) == 0
    assert main(["train", "segmentation", *arguments, *small, "--method.loss", "{name: focal, gama: 1}"]) == 2
    assert "did you mean 'gamma'" in capsys.readouterr().err
    assert main(["train", "detection", *arguments, "--method.loss", "seesaw"]) == 0
    assert main(["info", "ldam"]) == 0
    assert "max_margin" in capsys.readouterr().out
