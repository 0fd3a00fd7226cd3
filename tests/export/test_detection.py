"""Exported detectors give the boxes, labels and masks of the detector, a fixed number of them."""

import pytest
import torch
from torch import nn

from longtail.detection.run_lengths import encode_masks
from longtail.errors import ConfigError, ExportError
from longtail.export.cascade import CascadeGraph
from longtail.export.formats import read
from longtail.export.write import export
from longtail.models.detector import Detector
from support.tiny_detection import detector_arguments


def detector(**model) -> Detector:
    arguments = detector_arguments()
    arguments["model"] |= model
    made = Detector(**arguments).eval()
    generator = torch.Generator().manual_seed(0)
    for name, parameter in made.named_parameters():
        if "stages" in name or "proposals" in name or "mask_heads" in name:  # so that scores and boxes differ
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return made


def image(height: int = 75, width: int = 98) -> torch.Tensor:
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
@pytest.mark.parametrize("name", ["cascade", "htc"])
def test_the_graph_is_the_detector(name):
    model = detector(name=name)
    picture = image()
    boxes, scores, labels, masks = CascadeGraph(model, top_k=14).eval()(picture)
    (expected,) = model([picture[0]])
    number = len(expected)
    assert number == 10  # the detector's own limit
    torch.testing.assert_close(scores[:number], expected.scores)
    torch.testing.assert_close(boxes[:number], expected.boxes, rtol=1e-4, atol=1e-3)
    assert torch.equal(labels[:number], expected.labels)
    assert masks.shape == (14, 28, 28)
    assert encode_masks(masks[:number], boxes[:number], (75, 98)) == expected.masks


@torch.no_grad()
def test_missing_detections_are_marked():
    model = detector(postprocess={"score_threshold": 0.9})
    boxes, scores, labels, masks = CascadeGraph(model, top_k=5).eval()(image())
    assert labels.tolist() == [-1] * 5
    assert not scores.any() and not boxes.any() and not masks.any()


def test_torchscript_of_any_size(tmp_path):
    model = detector()
    found = export(model, tmp_path / "d.pt", "torchscript", top_k=10)
    assert list(found.differences) == [(1, 203, 131), (1, 128, 192)]
    assert max(found.differences.values()) < 1e-4
    boxes, scores, labels, masks = read(tmp_path / "d.pt", "torchscript")(image())
    (expected,) = model([image()[0]])
    torch.testing.assert_close(scores, expected.scores)
    assert boxes.shape == (10, 4) and masks.shape == (10, 28, 28) and labels.dtype == torch.int64


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "suffix"), [("onnx", ".onnx"), ("torch-export", ".pt2")])
@pytest.mark.parametrize("size", [None, (96, 128)])
def test_other_formats(kind, suffix, size, tmp_path):
    found = export(detector(masks="none"), tmp_path / f"d{suffix}", kind, top_k=10, size=size)
    assert max(found.differences.values()) < 1e-4


def test_a_difference_is_seen():
    model = detector()
    graph = CascadeGraph(model, top_k=10).eval()
    with torch.no_grad():
        found = list(graph(image()))
        assert graph.difference(image(), found) < 1e-6
        assert graph.difference(image(), [found[0] + 9.8, *found[1:]]) == pytest.approx(0.1, rel=0.01)
        assert graph.difference(image(), [found[0], found[1], (found[2] + 1) % 6, found[3]]) > 0.01
        assert graph.difference(image(), [*found[:3], found[3] + 0.2]) == pytest.approx(0.2, rel=0.01)


def test_what_cannot_be_exported_is_refused_by_name(tmp_path):
    model = detector()
    with pytest.raises(ConfigError, match="batch 2 of a detector"):
        export(model, tmp_path / "d.pt", "torchscript", batch=2)
    with pytest.raises(ConfigError, match="labels_only of a detector"):
        export(model, tmp_path / "d.pt", "torchscript", labels_only=True)
    model.method = nn.Identity()
    with pytest.raises(ExportError, match="a detector of Identity cannot be exported"):
        export(model, tmp_path / "d.pt", "torchscript")
