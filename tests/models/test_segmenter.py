import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

from longtail import CategoryGroups, EncoderDecoder, LongTailScenes, count_pixels
from longtail.errors import CheckpointError, ConfigError
from longtail.models.detector import Detector
from longtail.models.segmenter import Segmenter
from longtail.models.weights_file import load_weights
from longtail.pixels import Upsampling, map_labels
from longtail.segmentation.models import build_model
from longtail.segmentation.tiling import expert_maps
from longtail.transforms import segmentation_eval
from support.tiny_segmentation import FREQUENCY, GROUPS, NUM_CLASSES, Decoder, Encoder, tiny_model

MODEL = {
    "name": "deeplabv3plus",
    "encoder": "torchvision/mobilenet_v2",
    "output_stride": 16,
    "channels": 16,
    "low_level_channels": 8,
    "auxiliary": False,
}
CLASSES = {"names": list("abcde"), "palette": [[i * 20, 0, 0] for i in range(NUM_CLASSES)]}


def build(model=None, method=None, **options) -> Segmenter:
    return Segmenter(
        model=MODEL if model is None else model,
        method=method or {"name": "medoe"},
        classes=CLASSES,
        groups=asdict(GROUPS),
        frequency=FREQUENCY.to_dict(),
        **options,
    )


def picture(h: int = 37, w: int = 50) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (h, w, 3), dtype=np.uint8)


def test_all_kinds_of_pictures_give_the_same_labels_at_their_size(tmp_path):
    segmenter = build()
    with torch.no_grad():
        for layer in segmenter.modules():  # as sure of its labels as a trained one
            if isinstance(layer, torch.nn.Conv2d) and layer.out_channels == segmenter.method.num_classes:
                layer.weight *= 1000
    pixels = picture()
    Image.fromarray(pixels).save(tmp_path / "p.png")
    labels = segmenter.predict(pixels)
    assert labels.shape == (37, 50)
    assert labels.dtype == torch.int64
    for same in (
        Image.fromarray(pixels),
        torch.from_numpy(pixels).movedim(-1, 0),
        tmp_path / "p.png",
        str(tmp_path / "p.png"),
    ):
        assert torch.equal(segmenter.predict(same), labels)
    assert segmenter.predict(pixels, window=(32, 32)).shape == (37, 50)
    # windows go by probabilities of the whole map, the plain way by blocks of it: equal but for rounding at a tie
    assert torch.equal(segmenter.predict(pixels, window=(64, 64)), labels)


def test_short_side_scales_the_input_and_keeps_the_labels_size():
    segmenter = build(input={"short_side": 64})
    assert segmenter.preprocess(torch.from_numpy(picture()).movedim(-1, 0)).shape == (3, 64, 86)
    assert segmenter.predict(picture()).shape == (37, 50)


def test_a_fixed_input_size_keeps_the_labels_size():
    segmenter = build(input={"size": [64, 32]})
    assert segmenter.preprocess(torch.from_numpy(picture()).movedim(-1, 0)).shape == (3, 64, 32)
    assert segmenter.predict(picture()).shape == (37, 50)


@pytest.mark.parametrize("form", ["run", "hub"])
def test_round_trip(tmp_path, form):
    segmenter = build(method={"name": "medoe", "ensemble": {"name": "learned", "bias": "shared"}, "alpha": 0.1})
    torch.nn.init.normal_(segmenter.method.ensemble.raw_weight)
    if form == "run":
        segmenter.save_run(tmp_path)
        assert {p.name for p in tmp_path.iterdir()} == {"best.safetensors", "config.json"}
    else:
        segmenter.save_pretrained(tmp_path)
    loaded = Segmenter.from_pretrained(tmp_path)
    assert not loaded.training
    assert loaded.settings == segmenter.settings
    assert loaded.groups == segmenter.groups
    for key, value in segmenter.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
    assert loaded.fingerprint() == segmenter.fingerprint()
    assert torch.equal(loaded.predict(picture()), segmenter.predict(picture()))


def test_initial_weights_file_is_not_needed_again(tmp_path):
    encoder = build_model(**MODEL, num_classes=NUM_CLASSES).encoder
    torch.save(encoder.state_dict(), tmp_path / "encoder.pth")
    segmenter = build(model={**MODEL, "weights": str(tmp_path / "encoder.pth")})
    segmenter.save_run(tmp_path / "run")
    (tmp_path / "encoder.pth").unlink()
    assert Segmenter.from_pretrained(tmp_path / "run").fingerprint() == segmenter.fingerprint()
    assert torch.equal(Segmenter.from_pretrained(tmp_path / "run").predict(picture()), segmenter.predict(picture()))


def test_own_network(tmp_path):
    segmenter = build(model={"name": "mine"}, network=tiny_model())
    segmenter.save_run(tmp_path)
    loaded = Segmenter.from_pretrained(tmp_path, network=tiny_model(seed=9))
    assert torch.equal(loaded.predict(picture()), segmenter.predict(picture()))
    with pytest.raises(ConfigError, match="mine"):
        Segmenter.from_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"is a segmentation model.*\n.*longtail\.models\.segmenter\.Segmenter"):
        Detector.from_pretrained(tmp_path)


def test_foreign_code_is_refused(tmp_path):
    build().save_run(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["model"] = {"name": "os.system", "command": "true"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"asks to run os\.system"):
        Segmenter.from_pretrained(tmp_path)


def test_broken_folders(tmp_path):
    with pytest.raises(CheckpointError, match="there is no folder"):
        Segmenter.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"cannot read a configuration .*config\.json"):
        Segmenter.from_pretrained(tmp_path)
    build().save_run(tmp_path)
    (tmp_path / "best.safetensors").write_bytes(b"not a weight file")
    with pytest.raises(CheckpointError, match=r"cannot read weights from .*best\.safetensors"):
        Segmenter.from_pretrained(tmp_path)
    torch.save(build().state_dict(), tmp_path / "best.safetensors")
    with pytest.raises(CheckpointError, match=r"is no safetensors file, but one of torch\.save\n.*save_file"):
        Segmenter.from_pretrained(tmp_path)
    (tmp_path / "best.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"has no best\.safetensors"):
        Segmenter.from_pretrained(tmp_path)


def test_weights_of_another_model(tmp_path):
    build().save_run(tmp_path)
    with pytest.raises(CheckpointError, match="does not fit"):
        load_weights(tiny_model(), tmp_path / "best.safetensors")


def test_pictures_that_are_none():
    with pytest.raises(ConfigError, match="float32"):
        build().predict(torch.rand(3, 8, 8))
    for empty in (np.zeros((5, 0, 3), np.uint8), torch.zeros(3, 5, 0, dtype=torch.uint8), Image.new("RGB", (0, 5))):
        with pytest.raises(ConfigError, match=r"uint8 of shape .*0.*\n.*at least one pixel"):
            build().predict(empty)


def test_weights_between_two_phases_are_read_as_the_first_one_left_them(tmp_path):
    model = build()
    model.eval().method.start_phase("experts")
    model.save_run(tmp_path / "stopped", ("experts",))
    assert Segmenter.from_pretrained(tmp_path / "stopped").method.phase == "experts"
    model.save_run(tmp_path / "whole")
    whole = Segmenter.from_pretrained(tmp_path / "whole").method
    assert whole.phase == build().method.phase


def test_a_network_of_ones_own_is_trained_saved_and_read_again(tmp_path):
    data = LongTailScenes("train", num_images=6, size=(48, 48))
    frequency = count_pixels(data, progress=False)
    classes = frequency.num_classes
    groups = CategoryGroups.by_rank(frequency.pixels, (3, 3, classes - 6))

    def network():
        head = torch.nn.Conv2d(8, classes, 1)
        return EncoderDecoder(Encoder(), Decoder(False), head, num_classes=classes, size_divisor=4)

    segmenter = Segmenter.around(network(), data, frequency, groups)
    assert segmenter.method.phases == ("experts", "ensemble") and segmenter.class_names == data.classes.names
    segmenter.save_pretrained(tmp_path)
    again = Segmenter.from_pretrained(tmp_path, network=network())
    assert torch.equal(again.predict(picture()), segmenter.predict(picture()))
    with pytest.raises(CheckpointError, match="a model of your own"):
        Segmenter.from_pretrained(tmp_path)


@pytest.mark.parametrize("window", [None, (16, 16)])
def test_prediction_and_evaluation_read_a_picture_alike(window):
    segmenter = build(input={"short_side": 24, "max_side": 40})
    pixels = torch.from_numpy(picture(30, 90)).movedim(2, 0)
    read = segmentation_eval(24, 40)({"image": tv_tensors.Image(pixels)})["image"].as_subclass(torch.Tensor)
    assert read.shape[-2:] == (13, 40) and torch.equal(segmenter.preprocess(pixels), read)
    with torch.no_grad():
        maps = expert_maps(segmenter.eval().method, read[None], window)
        probabilities = segmenter.method.own_probabilities(maps.logits)
        expected = map_labels(probabilities, Upsampling((30, 90)))[0]
    assert torch.equal(segmenter.predict(pixels, window=window), expected)
