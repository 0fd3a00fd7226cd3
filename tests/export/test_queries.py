"""Exported query detectors give the boxes, labels and masks of the detector."""

import pytest
import torch

from longtail.detection.config import PostprocessConfig
from longtail.detection.postprocess import read_stages
from longtail.export.formats import read
from longtail.export.queries import QueryGraph
from longtail.export.write import export
from longtail.models.detector import Detector
from support.tiny_detection import detector_arguments
from support.tiny_queries import tiny_model

pytest.importorskip("transformers")
BOXES = ["rt_detr", "rt_detr_v2", "d_fine", "deformable_detr", "detr", "conditional_detr"]
MASKS = ["mask2former", "maskformer"]


@pytest.fixture
def detector(tmp_path):
    """A detector of a name, with settings of the model; its queries differ, so that none ties with another one."""

    def make(name: str, **model) -> Detector:
        tiny_model(name).save_pretrained(tmp_path / name)
        arguments = detector_arguments()
        arguments["model"] = {"name": f"transformers:{tmp_path / name}", "separate_classifiers": True, **model}
        made = Detector(**arguments).eval()
        generator = torch.Generator().manual_seed(0)
        for parameter in made.parameters():
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
        return made

    return make


def image(height: int = 75, width: int = 98) -> torch.Tensor:
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
@pytest.mark.parametrize("stretched", [False, True])
@pytest.mark.parametrize("name", BOXES)
def test_the_graph_is_the_detector(name, stretched, detector):
    model = detector(name, **({"image_size": [64, 64]} if stretched else {}))
    picture = image()
    (expected,) = model([picture[0]])
    number = len(expected)
    assert number
    boxes, scores, labels = QueryGraph(model, top_k=number + 2).eval()(picture)
    torch.testing.assert_close(scores[:number], expected.scores)
    torch.testing.assert_close(boxes[:number], expected.boxes, rtol=1e-4, atol=1e-3)
    assert torch.equal(labels[:number], expected.labels)


@torch.no_grad()
@pytest.mark.parametrize("name", MASKS)
def test_masks_are_those_of_the_padded_image(name, detector):
    model, picture = detector(name), image()
    _, scores, _, masks = QueryGraph(model, top_k=5).eval()(picture)
    (outputs,), maps = model.method.run_stages(*model.method.input_of(picture), [(75, 98)])
    expected = read_stages(outputs, next(iter(model.method.readouts().values())), model.method.postprocess)
    torch.testing.assert_close(scores, expected.scores[:5])
    torch.testing.assert_close(masks, maps[0, expected.rows[:5]].sigmoid())
    assert masks.shape == (5, 24, 32)  # a quarter of 96 x 128


@torch.no_grad()
def test_detections_follow_the_settings(detector):
    model = detector("rt_detr")
    (expected,) = model([image()[0]])
    middle = float(expected.scores.median())
    model.method.set_postprocess(PostprocessConfig(score_threshold=middle, nms_iou=0.3, max_detections=100))
    (expected,) = model([image()[0]])
    _, scores, labels = QueryGraph(model, top_k=40).eval()(image())
    number = len(expected)
    assert 0 < number < 40
    torch.testing.assert_close(scores[:number], expected.scores)
    assert labels[:number].tolist() == expected.labels.tolist() and set(labels[number:].tolist()) == {-1}


def test_a_difference_is_seen(detector):
    graph = QueryGraph(detector("maskformer"), top_k=5).eval()
    with torch.no_grad():
        found = list(graph(image()))
        assert graph.difference(image(), found) < 1e-6
        assert graph.difference(image(), [*found[:3], found[3] + 0.2]) > 0.1
        assert graph.difference(image(), [found[0] + 9.8, *found[1:]]) > 0.05


def test_torch_export_of_any_size(detector, tmp_path):
    model = detector("rt_detr", image_size=[64, 64])
    found = export(model, tmp_path / "d.pt2", "torch-export", top_k=10)
    assert list(found.differences) == [(1, 203, 131), (1, 128, 192)]
    boxes, scores, _ = read(tmp_path / "d.pt2", "torch-export")(image())
    (expected,) = model([image()[0]])
    torch.testing.assert_close(scores, expected.scores[:10])
    torch.testing.assert_close(boxes, expected.boxes[:10])


@pytest.mark.slow
@pytest.mark.parametrize("size", [None, (96, 128)])
@pytest.mark.parametrize("name", BOXES)
def test_onnx_of_boxes(name, size, detector, tmp_path):
    # of any size where the network itself always reads the same size
    model = detector(name, **({} if size else {"image_size": [64, 64]}))
    found = export(model, tmp_path / "d.onnx", top_k=10, size=size)
    assert max(found.differences.values()) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", MASKS)
def test_onnx_of_masks(name, detector, tmp_path):
    found = export(detector(name), tmp_path / "d.onnx", top_k=10, size=(96, 128))
    assert max(found.differences.values()) < 1e-3
