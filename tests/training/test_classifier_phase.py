"""Two-step comparison methods: a detector is trained, then second classifiers alone."""

from pathlib import Path

import pytest
import torch

from longtail.errors import ConfigError
from longtail.models.detector import Detector
from longtail.training.detection_task import DetectionTask
from longtail.training.fit import build_task, fit
from support.tiny_detection import tiny_config

PHASES = {
    "repeat_factor": {"sampling": "repeat_factor"},
    "balanced_groups": {"loss": "balanced_group_softmax"},
    "calibration_head": {"head": "box", "sampling": "two_level", "beside": True, "threshold": 3},
}


def config(phase, **changes):
    return tiny_config(
        method={"name": "baseline", "classifier_phase": phase},
        iterations={"train": 2, "classifier": 2},
        evaluation={"pictures": 0},
        **changes,
    )


@pytest.fixture(scope="module")
def baseline(tmp_path_factory) -> Path:
    settings = tiny_config(method={"name": "baseline"}, iterations={"train": 2})
    return fit(settings, tmp_path_factory.mktemp("runs") / "baseline", quiet=True).path


@pytest.mark.parametrize("name", PHASES)
def test_only_second_classifiers_are_trained_from_a_baseline(name, baseline, tmp_path):
    task = build_task(config(PHASES[name]))
    fit(task.config, tmp_path / "run", start_from=baseline, task=task, quiet=True)
    first = Detector.from_pretrained(baseline).state_dict()
    detector = Detector.from_pretrained(tmp_path / "run")
    after = detector.state_dict()
    assert all(torch.equal(after[key], value) for key, value in first.items())
    assert any(".second." in key for key in set(after) - set(first))
    changed = [
        not torch.equal(after[key], first[key.replace(".second.classifier.", ".classifier.")])
        for key in after
        if ".second.classifier." in key and after[key].shape == first[key.replace(".second.", ".")].shape
    ]
    assert all(changed)
    # what was trained is what predicts, and what was saved
    image = [task.val_data[0]["image"].as_subclass(torch.Tensor)]
    trained = task.method.eval()
    with torch.no_grad():
        torch.testing.assert_close(
            detector.method.stage_outputs(image)[0].logits, trained.stage_outputs(image)[0].logits
        )
        read = trained.readouts()["baseline"](trained.stage_outputs(image)[0])
    assert read.shape[1] == trained.num_classes + 1
    assert ((read >= 0) & (read <= 1)).all()


def test_both_phases_in_one_run(baseline, tmp_path):
    """The same weights come out as when the first phase is another run's."""
    settings = config({"reset": True, "sampling": "class_aware"})
    run = fit(settings, tmp_path / "run", quiet=True)
    after = fit(settings, tmp_path / "after", start_from=baseline, quiet=True)
    one, two = (Detector.from_pretrained(r.path).state_dict() for r in (run, after))
    assert set(one) == set(two)
    first = Detector.from_pretrained(baseline).state_dict()
    assert all(torch.equal(one[key], first[key]) for key in first)


def test_before_the_phase_it_is_the_baseline(baseline):
    """The second classifiers begin as the first ones: nothing changes until they are trained."""
    task = build_task(config(PHASES["repeat_factor"]))
    plain = Detector.from_pretrained(baseline)
    task.detector.load_state_dict(plain.state_dict(), strict=False)
    task.method.start_phase("classifier")
    image = [task.val_data[0]["image"].as_subclass(torch.Tensor)]
    with torch.no_grad():
        expected = plain.method.stage_outputs(image)[0]
        found = task.method.eval().stage_outputs(image)[0]
    torch.testing.assert_close(found.logits, expected.logits)
    torch.testing.assert_close(found.boxes, expected.boxes)


def test_losses_of_the_phase_are_of_classes_alone(baseline):
    task = build_task(config(PHASES["calibration_head"]))
    task.method.start_phase("classifier")
    task.method.train()
    index = task.order(torch.Generator().manual_seed(0))[0]
    assert index >= len(task.train_data) or index >= task.train_data.sampled
    images, targets = task.inputs(task.collate([task.train_data[index]]))
    assert "focus" in targets[0]
    losses = task.method.losses(images, targets)
    assert set(losses) == {f"stage_{k}_class" for k in (1, 2, 3)}
    sum(losses.values()).backward()
    assert {
        name.split(".second.")[0].rsplit(".", 1)[0] for name, p in task.method.named_parameters() if p.grad is not None
    } == {"heads.stages"}


def test_refusals():
    with pytest.raises(ConfigError, match=r"method\.classifier_phase with method\.name mec"):
        tiny_config(method={"name": "mec", "classifier_phase": {}})
    with pytest.raises(ConfigError, match="further ensembles"):
        DetectionTask(
            tiny_config(method={"name": "baseline", "classifier_phase": {}, "further": {"dynamic": "dynamic"}})
        )
    with pytest.raises(ConfigError, match="deconfound"):
        model = tiny_config().model
        DetectionTask(config({}, model={**vars(model), "classifier": "deconfound"}))
