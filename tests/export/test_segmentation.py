"""Exported files of every network give what the model gives, at sizes that they were not exported at."""

import json
from dataclasses import asdict

import pytest
import torch
from torch import nn

from longtail.errors import ConfigError, ExportError
from longtail.export.formats import read
from longtail.export.segmentation import SegmentationGraph
from longtail.export.write import export
from longtail.models.segmenter import Segmenter
from longtail.segmentation.models import build_model
from support.tiny_segmentation import FREQUENCY, GROUPS, NUM_CLASSES, tiny_model

MOBILE = {"encoder": "torchvision/mobilenet_v2", "encoder_options": {"width": 0.25}, "auxiliary": False}
NETWORKS = {
    "deeplabv3plus": {**MOBILE, "output_stride": 16, "channels": 16, "low_level_channels": 8},
    "pspnet": {**MOBILE, "output_stride": 16, "channels": 16},
    "ocrnet": {"encoder": "hrnet_w18_small", "channels": 16, "attention_channels": 8},
    "segformer": {"encoder": "torchvision/mobilenet_v2", "encoder_options": {"width": 0.25}, "channels": 16},
    "segformer_conv": {
        "name": "segformer", "encoder": "torchvision/mobilenet_v2", "projection": "conv", "channels": 16,
    },
    "smp": {"arch": "Unet", "encoder_name": "mobilenet_v2", "decoder_channels": [32, 16, 16, 8, 8]},
    "smp_upernet": {"name": "smp", "arch": "UPerNet", "encoder_name": "mobilenet_v2", "decoder_channels": 16},
    "torchvision": {"arch": "lraspp_mobilenet_v3_large"},
    "transformers": {
        "architecture": "segformer", "depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 16, 24],
        "num_attention_heads": [1, 1, 1, 1], "decoder_hidden_size": 16,
    },
    "transformers_upernet": {
        "name": "transformers", "architecture": "upernet", "hidden_size": 16, "pool_scales": [1, 2, 3],
        "use_auxiliary_head": False,
        "backbone_config": {
            "model_type": "convnext", "depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 16, 16],
            "out_features": ["stage1", "stage2", "stage3", "stage4"],
        },
    },
}  # fmt: skip


def network(name: str):
    settings = dict(NETWORKS[name])
    model = build_model(settings.pop("name", name), NUM_CLASSES, **settings)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):  # so that a norm that is left out shows
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return model


def segmenter(model=None, method=None, **options) -> Segmenter:
    made = Segmenter(
        model={"name": "own"},
        method=method or {"name": "medoe"},
        classes={"names": list("abcde"), "palette": [[i * 20, 0, 0] for i in range(NUM_CLASSES)]},
        groups=asdict(GROUPS),
        frequency=FREQUENCY.to_dict(),
        network=model or tiny_model(),
        **options,
    )
    for name, parameter in made.named_parameters():
        if "ensemble" in name:
            nn.init.uniform_(parameter, -0.5, 0.5)
    return made


@pytest.mark.parametrize("name", NETWORKS)
def test_medoe_of_any_network_as_torchscript(name, tmp_path):
    found = export(segmenter(network(name)), tmp_path / "m.pt", "torchscript")
    assert len(found.differences) == 2
    assert max(found.differences.values()) < 2e-3


@pytest.mark.parametrize("kind", ["onnx", "torch-export"])
@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n == "smp" else pytest.mark.slow) for n in NETWORKS])
def test_medoe_of_any_network_for_any_size(name, kind, tmp_path):
    path = tmp_path / ("m.onnx" if kind == "onnx" else "m.pt2")
    found = export(segmenter(network(name)), path, kind, labels_only=kind == "onnx")
    assert max(found.differences.values()) < 2e-3


METHODS = [
    {"name": "baseline"},
    {"name": "baseline", "loss": "focal"},
    {"name": "mcn", "ensemble": "nested_chain"},
    {"name": "medoe", "ensemble": "argmax"},
    {"name": "medoe", "ensemble": "softmax_threshold"},
    {"name": "medoe", "ensemble": "group_average"},
    {"name": "model_ensemble", "members": 2},
]


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("labels_only", [True, False])
def test_every_method(method, labels_only, tmp_path):
    found = export(segmenter(method=method), tmp_path / "m.pt2", "torch-export", labels_only=labels_only)
    assert max(found.differences.values()) < 1e-5


def test_labels_are_the_methods(tmp_path):
    model = segmenter()
    export(model, tmp_path / "m.onnx", labels_only=True)
    image = torch.randn(3, 3, 61, 47)
    (labels,) = read(tmp_path / "m.onnx", "onnx")(image)
    assert labels.shape == (3, 61, 47)
    assert labels.unique().numel() > 2
    assert (labels == model.eval().method.labels(image)).float().mean() > 0.999


def test_pixels_are_normalised_in_the_file(tmp_path):
    model = segmenter(input={"mean": [0.2, 0.4, 0.6], "std": [0.1, 0.2, 0.3]})
    export(model, tmp_path / "m.onnx", normalise=True, size=(24, 40), batch=1)
    pixels = torch.randint(0, 256, (1, 3, 24, 40), dtype=torch.uint8)
    (found,) = read(tmp_path / "m.onnx", "onnx")(pixels)
    expected = model.eval()(model.preprocess(pixels[0])[None])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_a_file_says_what_it_is(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    export(segmenter(), tmp_path / "m.onnx", labels_only=True)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    (image,), (labels,) = session.get_inputs(), session.get_outputs()
    assert (image.name, image.shape) == ("image", ["batch", 3, "height", "width"])
    assert labels.name == "labels"
    facts = json.loads(session.get_modelmeta().custom_metadata_map["longtail"])
    assert facts["classes"] == list("abcde")
    assert facts["gives"] == ["labels"]
    assert facts["input"]["mean"] == segmenter().input["mean"]


def test_fixed_sizes_keep_the_folded_decoders(tmp_path):
    found = export(segmenter(network("pspnet")), tmp_path / "m.pt2", "torch-export", size=(64, 96), batch=2)
    assert list(found.differences) == [(2, 64, 96)]
    assert max(found.differences.values()) < 2e-3

    def forward(self, decoded):
        return nn.functional.interpolate(decoded[:, :NUM_CLASSES], (80, 112))


def test_a_file_that_differs_is_not_kept(tmp_path, monkeypatch):
    model = segmenter(method={"name": "baseline"})
    monkeypatch.setattr(SegmentationGraph, "difference", lambda *_: 0.1)
    with pytest.raises(ExportError, match=r"differs from the model by 0\.1 on 1 image of 203 x 131"):
        export(model, tmp_path / "m.pt", "torchscript")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"name it .*m\.onnx"):
        export(segmenter(), tmp_path / "m.pt", "onnx")
    model = segmenter(method={"name": "baseline"})
    model.method.model.expert.head = _ReadsValues()
    with pytest.raises(ExportError, match="cannot be exported as torch-export"):
        export(model, tmp_path / "m.pt2", "torch-export")


class _ReadsValues(nn.Module):
    """Branches on the values of an image."""

    def forward(self, decoded):
        return decoded[:, :NUM_CLASSES] * (2 if decoded.sum() > 0 else 3)
