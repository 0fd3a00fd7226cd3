"""Commands of someone who has a trained model already."""

import pytest
import torch
import yaml

from longtail.cli import main
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


def test_an_expert_that_nothing_has_trained_is_not_frozen(baseline, tmp_path, capsys):
    words = ["--config", str(baseline / "config.yaml"), "--method.name", "medoe", "--iterations", "{}"]
    assert main(["train", "segmentation", *words, "--freeze", "encoder+expert_1", "--run", str(tmp_path / "run")]) == 2
    assert "an expert is frozen, without a finished model" in capsys.readouterr().err
