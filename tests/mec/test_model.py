"""MEC on cascades: it is the cascade where it should be, and learns where it should."""

import numpy as np
import pytest
import torch

from longtail.detection.method import StageOutputs
from longtail.detection.recording import StageRecorder
from longtail.ensembles.average import Average
from longtail.ensembles.build import build_ensemble
from longtail.ensembles.dynamic import DynamicEnsemble
from longtail.ensembles.sparse import SparseEnsemble
from longtail.errors import ConfigError
from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.losses.cross_entropy import CrossEntropy
from longtail.mec.losses import expert_losses
from longtail.mec.model import MultiStageDetector, _check_fit, make_multi_expert, stage_experts
from longtail.models.detection_methods import build_detection_method
from support.labels import boxes

from ..detection.conftest import scene, tiny_cascade, tiny_htc

GROUPS = CategoryGroups(("rare", "common", "frequent"), ((2,), (0,), (1,)))


@pytest.fixture
def batch():
    samples = [scene(96, 80, seed=1), scene(64, 100, seed=2, count=2)]
    return [s[0] for s in samples], [s[1] for s in samples]


@pytest.mark.parametrize("make", [tiny_cascade, tiny_htc])
@pytest.mark.parametrize("base", [None, lambda: CrossEntropy(boxes(3))])
def test_weight_one_and_the_plain_average_are_the_cascade_exactly(make, base, batch) -> None:
    plain, ours = make(), make()
    average = {"name": "average", "average": ours.config.average}
    assert make_multi_expert(ours, GROUPS, overall_weight=1.0, ensemble=average, base=base) is ours
    assert isinstance(ours, MultiStageDetector) and list(ours.state_dict()) == list(plain.state_dict())
    for detector in (plain, ours):
        torch.manual_seed(7)
        detector.found_losses = detector.losses(*batch)
        sum(detector.found_losses.values()).backward()
    for name, value in plain.found_losses.items():
        assert torch.equal(value, ours.found_losses[name]), name
    for (name, a), b in zip(plain.named_parameters(), ours.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None) and (a.grad is None or torch.equal(a.grad, b.grad)), name
    plain.eval(), ours.eval()
    for a, b in zip(plain.predict(batch[0]), ours.predict(batch[0]), strict=True):
        assert torch.equal(a.scores, b.scores) and torch.equal(a.boxes, b.boxes) and a.masks == b.masks
        assert len(a)


def test_only_class_losses_change(batch) -> None:
    plain, ours = tiny_cascade(), make_multi_expert(tiny_cascade(), GROUPS)
    found = []
    for detector in (plain, ours):
        torch.manual_seed(7)
        found.append(detector.losses(*batch))
    for name, value in found[0].items():
        assert torch.equal(value, found[1][name]) != name.endswith("_class"), name


@pytest.mark.parametrize("dialect", ["mmdetection", "detectron2"])
def test_the_aligned_average_differs_from_the_plain_one_by_alignment_alone(dialect) -> None:
    detector = build_detection_method("mec", groups=GROUPS, detector={**TINY, "dialect": dialect})
    assert detector.ensembles["average_aligned"].average == detector.config.average


def test_an_ensemble_that_cannot_read_the_loss_is_found_before_training() -> None:
    comparisons = {"own": {"name": "dynamic", "background": "last_group"}}
    for method in ("mec", "baseline"):
        with pytest.raises(ConfigError, match="ensemble 'own': "):
            build_detection_method(
                method, groups=GROUPS, detector=TINY, loss="federated", frequency=FREQUENCY, comparisons=comparisons
            )


def test_more_groups_than_thresholds() -> None:
    groups = CategoryGroups(tuple("abcdef"), tuple((k,) for k in range(6)))
    with pytest.raises(ConfigError, match="6 groups, and IoU thresholds for at most 5 stages"):
        build_detection_method("mec", groups=groups)


def test_readouts_of_table_2c(batch) -> None:
    detector = make_multi_expert(tiny_cascade(), GROUPS).eval()
    names = list(detector.readouts())
    assert names[:5] == ["mec", "dynamic_unaligned", "average_aligned", "sparse", "average"]
    found = detector.predict_readouts(batch[0])
    assert all(len(found[name]) == 2 and len(found[name][0]) for name in names)
    outputs = detector.stage_outputs(batch[0])[0]
    assert torch.equal(detector.readouts()["mec"](outputs), DynamicEnsemble(GROUPS)(outputs.logits))
    # the same on a checkpoint of an ordinary cascade: nothing to load anew
    plain = tiny_cascade(seed=3)
    detector.load_state_dict(plain.state_dict())


def test_rare_objects_train_the_first_stage_more() -> None:
    image, target = scene(96, 96, seed=4, count=3)
    target["labels"][:] = 2  # rare alone
    plain, ours = tiny_cascade(), make_multi_expert(tiny_cascade(), GROUPS, overall_weight=0.2)
    found = []
    for detector in (plain, ours):
        torch.manual_seed(7)
        found.append(detector.losses([image], [target]))
    assert found[1]["stage_1_class"] < found[0]["stage_1_class"]  # the group has one class: only λ CE is left
    for stage in (2, 3):
        assert torch.allclose(found[1][f"stage_{stage}_class"], found[0][f"stage_{stage}_class"])


def test_stages_and_groups_must_fit() -> None:
    two = CategoryGroups(("a", "b"), ((0,), (1, 2)))
    with pytest.raises(ConfigError, match=r"2 groups .* for 3 stages"):
        make_multi_expert(tiny_cascade(), two)
    with pytest.raises(ConfigError, match="groups of 4 classes for a detector of 3"):
        make_multi_expert(tiny_cascade(), CategoryGroups(("a", "b", "c"), ((0,), (1,), (2, 3))))
    with pytest.raises(ConfigError, match="taken"):
        make_multi_expert(tiny_cascade(), GROUPS, comparisons={"stage_1": "sparse"})


def test_ensembles_by_name() -> None:
    assert isinstance(build_ensemble("sparse", stage_experts(GROUPS)), SparseEnsemble)
    dynamic = build_ensemble({"name": "dynamic", "temperature": 3.0, "background": "relative"}, stage_experts(GROUPS))
    assert dynamic.temperature == 3.0 and dynamic.layout.background == "relative"
    assert isinstance(build_ensemble({"name": "average", "align": True}, stage_experts(GROUPS)), Average)
    with pytest.raises(ConfigError, match="no ensemble 'dynamc'\n  fix: did you mean 'dynamic'"):
        build_ensemble("dynamc", stage_experts(GROUPS))
    with pytest.raises(ConfigError, match="tau"):
        build_ensemble({"name": "dynamic", "tau": 3.0}, stage_experts(GROUPS))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "dynamic", "weigh_by": "rw"}, "did you mean 'raw'"),
        ({"name": "dynamic", "temperature": "high"}, "temperature is 'high'"),
        ({"name": "sparse", "align": "never"}, "align is 'never'"),
        ({"name": "average", "average": "logit"}, "did you mean 'logits'"),
        ({"name": "average", "background": "last"}, "background is 'last'"),
        ({"name": "norcl"}, "did you mean 'norcal'"),
        ({"name": "norcal", "unit": "img"}, "unit is 'img'"),
        ({"name": "norcal", "independent": "never"}, "independent is 'never'"),
    ],
)
def test_values_that_do_not_fit_are_refused(spec, message) -> None:
    with pytest.raises(ConfigError, match=message):
        build_ensemble(spec, stage_experts(GROUPS, None, FREQUENCY))


@pytest.mark.parametrize("method", ["mec", "baseline"])
@pytest.mark.parametrize("name", ["own", "average", "stage_1", "a.b", "keys"])
def test_names_of_other_ensembles_that_are_taken_are_refused(method, name) -> None:
    comparisons = {method if name == "own" else name: "sparse"}
    with pytest.raises(ConfigError, match="name"):
        build_detection_method(method, groups=GROUPS, detector=TINY, comparisons=comparisons)


FREQUENCY = ClassFrequency.from_dict(
    {"class_names": ["a", "b", "c"], "images": [40, 90, 1], "instances": [50, 900, 1], "num_images": 100}
)


def test_calibrated_by_name(batch, tmp_path) -> None:
    norcal = build_ensemble({"name": "norcal", "inner": "dynamic"}, stage_experts(GROUPS, None, FREQUENCY))
    assert isinstance(norcal.inner, DynamicEnsemble)
    torch.testing.assert_close(norcal.divisors, torch.tensor([40.0, 90.0, 1.0]) ** 0.6)
    spec = {"name": "logit_adjustment", "tau": 0.5, "independent": True}
    adjusted = build_ensemble(spec, stage_experts(GROUPS, None, FREQUENCY))
    torch.testing.assert_close(adjusted.divisors, (torch.tensor([50.0, 900.0, 1.0]) / 951) ** 0.5)
    assert adjusted.independent and isinstance(adjusted.inner, Average)
    # logn takes its statistics from a recording
    detector = tiny_cascade().eval()
    outputs = detector.stage_outputs(batch[0])
    with StageRecorder(tmp_path / "train") as recorder:
        recorder.add([1, 2], outputs, [(96, 80), (64, 100)])
    spec = {"name": "logn", "recording": str(tmp_path / "train")}
    normalized = build_ensemble(spec, stage_experts(GROUPS))
    logits = torch.cat([o.logits for o in outputs], dim=1)
    torch.testing.assert_close(normalized.mean, logits[:, :, :3].mean(1))
    torch.testing.assert_close(normalized(logits).sum(1), torch.ones(logits.shape[1]))


def test_calibrated_readouts_of_a_detector(batch) -> None:
    comparisons = {"norcal": {"name": "norcal", "inner": "dynamic"}}
    detector = make_multi_expert(tiny_cascade(), GROUPS, comparisons=comparisons, frequency=FREQUENCY).eval()
    outputs = detector.stage_outputs(batch[0])[0]
    plain, found = (detector.readouts()[name](outputs) for name in ("mec", "norcal"))
    # the class of no image is divided by 1, the others and the total by more
    assert (found[:, 2] > plain[:, 2]).all() and (found[:, 1] < plain[:, 1]).all()
    assert len(detector.predict_readouts(batch[0], names=["norcal"])["norcal"]) == 2


@pytest.mark.parametrize(
    "options, message",
    [
        ({"name": "norcal"}, "counts of the training split"),
        ({"name": "logn"}, "ensemble 'logn' lacks recording"),
        ({"name": "norcal", "power": 2}, "power"),
        ({"name": "norcal", "tau": 9.0}, "no option 'tau'"),
        ({"name": "norcal", "inner": "best"}, "'best'"),
    ],
)
def test_calibrated_refusals(options, message) -> None:
    with pytest.raises(ConfigError, match=message):
        build_ensemble(options, stage_experts(GROUPS))


@pytest.mark.parametrize("loss", ["equalization", "federated", {"name": "focal", "kind": "sigmoid"}])
def test_sigmoids_keep_what_their_level_says(loss) -> None:
    detector = build_detection_method("mec", groups=GROUPS, detector=TINY, loss=loss, frequency=FREQUENCY).eval()
    # three stages; of two boxes one shows class 1, the other nothing
    logits = torch.tensor([[-6.0, 3.0, -5.0], [-7.0, -6.0, -8.0]]) + torch.tensor([0.0, 0.5, -0.5]).view(3, 1, 1)
    outputs = StageOutputs(logits, torch.zeros(2, 4), (9, 9))
    for name in ("mec", "average_aligned", "sparse", "dynamic_unaligned", "average"):
        scores = detector.readouts()[name](outputs)
        assert scores[0].argmax() == 1 and scores[0, 1] > 0.9 and scores[1].argmax() == 3 and scores[1, :3].max() < 0.01


TINY = {"backbone": "torchvision/resnet18", "head_channels": 16, "mask_channels": 8, "masks": "none"}


def test_methods_from_settings() -> None:
    four = CategoryGroups.by_count([3, 50, 200, 900, 7], edges=(10, 100, 500))
    mec = build_detection_method("mec", groups=four, detector=TINY, overall_weight=0.3)
    assert mec.num_stages == 4 and mec.num_classes == 5
    assert [s.iou for s in mec.config.stages] == [0.5, 0.6, 0.7, 0.8]
    losses = [mec.heads.class_losses.loss(k) for k in range(4)]
    assert [loss.group for loss in losses] == [(0, 4), (1,), (2,), (3,)] and losses[0].overall_weight == 0.3
    baseline = build_detection_method("baseline", groups=GROUPS, detector=TINY)
    assert list(baseline.readouts()) == ["baseline", "stage_1", "stage_2", "stage_3"]
    compared = build_detection_method("baseline", groups=GROUPS, detector=TINY, comparisons={"dynamic": "dynamic"})
    assert list(compared.readouts())[:2] == ["baseline", "dynamic"]
    with pytest.raises(ConfigError, match="no detection method"):
        build_detection_method("moe", groups=GROUPS, detector=TINY)
    with pytest.raises(ConfigError, match="3 groups"):
        build_detection_method("mec", groups=GROUPS, detector={**TINY, "ious": (0.5, 0.6)})
    with pytest.raises(ConfigError, match="of 9 classes"):
        build_detection_method("mec", groups=GROUPS, detector={**TINY, "num_classes": 9})


def test_groups_without_objects_are_refused_with_edges_that_work() -> None:
    frequency = ClassFrequency(tuple("abc"), images=np.array([1, 3, 9]), instances=np.array([2, 4, 9]), num_images=9)
    groups = CategoryGroups.by_count(frequency.instances, (10, 100))
    with pytest.raises(ConfigError, match=r"group 'common' has an object .*: 3, 0, 0(.|\n)*such as \[4, 9\]"):
        build_detection_method("mec", groups=groups, detector=TINY, frequency=frequency)
    with pytest.raises(ConfigError, match="give every group a class"):
        make_multi_expert(tiny_cascade(), groups)
    fitting = CategoryGroups.by_count(frequency.instances, (4, 9))
    assert build_detection_method("mec", groups=fitting, detector=TINY, frequency=frequency).num_stages == 3


def test_a_detector_that_lacks_members_is_told_which() -> None:
    class Half(torch.nn.Module):
        num_classes = 3

        def set_class_losses(self, losses) -> None: ...

    with pytest.raises(ConfigError, match="Half is no MultiStageDetector: it lacks num_stages, set_ensembles"):
        _check_fit(Half(), GROUPS, None)  # through make_multi_expert, the tests' own checks of types come first


@pytest.mark.parametrize("loss", [None, "seesaw", {"name": "focal", "kind": "sigmoid"}])
def test_every_ensemble_without_parameters_serves_stages(loss) -> None:
    comparisons = {name: name for name in ("argmax", "softmax_threshold", "sparse", "dynamic", "norcal")}
    detector = build_detection_method(
        "mec", groups=GROUPS, detector=TINY, loss=loss, frequency=FREQUENCY, comparisons=comparisons
    ).eval()
    logits = torch.randn(3, 5, detector.heads.class_losses.num_logits)
    for name in comparisons:
        scores = detector.readouts()[name](StageOutputs(logits, torch.zeros(5, 4), (9, 9)))
        assert scores.shape == (5, 4) and torch.isfinite(scores).all(), name


@pytest.mark.parametrize(
    ("name", "message"),
    [("learned", "in a separate phase"), ("nested_chain", "not nested"), ("group_average", "cannot read")],
)
def test_ensembles_that_do_not_serve_stages_say_so(name, message) -> None:
    with pytest.raises(ConfigError, match=message):
        build_detection_method(
            "mec", groups=GROUPS, detector=TINY, loss="seesaw", frequency=FREQUENCY, comparisons={"other": name}
        )


def test_logits_without_a_background_are_refused() -> None:
    detector = make_multi_expert(tiny_cascade(), GROUPS)
    for ensemble in detector.ensembles.values():
        assert ensemble(torch.zeros(3, 5, 4)).shape == (5, 4)
    with pytest.raises(ConfigError, match=r"gives 3 logits, its loss takes 4; the background's is missing"):
        detector.ensembles["mec"](torch.zeros(3, 5, 3))
    loss = expert_losses(GROUPS)[0]
    with pytest.raises(ConfigError, match="gives 3 logits"):
        loss(torch.zeros(5, 3), torch.zeros(5, dtype=torch.long))
    with pytest.raises(ConfigError, match=r"gives 9 logits, its loss takes 4\n"):
        loss(torch.zeros(5, 9), torch.zeros(5, dtype=torch.long))
