"""Every configuration in configs/ is one that the engine takes."""

from pathlib import Path

import pytest

from longtail.training.config_file import from_dict, read_yaml, to_dict
from longtail.training.detection_config import DetectionConfig
from longtail.training.segmentation_config import SegmentationConfig

KINDS = {"segmentation": SegmentationConfig, "detection": DetectionConfig}
CONFIGS = sorted((Path(__file__).parents[2] / "configs").rglob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_config_is_read_whole_and_replays(path):
    settings = read_yaml(path)
    kind = KINDS[settings["task"]]
    config = from_dict(kind, settings)
    assert from_dict(kind, to_dict(config)) == config
    assert config.method.name in path.stem
    assert sum(config.iterations.values()) > 0


def test_there_are_configs():
    assert CONFIGS
