"""A de-confounded classifier, a loss that gathers gradients and calibrated readouts in one whole detection run."""

import pytest
import torch

from longtail.models.detector import Detector
from longtail.settings import from_dict
from longtail.training.detection_config import DetectionConfig
from longtail.training.run import build_task, fit, score_run
from support.tiny_detection import tiny_settings

COMPARISONS = {"norcal": {"name": "norcal", "inner": "dynamic"}}


def config(**changes) -> DetectionConfig:
    settings = tiny_settings(
        method={"name": "mec", "loss": "equalization_v2", "ensemble": "average", "comparisons": COMPARISONS},
        logging={**tiny_settings()["logging"], "checkpoint_interval": 1},
        **changes,
    )
    settings["model"] = {**settings["model"], "classifier": "deconfound"}
    return from_dict(DetectionConfig, settings)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LONGTAIL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield fit(config(), tmp_path_factory.mktemp("runs") / "whole", quiet=True)


def state(run) -> dict[str, torch.Tensor]:
    return Detector.from_pretrained(run.path).state_dict()


def test_state_is_gathered_and_resumed(run, tmp_path):
    task = build_task(config())
    ours, calls = task.method.losses, []

    def interrupted(*batch):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("power cut")
        return ours(*batch)

    task.method.losses = interrupted
    with pytest.raises(RuntimeError, match="power cut"):
        fit(config(), tmp_path / "run", task=task, quiet=True)
    resumed = state(fit(config(), tmp_path / "run", resume=True, quiet=True))
    whole = state(run)
    gathered = [name for name in whole if name.rsplit(".")[-1] in ("embedding", "positive", "negative")]
    assert len(gathered) == 9 and all(whole[name].any() for name in gathered)
    assert list(whole) == list(resumed) and all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_calibrated_readouts_are_scored(run):
    results = score_run(run.path, progress=False)
    assert list(results.predictions)[:2] == ["mec", "norcal"]
    detector = Detector.from_pretrained(run.path).eval()
    assert detector.method.heads.stages[0].classifier.classes == detector.method.num_classes
    counts = torch.from_numpy(detector.frequency.counts("images").copy()).clamp(min=1)
    torch.testing.assert_close(detector.method.ensembles["norcal"].divisors, counts.float() ** 0.6)
