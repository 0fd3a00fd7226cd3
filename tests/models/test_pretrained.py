import json

import huggingface_hub
import pytest

from longtail.errors import CheckpointError
from longtail.models.pretrained import saved_task
from longtail.models.segmenter import Segmenter


@pytest.fixture
def asked(monkeypatch):
    """What the Hub was asked for; it never answers."""
    calls = []

    def unreachable(model, name, **options):
        calls.append((model, name, options))
        raise OSError("no connection\nand much more")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    return calls


@pytest.mark.parametrize("load", [saved_task, Segmenter.from_pretrained])
def test_a_typo_in_a_run_does_not_go_to_the_hub(tmp_path, monkeypatch, asked, load):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/medoe").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"^there is no folder runs/medo\n.*did you mean runs/medoe\?"):
        load("runs/medo")
    with pytest.raises(CheckpointError, match=r"^there is no folder runs/x\n.*give a run folder"):
        load("runs/x")
    assert not asked


@pytest.mark.parametrize("load", [saved_task, Segmenter.from_pretrained])
def test_what_the_hub_client_raises_is_one_line(tmp_path, monkeypatch, asked, load):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        load("owner/name")
    assert caught.value.problem.startswith("there is no folder owner/name")
    assert caught.value.problem.endswith("from the Hub: no connection")
    assert [call[:2] for call in asked] == [("owner/name", "config.json")]


def test_weights_that_the_hub_does_not_give(tmp_path, monkeypatch, asked):
    monkeypatch.chdir(tmp_path)
    options = {"classes": {"names": ["a"]}, "model": {"name": "mine"}, "method": {"name": "baseline"}}
    (tmp_path / "config.json").write_text(json.dumps(options))

    def config_alone(repo_id, filename, **hub):
        asked.append((repo_id, filename, hub))
        if filename == "config.json":
            return str(tmp_path / "config.json")
        raise ValueError("gated")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", config_alone)
    monkeypatch.setattr(huggingface_hub.hub_mixin, "hf_hub_download", config_alone)
    monkeypatch.setattr(Segmenter, "__init__", lambda self, **options: super(Segmenter, self).__init__())
    with pytest.raises(CheckpointError, match=r"no model\.safetensors of a model .*: gated"):
        Segmenter.from_pretrained("owner/name", revision="v1", trust_code=True)
    assert all(hub["revision"] == "v1" for _, _, hub in asked)
