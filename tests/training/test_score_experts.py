"""Recorded experts: the numbers of the evaluation, other ensembles, and learned ones fitted without the network."""

import pytest
import torch
from safetensors.torch import save_file

from longtail.datasets import open_dataset
from longtail.ensembles.fit import fit_ensemble
from longtail.ensembles.learned import LearnedEnsemble
from longtail.errors import ConfigError, DataError
from longtail.models.segmenter import Segmenter
from longtail.segmentation.recording import count_maps, read_maps
from longtail.training.evaluate_segmentation import evaluate_segmentation
from longtail.training.run import build_task
from longtail.training.score_experts import recorded_segmenter, sampled_pixels, score_experts
from support.tiny_runs import tiny_config

SCENES = {"size": [33, 46], "num_images": 10}


def segmenter(name="medoe", **input):
    torch.manual_seed(2)
    config = tiny_config(data={"dataset": "longtail-scenes", **SCENES}, method={"name": name})
    model = build_task(config).model.eval()
    with torch.no_grad():  # experts that differ, and an ensemble that is not the average
        for parameter in model.method.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return Segmenter(**{**model._hub_mixin_config, "input": {**model.input, **input}}).eval().requires_grad_(
        False
    ), model


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LONGTAIL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module", params=[("medoe", None), ("baseline", None), ("medoe", 24)])
def recorded(request, tmp_path_factory):
    name, short_side = request.param
    model, trained = segmenter(name, short_side=short_side)
    model.load_state_dict(trained.state_dict())
    folder = tmp_path_factory.mktemp("recordings") / "val"
    data = open_dataset("longtail-scenes", "val", task="segmentation", **SCENES)
    results = evaluate_segmentation(model, data, recording=folder, batch_size=2, data={"name": "scenes"})
    return model, folder, results, data


def same(expected, found):
    """Every score that was found; an evaluation also looks at boundaries."""
    assert {"mIoU", "mAcc", "aAcc"} <= found.keys() <= expected.keys()
    for metric, value in found.items():
        assert value == expected[metric] or (value != value and expected[metric] != expected[metric]), metric


def test_scores_are_those_of_the_evaluation(recorded):
    _, folder, expected, data = recorded
    found = score_experts(folder, bias=True)
    assert count_maps(folder) == len(data) and found.data == expected.data
    assert list(found.predictions) == list(expected.predictions)
    for name, prediction in expected.predictions.items():
        same(prediction.overall, found.predictions[name].overall)
        for metric, found_values in found.predictions[name].per_class.items():
            values = prediction.per_class[metric]
            known = [i for i, value in enumerate(values) if value is not None]
            assert [i for i, value in enumerate(found_values) if value is not None] == known
            assert [found_values[i] for i in known] == pytest.approx([values[i] for i in known], rel=1e-5, nan_ok=True)


def test_recording_changes_no_score(recorded):
    model, _, expected, data = recorded
    again = evaluate_segmentation(model, data, batch_size=2)
    for name, prediction in expected.predictions.items():
        same(prediction.overall, again.predictions[name].overall)


def test_any_ensemble_is_scored_as_evaluation_scores_it(recorded):
    model, folder, _, data = recorded
    specs = {"mean_logits": {"name": "average", "average": "logits"}, **model.dial([0.0, 0.4])}
    found = score_experts(folder, specs)
    expected = evaluate_segmentation(
        model,
        data,
        readouts=[next(iter(found.predictions))],
        ensembles=model.ensembles(specs),
        bias=False,
        batch_size=2,
    )
    assert list(found.predictions) == list(expected.predictions)
    for name, prediction in expected.predictions.items():
        same(prediction.overall, found.predictions[name].overall)


def test_sampled_pixels_are_those_of_the_whole_maps(recorded):
    _, folder, _, _ = recorded
    logits, labels = sampled_pixels(folder, per_image=10**9)
    whole = []
    for image in read_maps(folder):
        maps = torch.stack([image.upsampling(own.unsqueeze(0))[0] for own in image.logits])
        size = tuple(image.target.shape)
        if tuple(maps.shape[-2:]) != size:
            maps = torch.nn.functional.interpolate(maps, size, mode="bilinear", align_corners=False)
        whole.append(maps.flatten(2).transpose(1, 2)[:, image.target.flatten() != 255])
    torch.testing.assert_close(logits, torch.cat(whole, dim=1), rtol=1e-4, atol=1e-4)
    assert len(labels) == logits.shape[1] and len(sampled_pixels(folder, per_image=3)[1]) == 3 * count_maps(folder)


def test_learned_ensembles_are_fitted_on_recorded_images(recorded):
    model, folder, _, _ = recorded
    specs = {"fitted": {"name": "learned", "bias": "shared"}}
    with pytest.raises(ConfigError, match="nothing to fit it on"):
        score_experts(folder, specs)
    found = score_experts(folder, specs, fit_on=folder)
    logits, labels = sampled_pixels(folder, model.method.ignore_index)
    begin = float(model.ensembles(specs)["fitted"].loss(logits, labels))
    assert found.settings["losses"]["fitted"] < 0.9 * begin
    again = score_experts(folder, specs, fit_on=folder)
    assert again.settings["losses"] == found.settings["losses"]


def test_the_fit_finds_the_expert_that_is_right():
    """One expert knows the class, the other says the opposite with the same confidence."""
    target = torch.arange(60) % 3
    right = 4.0 * torch.nn.functional.one_hot(target, 3).float()
    logits = torch.stack([right, -right]).view(2, 60, 3)
    ensemble = LearnedEnsemble(2, 3)
    loss = fit_ensemble(ensemble, logits, target, iterations=200)
    assert loss < 0.05 and bool((ensemble(logits).argmax(dim=1) == target).all())


def test_what_is_no_recording(tmp_path, recorded):
    model, folder, _, data = recorded
    with pytest.raises(DataError, match="holds no recorded experts"):
        count_maps(tmp_path)
    with pytest.raises(ConfigError, match="holds a recording already"):
        evaluate_segmentation(model, data, recording=folder)
    with pytest.raises(ConfigError, match="averages of windows cannot be recorded"):
        evaluate_segmentation(model, data, recording=tmp_path / "new", sliding_window=(16, 16))
    with pytest.raises(ConfigError, match="has the name of a readout"):
        score_experts(folder, {next(iter(model.method.readouts())): "average"})
    (tmp_path / "maps-000-00000.safetensors").write_bytes(b"torn")
    with pytest.raises(DataError, match=r"maps-000-00000\.safetensors"):
        list(read_maps(tmp_path))
    save_file(
        {"0.logits": torch.zeros(1, 2, 3, 3)}, tmp_path / "maps-000-00000.safetensors", {"geometry": "[[0, 1, 1, 0]]"}
    )
    with pytest.raises(DataError, match=r"geometry\.0 is \[0, 1, 1, 0\]"):
        list(read_maps(tmp_path))


def test_the_dial_of_a_segmenter(recorded):
    model, folder, _, _ = recorded
    read = recorded_segmenter(folder)
    assert read.fingerprint() != model.fingerprint()  # its network is untrained
    before = model.fingerprint()
    image = torch.randint(0, 256, (3, 33, 46), dtype=torch.uint8)
    model, own = Segmenter(**model._hub_mixin_config).eval(), model
    model.load_state_dict(own.state_dict())
    spec = model.dial([0.8])
    expected = model.ensembles(spec)["tau_0.8"](model.method.expert_maps(model.preprocess(image)[None]).logits)
    model.turn(0.8)
    assert model.fingerprint() != before
    torch.testing.assert_close(model.method(model.preprocess(image)[None]), expected)
    if model.input["short_side"] is None:
        assert torch.equal(model.predict(image), expected.argmax(dim=1)[0])
