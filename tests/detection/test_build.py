import pytest
import torch

from longtail.detection.build import build_detector
from longtail.detection.config import ProposalConfig
from longtail.errors import ConfigError

from .conftest import TINY, scene

BACKBONE = {"backbone": {"name": "test_resnet", "channels": 16, "frozen_stages": 0}}


@pytest.mark.parametrize("name", ["cascade", "htc"])
@pytest.mark.parametrize("classifier", ["linear", "cosine"])
def test_from_settings_alone(name, classifier):
    detector = build_detector(name, num_classes=3, classifier=classifier, ious=[0.5, 0.6, 0.7, 0.8], **BACKBONE, **TINY)
    image, target = scene()
    assert "stage_4_class" in detector.losses([image], [target])
    detector.eval()
    assert detector([image])[0].size == (96, 96)


def test_as_many_outputs_as_classes_only():
    detector = build_detector(num_classes=1203, masks="none", **BACKBONE)
    stage = detector.heads.stages[0]
    assert stage.classifier.out_features == 1204 and stage.regressor.out_features == 4


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "faster"},
        {"dialect": "mmdet"},
        {"semantic_classes": 4},
        {"smaples": 3},
        {"classifier": "cosin"},
        {"proposals": ProposalConfig(anchor_sizes=(32, 64))},
        {"backbone": "resnet5"},
        {"backbone": {"name": "test_resnet", "chanels": 16}},
    ],
)
def test_unknown_settings_are_refused(wrong):
    with pytest.raises(ConfigError):
        build_detector(**{"num_classes": 3, **BACKBONE, **wrong})


def test_a_checkpoint_is_all_there_is():
    first, second = (build_detector(num_classes=3, **BACKBONE, **TINY) for _ in range(2))
    second.load_state_dict(first.state_dict())
    image = [scene()[0]]
    a, b = first.eval().predict(image)[0], second.eval().predict(image)[0]
    assert torch.equal(a.scores, b.scores) and a.masks == b.masks
