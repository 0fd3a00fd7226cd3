"""Every configuration in configs/ is one that the engine takes."""

from pathlib import Path
from runpy import run_path
from typing import Any

import numpy as np
import pytest

from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.models.detector import Detector
from longtail.models.segmenter import Segmenter
from longtail.settings import from_dict, read_yaml, to_dict
from longtail.training.detection_config import DetectionConfig
from longtail.training.segmentation_config import SegmentationConfig

KINDS = {"segmentation": SegmentationConfig, "detection": DetectionConfig}
CONFIGS = sorted((Path(__file__).parents[2] / "configs").rglob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: "-".join(p.with_suffix("").parts[-3:]))
def test_config_is_read_whole_and_replays(path):
    settings = read_yaml(path)
    kind = KINDS[settings["task"]]
    config = from_dict(kind, settings)
    assert from_dict(kind, to_dict(config)) == config
    assert sum(config.iterations.values()) + sum(config.epochs.values()) > 0


def test_configs_of_the_papers_are_those_of_the_catalogue():
    """``python scripts/write_configs.py`` brings them in step."""
    root = Path(__file__).parents[2]
    written = run_path(str(root / "scripts" / "write_configs.py"))["configs"]()
    there = {path.relative_to(root / "configs") for path in CONFIGS if path.parent.name != "evidence"}
    assert there == set(written)
    assert len(written) > 60
    for path, text in written.items():
        assert (root / "configs" / path).read_text(encoding="utf-8") == text, path


@pytest.mark.slow
@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: "-".join(p.with_suffix("").parts[-3:]))
def test_method_of_a_config_is_built(path):
    """On invented classes, since no data set is at hand, and without the encoder's weights."""
    settings = read_yaml(path)
    config: Any = from_dict(KINDS[settings["task"]], settings)
    counts = np.geomspace(100_000, 3, 20).astype(np.int64)
    names = tuple(f"class {i}" for i in range(20))
    frequency = ClassFrequency(names, images=counts, pixels=counts, instances=counts, num_images=200_000)
    record = {
        "classes": {"names": list(names), "palette": [[i, i, i] for i in range(20)]},
        "frequency": frequency.to_dict(),
    }
    if settings["task"] == "segmentation":
        groups = CategoryGroups.by_rank(frequency.counts("pixels"), (5, 5, 10))
        model = {"name": config.model.name, **config.model.options}
    else:
        groups = CategoryGroups.by_count(frequency.counts("instances"), config.data.groups.edges)
        model = {name: value for name, value in config.model.to_dict().items() if value is not None}
        model["backbone"].pop("weights", None)
        record["classes"]["ids"] = list(range(20))
    record["groups"] = {"names": list(groups.names), "members": [list(m) for m in groups.members]}
    made = (Segmenter if settings["task"] == "segmentation" else Detector)(
        model=model, method=config.method.to_dict(), **record
    )
    assert made.method.phases == tuple(config.iterations)
