"""A finished model whose classifier alone is trained again: a second run with another loss and sampling."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from longtail.errors import CheckpointError, ConfigError, DataError
from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.losses.cross_entropy import CrossEntropy
from longtail.losses.label_space import LabelSpace
from longtail.models.detection_methods import build_detection_method
from longtail.models.detector import Detector
from longtail.models.segmenter import Segmenter
from longtail.phases import PhasedMethod
from longtail.training.preflight import classifier_weights
from longtail.training.run import build_task, fit
from longtail.training.run_folder import RunFolder
from longtail.training.tasks.detection import DetectionTask
from support import tiny_detection, tiny_runs

SCENES = {"dataset": "longtail-scenes", "size": [48, 64], "num_images": 12}
#: Second runs of MEC's comparisons (3), (5), (9) and (10): method, and sampling.
SECOND = {
    "repeat_factor": ({"name": "baseline"}, "repeat_factor"),
    "focal": ({"name": "baseline", "loss": "focal"}, "shuffled"),
    "balanced_groups": ({"name": "baseline", "loss": "balanced_group_softmax"}, "shuffled"),
    "calibration_head": ({"name": "calibration_head", "threshold": 3}, "two_level"),
}


def detection(method, sampling="shuffled", **changes):
    data = {**tiny_detection.SETTINGS["data"], "sampling": {"name": sampling}}
    settings = {"data": data, "iterations": {"classifier": 2}, "evaluation": {"pictures": 0}, **changes}
    return tiny_detection.tiny_config(method=method, train_only="classifier", **settings)


def segmentation(loss, by="shuffled", **changes):
    method = {"name": "baseline", "loss": loss or None}
    data = {"dataset": "longtail-scenes", "size": [32, 32], "num_images": 6, "sampling": {"name": by}}
    settings = {"data": data, "iterations": {"classifier": 2}, **changes}
    return tiny_runs.tiny_config(method=method, train_only="classifier", **settings)


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LONGTAIL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def detector(tmp_path_factory) -> Path:
    settings = tiny_detection.tiny_config(method={"name": "baseline"}, iterations={"train": 2})
    return fit(settings, tmp_path_factory.mktemp("runs") / "baseline", quiet=True).path


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory) -> Path:
    settings = tiny_runs.tiny_config(method={"name": "baseline"}, iterations={"train": 2}, data=segmentation("").data)
    return fit(settings, tmp_path_factory.mktemp("runs") / "segmenter", quiet=True).path


class Classified(PhasedMethod):
    """Features and a classifier, of any loss."""

    def __init__(self, outputs: int, loss: nn.Module | None = None) -> None:
        super().__init__()
        self.features = nn.Linear(2, 5)
        self.head = nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, outputs))
        self.loss = loss

    def classifiers(self):
        return {"head": "head"}


def test_a_classifier_without_background_takes_the_rows_of_the_classes():
    first, second = Classified(4).state_dict(), Classified(3)  # focal's sigmoids know no background
    nn.init.constant_(second.head[1].bias, -4.6)
    begun = classifier_weights(second, first, reset=False)
    assert torch.equal(begun["head.1.weight"], first["head.1.weight"][:3])
    assert (begun["head.1.bias"] == -4.6).all()
    assert all(torch.equal(begun[key], first[key]) for key in first if not key.startswith("head.1"))


@pytest.mark.parametrize(("outputs", "reset"), [(7, False), (4, True)])
def test_a_classifier_of_more_outputs_and_a_reset_one_begin_anew(outputs, reset):
    first, second = Classified(4).state_dict(), Classified(outputs)
    begun = classifier_weights(second, first, reset=reset)
    assert torch.equal(begun["head.1.weight"], second.head[1].weight)
    assert torch.equal(begun["features.weight"], first["features.weight"])
    assert begun.keys() == second.state_dict().keys()


def test_what_a_loss_has_counted_begins_anew():
    loss = CrossEntropy(LabelSpace(4, ignore_index=-100))
    loss.register_buffer("counts", torch.zeros(4))
    first = {**Classified(4).state_dict(), "loss.counts": torch.full((4,), 9.0)}
    assert not any(key.startswith("loss") for key in classifier_weights(Classified(4, loss), first, reset=False))


@pytest.mark.parametrize("name", SECOND)
def test_only_classifiers_of_a_detector_are_trained(name, detector, tmp_path):
    task = build_task(detection(*SECOND[name]))
    fit(task.config, tmp_path / "run", start_from=detector, task=task, quiet=True)
    first = Detector.from_pretrained(detector).state_dict()
    second = Detector.from_pretrained(tmp_path / "run")
    after = second.state_dict()
    part = ".calibration." if name == "calibration_head" else ".classifier."
    trained = {key for key in after if part in key}
    assert len(trained) == (18 if name == "calibration_head" else 6)
    for key, value in after.items():
        if key not in trained:
            assert torch.equal(value, first[key]), key
        elif value.shape == (begun := first[key.replace(".calibration.", ".")]).shape:
            assert not torch.equal(value, begun), key
            torch.testing.assert_close(value, begun, rtol=0, atol=0.1)
    # what was trained is what predicts, and what was saved
    image = [task.val_data[0]["image"].as_subclass(torch.Tensor)]
    trained_method = task.method.eval()
    with torch.no_grad():
        outputs = trained_method.stage_outputs(image)[0]
        torch.testing.assert_close(second.method.stage_outputs(image)[0].logits, outputs.logits)
        read = trained_method.readouts()["baseline"](outputs)
    assert read.shape[1] == trained_method.num_classes + 1
    assert ((read >= 0) & (read <= 1)).all()


@pytest.mark.parametrize("name", ["repeat_factor", "calibration_head"])
def test_before_its_training_it_is_the_baseline(name, detector):
    """The second classifiers begin as the first ones: nothing changes until they are trained."""
    task = build_task(detection(*SECOND[name]))
    plain = Detector.from_pretrained(detector)
    task.method.load_state_dict(classifier_weights(task.method, plain.method.state_dict(), reset=False))
    image = [task.val_data[0]["image"].as_subclass(torch.Tensor)]
    with torch.no_grad():
        expected = plain.method.stage_outputs(image)[0]
        found = task.method.eval().stage_outputs(image)[0]
    probabilities = [m.readouts()["baseline"](o) for m, o in ((plain.method, expected), (task.method, found))]
    torch.testing.assert_close(*probabilities)
    torch.testing.assert_close(found.boxes, expected.boxes)


def test_losses_of_two_level_sampling_are_of_one_class_of_an_image():
    task = build_task(detection(*SECOND["calibration_head"]))
    task.method.train()
    index = task.order(torch.Generator().manual_seed(0))[0]
    assert index >= task.train_data.sampled
    images, targets = task.inputs(task.collate([task.train_data[index]]))
    assert "focus" in targets[0]
    losses = task.method.losses(images, targets)
    assert set(losses) == {f"stage_{k}_class" for k in (1, 2, 3)}


@pytest.mark.parametrize("loss", ["balanced_softmax", "seesaw", {"name": "focal", "kind": "sigmoid"}])
def test_only_the_head_of_a_segmenter_is_trained(loss, segmenter, tmp_path):
    config = segmentation(loss, "class_aware")
    task = build_task(config)
    assert task.order(torch.Generator().manual_seed(0)) != list(range(6))
    run = fit(config, tmp_path / "second", task=task, start_from=segmenter, quiet=True)
    before, after = (Segmenter.from_pretrained(path).state_dict() for path in (segmenter, run.path))
    moved = {key for key, value in after.items() if key in before and not torch.equal(value, before[key])}
    head = "method.model.expert.head."
    assert moved and all(key.startswith(head) for key in moved)
    picture = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    task.model.load_state_dict(after)
    assert torch.equal(Segmenter.from_pretrained(run.path).predict(picture), task.model.predict(picture))


def test_it_resumes_without_the_finished_model(segmenter, tmp_path):
    config = segmentation(
        "", logging={"logger": "none", "log_interval": 1, "val_interval": 0, "checkpoint_interval": 1}
    )
    whole = fit(config, tmp_path / "whole", start_from=segmenter, quiet=True)
    task = build_task(config)
    losses, calls = task.method.losses, []

    def interrupted(*batch):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("power cut")
        return losses(*batch)

    task.method.losses = interrupted
    with pytest.raises(RuntimeError, match="power cut"):
        fit(config, tmp_path / "cut", task=task, start_from=segmenter, quiet=True)
    cut = fit(config, tmp_path / "cut", resume=True, quiet=True)
    one, other = (Segmenter.from_pretrained(run.path).state_dict() for run in (whole, cut))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_without_a_finished_model_of_the_same_classes_it_is_refused(segmenter, tmp_path):
    with pytest.raises(ConfigError, match=r"without a finished model\n.*--from"):
        fit(segmentation(""), tmp_path / "run", quiet=True)
    with pytest.raises(ConfigError, match=r"without a finished model"):
        fit(detection({"name": "calibration_head"}), tmp_path / "run", quiet=True)
    card = RunFolder(segmenter).card
    text = card.read_text()
    name = Segmenter.from_pretrained(segmenter).class_names[2]
    card.write_text(text.replace(f'"{name}"', '"another"'))
    with pytest.raises(DataError, match="class 2 is 'another'"):
        fit(segmentation("focal"), tmp_path / "run", start_from=segmenter, quiet=True)
    card.write_text(text)
    wider = {**tiny_runs.SETTINGS["model"], "channels": 16}
    with pytest.raises(CheckpointError, match="do not fit"):
        fit(segmentation("", model=wider), tmp_path / "run", start_from=segmenter, quiet=True)


def test_what_cannot_be_trained_alone_is_refused():
    with pytest.raises(ConfigError, match=r"Medoe has no classifier that is trained alone\n.*baseline"):
        build_task(tiny_runs.tiny_config(train_only="classifier", iterations={}))
    with pytest.raises(ConfigError, match="train_only is 'head'"):
        tiny_runs.tiny_config(train_only="head")
    with pytest.raises(ConfigError, match="reset_classifier without train_only"):
        tiny_runs.tiny_config(reset_classifier=True)
    with pytest.raises(ConfigError, match="deconfound"):
        model = {**tiny_detection.SETTINGS["model"], "classifier": "deconfound"}
        DetectionTask(detection({"name": "calibration_head"}, model=model))
    counts = np.array([1.0, 20.0, 300.0])
    frequency = ClassFrequency(("a", "b", "c"), images=counts, instances=counts)
    with pytest.raises(ConfigError, match="comparisons"):
        build_detection_method(
            "calibration_head",
            groups=CategoryGroups.by_count(counts),
            frequency=frequency,
            detector={"name": "cascade", "backbone": "torchvision/mobilenet_v2"},
            comparisons={"dynamic": "dynamic"},
        )
