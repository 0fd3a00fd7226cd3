import json
import subprocess
import sys

import pytest

from longtail.detection.config import CascadeConfig, PostprocessConfig, ProposalConfig, stages
from longtail.errors import ConfigError
from longtail.settings import from_dict, to_dict


@pytest.mark.parametrize("dialect", ["mmdetection", "detectron2"])
def test_json_and_back(dialect):
    config = getattr(CascadeConfig, dialect)(7, (0.5, 0.6, 0.7, 0.8), samples=64)
    assert from_dict(CascadeConfig, json.loads(json.dumps(to_dict(config)))) == config


def test_changes_as_dataclasses_or_dicts():
    changed = [
        CascadeConfig.mmdetection(
            3, postprocess=PostprocessConfig(max_detections=9), proposals=ProposalConfig(samples=8)
        ),
        CascadeConfig.mmdetection(3, postprocess={"max_detections": 9}, proposals={"samples": 8}),
    ]
    assert changed[0] == changed[1] != CascadeConfig.mmdetection(3)
    assert CascadeConfig.mmdetection(3, stages=stages((0.4,))).num_stages == 1


@pytest.mark.parametrize(
    "wrong",
    [{"smaples": 3}, {"postprocess": {"nms": 0.5}}, {"proposals": {"anchors": ()}}, {"stages": [{"overlap": 1}]}],
)
def test_unknown_settings_are_refused(wrong):
    with pytest.raises(ConfigError, match="unknown setting"):
        CascadeConfig.mmdetection(3, **wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"average": "logit"}, "average is 'logit'\n  fix: did you mean 'logits'"),
        ({"masks": "all"}, "masks is 'all'"),
        ({"samples": "many"}, "samples is 'many'"),
        ({"resample": "perhaps"}, "resample is 'perhaps'"),
        ({"proposals": {"nms_iou": "high"}}, "proposals.nms_iou is 'high'"),
        ({"stages": [{"iou": 0.5, "box_stds": [0.1]}]}, "stages: box_stds is .*a list of 4"),
    ],
)
def test_values_that_do_not_fit_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        CascadeConfig.mmdetection(3, **wrong)


def test_settings_need_no_torch():
    code = "import sys, longtail.detection.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
