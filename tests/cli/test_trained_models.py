"""Commands of someone who has a trained model already."""

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from longtail.cli import main
from longtail.metrics.results import Results
from longtail.models.segmenter import Segmenter
from support.tiny_runs import tiny_settings


@pytest.fixture(scope="module", autouse=True)
def _surroundings(tmp_path_factory):
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LONGTAIL_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("COLUMNS", "140")
        yield


@pytest.fixture(scope="module")
def baseline(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "baseline"
    settings = folder.parent / "tiny.yaml"
    settings.write_text(yaml.safe_dump(tiny_settings(method={"name": "baseline"}, iterations={"train": 2})))
    assert main(["train", "segmentation", "--config", str(settings), "--run", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def medoe(baseline):
    """Experts added to the baseline, whose encoder and decoder stay as they are."""
    folder = baseline.with_name("medoe")
    words = ["--from", str(baseline), "--freeze", "encoder+expert_1", "--run", str(folder), "--method.name", "medoe"]
    assert main(["train", "segmentation", *words, "--iterations", "{experts: 2, ensemble: 1}"]) == 0
    return folder


def test_experts_for_a_trained_model(baseline, medoe):
    said = " ".join((medoe / "train.log").read_text().split())
    assert "experts.experts.2" in said and "from model.expert" in said and "ensemble 2 made anew" in said
    before, after = Segmenter.from_pretrained(baseline), Segmenter.from_pretrained(medoe)
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        expected = before.method.expert_maps(image).logits[0]
        assert torch.equal(after.method.expert_maps(image).logits[0], expected)
        assert not torch.equal(after.method.expert_maps(image).logits[1], expected)
        begun = before.with_method({"name": "medoe"}).method
        assert all(torch.equal(own, expected) for own in begun.expert_maps(image).logits)


def test_an_expert_that_nothing_has_trained_is_not_frozen(tmp_path, capsys):
    settings = tmp_path / "tiny.yaml"
    settings.write_text(yaml.safe_dump(tiny_settings(freeze="encoder+expert_1")))
    assert main(["train", "segmentation", "--config", str(settings), "--run", str(tmp_path / "run")]) == 2
    assert "an expert is frozen, without a finished model" in capsys.readouterr().err


def test_a_source_without_data_is_named(tmp_path, capsys):
    assert main(["train", "segmentation", "--from", str(tmp_path / "nothere")]) == 2
    assert "nothere is no run folder" in capsys.readouterr().err


def test_recorded_experts_are_scored_in_other_ways(medoe, tmp_path, capsys):
    val, train, out = tmp_path / "val", tmp_path / "train", tmp_path / "scores"
    evaluate = ["evaluate", str(medoe), "--workers", "0", "--pictures", "0"]
    assert main([*evaluate, "--record", str(val), "--out", str(out), "--taus", "[0, 0.3]"]) == 0
    assert main([*evaluate, "--record", str(train), "--split", "train", "--out", str(tmp_path / "other")]) == 0
    words = ["--ensembles", "{fitted: {name: learned, outer: convex}}", "--taus", "[0.3]", "--fit", str(train)]
    capsys.readouterr()
    assert main(["score", "experts", str(val), *words, "--out", str(tmp_path / "scores.json")]) == 0
    assert "fitted" in capsys.readouterr().out
    found, expected = Results.load(tmp_path / "scores.json"), Results.load(out / "results.json")
    assert list(found.predictions) == ["medoe", "fitted", "tau_0.3"]
    for name in ("medoe", "tau_0.3"):
        assert found.predictions[name].overall["mIoU"] == expected.predictions[name].overall["mIoU"]
    assert main(["score", "experts", str(val), "--ensembles", "{fitted: learned}"]) == 2
    assert "nothing to fit it on" in capsys.readouterr().err


def test_predictions_turn_with_tau(baseline, medoe, tmp_path, capsys):
    Image.fromarray(np.zeros((33, 40, 3), np.uint8)).save(tmp_path / "photo.png")
    for run in (baseline, medoe):
        words = ["predict", str(run), str(tmp_path / "photo.png"), "--out", str(tmp_path / run.name)]
        assert main([*words, "--tau", "0.3"]) == 0
        capsys.readouterr()
        assert main([*words, "--tau", "0.5"]) == 2
        assert "another model or with other options" in capsys.readouterr().err
