"""Every loss by its name in a cascade: plain, and as the base of MEC."""

import numpy as np
import pytest
import torch

from longtail.errors import ConfigError
from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.losses.build import LOSSES, build_loss
from longtail.losses.label_space import LabelSpace
from longtail.mec.losses import MultiExpertLoss
from longtail.models.detection_methods import build_detection_method

from ..detection.conftest import scene

GROUPS = CategoryGroups(("rare", "common", "frequent"), ((2,), (0,), (1,)))
FREQUENCY = ClassFrequency(
    tuple("abc"), images=np.array([15, 200, 1]), instances=np.array([30, 900, 1]), num_images=300
)
DETECTOR = {
    "backbone": {"name": "torchvision/mobilenet_v2", "channels": 8, "frozen_stages": 0},
    "masks": "none",
    "head_channels": 16,
    "samples": 16,
    "proposals": {"anchor_sizes": [8, 16, 32, 64, 128], "kept_train": 40, "kept_test": 20},
    "postprocess": {"max_detections": 10},
}


def build(name: str, loss, **options):
    torch.manual_seed(0)
    return build_detection_method(
        name,
        groups=GROUPS,
        frequency=FREQUENCY,
        detector=DETECTOR,
        loss=loss,
        comparisons={"mixed": "dynamic"},
        **options,
    )


@pytest.fixture(scope="module")
def batch():
    samples = [scene(64, 64, seed=1), scene(64, 80, seed=2, count=2)]
    return [s[0] for s in samples], [{k: v for k, v in s[1].items() if k != "masks"} for s in samples]


@pytest.mark.parametrize("method", ["baseline", "mec"])
@pytest.mark.parametrize("loss", LOSSES.names())
def test_a_cascade_trains_and_reads_with_every_loss(loss, method, batch):
    detector = build(method, loss)
    of_stage = build_loss(loss, LabelSpace.of_boxes(FREQUENCY))
    classifier = detector.heads.stages[0].classifier
    assert classifier.weight.shape[0] == of_stage.num_logits
    if of_stage.initial_bias is not None:
        torch.testing.assert_close(classifier.bias.data, of_stage.initial_bias)
    found = detector.losses(*batch)
    assert all(torch.isfinite(value) and value > 0 for name, value in found.items() if name.endswith("_class"))
    sum(found.values()).backward()
    assert all(torch.isfinite(stage.classifier.weight.grad).all() for stage in detector.heads.stages)
    again = build(method, loss).eval()
    again.load_state_dict(detector.state_dict())
    detector.eval()
    ours, theirs = detector.predict_readouts(batch[0]), again.predict_readouts(batch[0])
    assert next(iter(ours)) == method and "mixed" in ours
    for name, images in ours.items():
        for one, other in zip(images, theirs[name], strict=True):
            assert torch.equal(one.scores, other.scores) and torch.equal(one.labels, other.labels)
    outputs = detector.stage_outputs(batch[0])[0]
    for name, readout in detector.readouts().items():
        probabilities = readout(outputs)
        assert probabilities.shape == (len(outputs.boxes), 4), name
        assert (probabilities >= 0).all() and (probabilities <= 1 + 1e-6).all()


def test_every_stage_has_a_loss_of_its_own():
    losses = [build("mec", "seesaw").heads.class_losses.loss(k) for k in range(3)]
    assert all(isinstance(loss, MultiExpertLoss) for loss in losses)
    assert len({id(loss.loss) for loss in losses}) == 3 and losses[0].loss.ignore_index == -100


def test_cross_entropy_by_name_is_the_default(batch):
    found = []
    for loss in (None, "cross_entropy"):
        detector = build("mec", loss)
        torch.manual_seed(7)
        found.append(detector.losses(*batch))
    for name, value in found[0].items():
        assert torch.equal(value, found[1][name]), name


def test_refusals():
    with pytest.raises(ConfigError, match="without a frequency"):
        build_detection_method("mec", groups=GROUPS, detector=DETECTOR, loss="focal")
    with pytest.raises(ConfigError, match="no option 'base'"):
        build("mec", "focal", base=lambda: None)
    with pytest.raises(ConfigError, match="did you mean 'focal'"):
        build("baseline", "foca")
    fewer = ClassFrequency(("a", "b"), images=np.ones(2), instances=np.ones(2))
    with pytest.raises(ConfigError, match="is for 3 classes"):
        build_detection_method("baseline", groups=GROUPS, frequency=fewer, detector=DETECTOR, loss="focal")
