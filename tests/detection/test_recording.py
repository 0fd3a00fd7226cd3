from pathlib import Path

import numpy as np
import pytest
import torch

from longtail.detection.recording import StageRecorder, read_recording, recorded_ids, rescore
from longtail.ensembles.dynamic import DynamicEnsemble
from longtail.errors import ConfigError, DataError
from longtail.frequency.groups import CategoryGroups
from longtail.mec.model import make_multi_expert
from longtail.metrics.detection_arrays import DetectionArrays

from ..detection.conftest import scene, tiny_cascade

GROUPS = CategoryGroups(("rare", "common", "frequent"), ((2,), (0,), (1,)))
SIZES = [(50, 40), (64, 100), (30, 30)]


@pytest.fixture
def detector():
    return make_multi_expert(tiny_cascade(), GROUPS).eval()


@pytest.fixture
def images():
    return [scene(96, 80, seed=1)[0], scene(64, 100, seed=2)[0], scene(60, 60, seed=3)[0]]


@pytest.mark.parametrize("per_file", [1, 2, 64])
def test_equals_the_detector(detector, images, per_file: int, tmp_path: Path) -> None:
    with StageRecorder(tmp_path / "val", per_file=per_file) as recorder:
        for k, image in enumerate(images):
            recorder.add([10 - k], detector.stage_outputs([image]), [SIZES[k]])
    assert len(list((tmp_path / "val").iterdir())) == -(-3 // per_file)
    ensembles = {"mec": detector.ensembles["mec"], "cold": DynamicEnsemble(GROUPS, temperature=0.1)}
    image_ids, found = zip(*rescore(tmp_path / "val", ensembles, detector.config.postprocess), strict=True)
    assert image_ids == (10, 9, 8) and recorded_ids(tmp_path / "val") == [10, 9, 8]
    for k, image in enumerate(images):
        own = detector.predict([image], [SIZES[k]])[0]
        again = found[k]["mec"]
        assert torch.equal(own.boxes, again.boxes) and torch.equal(own.scores, again.scores)
        assert torch.equal(own.labels, again.labels) and again.size == SIZES[k] and len(own)
    arrays = DetectionArrays.collect(image_ids, [own["cold"] for own in found])
    assert set(np.unique(arrays.image_ids)) <= {8, 9, 10} and len(arrays)


def test_half_precision_recording(detector, images, tmp_path: Path) -> None:
    with StageRecorder(tmp_path, dtype=torch.float16) as recorder:
        recorder.add([1], detector.stage_outputs(images[:1]), SIZES[:1])
    image = next(read_recording(tmp_path))
    exact = detector.stage_outputs(images[:1])[0]
    assert image.outputs.logits.dtype == torch.float32
    assert torch.allclose(image.outputs.logits, exact.logits, atol=1e-3)
    assert image.outputs.size == (96, 80) and image.original_size == SIZES[0]


def test_refusals(detector, images, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no recorded stages"):
        next(read_recording(tmp_path))
    with StageRecorder(tmp_path) as recorder:
        recorder.add([1], detector.stage_outputs(images[:1]), SIZES[:1])
    with pytest.raises(ConfigError, match="already"):
        StageRecorder(tmp_path)
    (tmp_path / "stages-00000.safetensors").write_bytes(b"nothing")
    with pytest.raises(DataError, match="stages-00000"):
        next(read_recording(tmp_path))
    with pytest.raises(DataError, match="stages-00000"):
        recorded_ids(tmp_path)
