"""Query detectors from settings: types, folders, weights, and another backbone."""

import json
import shutil

import numpy as np
import pytest
import torch

pytest.importorskip("scipy")
pytest.importorskip("transformers")

from longtail.detection.build import build_staged_detector
from longtail.detection.queries.build import build_query_detector, source_settings
from longtail.errors import CheckpointError, ConfigError
from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.losses.focal import FocalLoss
from longtail.models.detection_methods import build_detection_method
from longtail.models.detector import Detector
from support.labels import boxes
from support.tiny_queries import CLASSES, LAYERS, QUERIES, tiny_batch, tiny_model

SMALL = {
    "d_model": 16,
    "encoder_hidden_dim": 16,
    "encoder_ffn_dim": 16,
    "decoder_in_channels": [16, 16, 16],
    "decoder_ffn_dim": 16,
    "decoder_layers": 3,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "num_queries": QUERIES,
}
GROUPS = CategoryGroups(("rare", "common", "frequent"), ((2,), (0, 3), (1, 4)))


def counts(instances: list[int]) -> ClassFrequency:
    return ClassFrequency(tuple("abcde"), images=np.array([9, 9, 1, 9, 9]), instances=np.array(instances))


@pytest.fixture
def folder(tmp_path):
    """A model of transformers as its users have it."""
    tiny_model("rt_detr", seed=3).save_pretrained(tmp_path / "theirs")
    return tmp_path / "theirs"


def test_weights_of_a_folder_are_the_model_s(folder) -> None:
    detector = build_query_detector(str(folder), CLASSES, weights="pretrained")
    wanted = tiny_model("rt_detr", seed=3).state_dict()
    assert detector.model.state_dict().keys() == wanted.keys()
    assert all(torch.equal(value, wanted[name]) for name, value in detector.model.state_dict().items())
    again = build_query_detector(str(folder), CLASSES, weights=str(folder / "model.safetensors"))
    assert all(torch.equal(value, wanted[name]) for name, value in again.model.state_dict().items())
    random = build_query_detector(str(folder), CLASSES)
    assert not torch.equal(random.model.model.enc_output[0].weight, detector.model.model.enc_output[0].weight)


def test_other_classes_have_new_classifiers(folder) -> None:
    detector = build_query_detector(str(folder), CLASSES + 2, weights="pretrained")
    assert detector.num_classes == CLASSES + 2 and detector.num_stages == LAYERS
    assert detector.model.model.decoder.class_embed[0].out_features == CLASSES + 2
    wanted = tiny_model("rt_detr", seed=3)
    assert torch.equal(detector.model.model.enc_output[0].weight, wanted.model.enc_output[0].weight)


def test_weights_of_another_network_are_refused(folder) -> None:
    with pytest.raises(CheckpointError, match=r"does not fit the detector: .* parameters missing or of another shape"):
        build_query_detector(str(folder), CLASSES, weights="pretrained", encoder_ffn_dim=24)


def test_losses_between_layers_are_switched_on(tmp_path) -> None:
    model = tiny_model("detr")
    model.config.auxiliary_loss = False  # as DETR's own checkpoints have it
    model.save_pretrained(tmp_path)
    assert build_query_detector(str(tmp_path), CLASSES).model.config.auxiliary_loss is True


def test_a_run_is_loaded_without_the_folder_it_began_with(folder, tmp_path) -> None:
    model = source_settings(str(folder), CLASSES, {"num_denoising": 4, "image_size": [64, 64]}, "pretrained")
    assert model["name"] == "transformers:rt_detr" and model["num_denoising"] == 4 and model["weights"] == str(folder)
    frequency = counts([9, 99, 1, 9, 300])
    detector = Detector(
        model=model,
        method={"name": "mec", "overall_weight": 0.5},
        classes={"names": list("abcde"), "palette": [[0, 0, 0]] * CLASSES},
        groups={"names": list(GROUPS.names), "members": [list(m) for m in GROUPS.members]},
        frequency=frequency.to_dict(),
        input={"short_side": 64},
    ).eval()
    detector.save_run(tmp_path / "run")
    shutil.rmtree(folder)
    again = Detector.from_pretrained(tmp_path / "run")
    images, _ = tiny_batch()
    for a, b in zip(detector.method.predict(images), again.method.predict(images), strict=True):
        assert torch.equal(a.scores, b.scores) and torch.equal(a.boxes, b.boxes)
    assert "weights" in json.loads((tmp_path / "run" / "config.json").read_text())["model"]


@pytest.mark.parametrize("kind", ["rt_detr", "deformable_detr", "detr"])
def test_another_backbone(kind: str) -> None:
    small = SMALL if kind == "rt_detr" else {
        "d_model": 32, "encoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "decoder_layers": 3,
        "encoder_attention_heads": 2, "decoder_attention_heads": 2, "num_queries": QUERIES,
    }  # fmt: skip
    detector = build_staged_detector(
        f"transformers:{kind}",
        num_classes=CLASSES,
        backbone={"name": "torchvision/mobilenet_v2", "norm": "frozen", "frozen_stages": 2},
        **small,
    )
    images, targets = tiny_batch()
    sum(detector.train().losses(images, targets).values()).backward()
    extractor = detector.model.model.backbone.model.extractor
    assert not extractor.features[1].training and extractor.features[1].conv[0][0].weight.grad is None
    assert extractor.features[18][0].weight.grad.abs().sum() > 0
    assert detector.eval().stage_outputs(images)[0].logits.shape[:2] == (LAYERS, QUERIES)


def test_images_are_stretched_where_asked() -> None:
    detector = build_query_detector("rt_detr", CLASSES, image_size=(64, 64), postprocess={"max_detections": 5}, **SMALL)
    images, targets = tiny_batch()
    seen = []
    detector.model.register_forward_pre_hook(lambda _m, _a, given: seen.append(given), with_kwargs=True)
    detector.train().losses(images, targets)
    assert seen[0]["pixel_values"].shape == (3, 3, 64, 64)
    box = seen[0]["labels"][0]["boxes"][0]  # (4, 4) to (40, 30) of 96 x 64 pixels
    assert torch.allclose(box, torch.tensor([22 / 96, 17 / 64, 36 / 96, 26 / 64]))
    found = detector.eval().predict(images, [(640, 960), (96, 64), (64, 64)])
    assert len(found[0]) <= 5 and found[0].boxes.max() > 96


def test_own_losses_stay() -> None:
    given = {"name": "transformers:rt_detr", **SMALL}
    frequency = counts([9] * 5)
    for method in ("baseline", "mec"):
        with pytest.raises(ConfigError, match="keeps its own classification loss"):
            build_detection_method(method, groups=GROUPS, detector=given, frequency=frequency, loss="focal")
    with pytest.raises(ConfigError, match="keeps its own classification loss"):
        build_staged_detector(**given, num_classes=CLASSES, losses=FocalLoss(boxes(CLASSES)))


def test_stages_of_the_method() -> None:
    given = {"name": "transformers:rt_detr", **SMALL}
    two = CategoryGroups(("rare", "frequent"), ((2,), (0, 1, 3, 4)))
    with pytest.raises(ConfigError, match=r"2 groups .* for 3 stages have no even parts"):
        build_detection_method("mec", groups=two, detector=given)
    method = build_detection_method("mec", groups=two, detector=given, stage_to_group=[None, 0, 1])
    assert [len(loss.group) for loss in method.class_losses] == [0, 1, 4]


@pytest.mark.parametrize(
    ("source", "options", "said"),
    [
        ("rt_deter", {}, "there is no detector transformers:rt_deter\n  fix: did you mean 'rt_detr'"),
        ("rt_detr", {"num_querys": 5}, "rt_detr has no setting 'num_querys'\n  fix: did you mean 'num_queries'"),
        ("rt_detr", {"weights": "pretrained"}, "which is a type of models"),
        ("mask2former", {"backbone": "torchvision/resnet18"}, "mask2former takes its own backbone alone"),
    ],
)
def test_refusals(source: str, options: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build_query_detector(source, 5, **options)


def test_a_folder_of_another_model_is_refused(tmp_path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ConfigError, match="is a bert model, no detector that longtail can wrap"):
        build_query_detector(str(tmp_path), 5)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ConfigError, match=r"has no config\.json"):
        build_query_detector(str(tmp_path), 5)
