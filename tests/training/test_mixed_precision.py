"""Every method of both tasks under autocast, through training, scoring and the gradients in closed form."""

from typing import Any

import pytest
import torch

from longtail.ensembles.learned import LearnedEnsemble
from longtail.pixels import Upsampling, ensemble_labels
from longtail.training.run import fit, score_run
from support import tiny_detection, tiny_runs

HARDWARE = {"accelerator": "cpu", "devices": 1, "precision": "bf16-mixed"}
SEGMENTATION: dict[str, dict[str, Any]] = {
    "baseline": {"method": {"name": "baseline"}, "iterations": {"train": 2}},
    "seesaw": {"method": {"name": "baseline", "loss": "seesaw"}, "iterations": {"train": 2}},
    "medoe": {},
    "mcn": {"method": {"name": "mcn"}},
    "model_ensemble": {"method": {"name": "model_ensemble"}, "iterations": {"train": 2}},
}
DETECTION: dict[str, dict[str, Any]] = {
    "baseline": {"method": {"name": "baseline"}},
    "mec": {"method": {"name": "mec"}},
    "cosine": {"method": {"name": "mec"}, "model": {**tiny_detection.SETTINGS["model"], "classifier": "cosine"}},
    "htc": {"method": {"name": "mec"}, "model": {**tiny_detection.SETTINGS["model"], "name": "htc"}},
}


@pytest.mark.parametrize("name", sorted(SEGMENTATION))
def test_segmentation(tmp_path, name):
    config = tiny_runs.tiny_config(hardware=HARDWARE, **SEGMENTATION[name])
    run = fit(config, tmp_path, quiet=True)
    assert score_run(run.path, progress=False).predictions


@pytest.mark.parametrize("name", sorted(DETECTION))
def test_detection(tmp_path, name):
    config = tiny_detection.tiny_config(hardware=HARDWARE, **DETECTION[name])
    run = fit(config, tmp_path, quiet=True)
    assert score_run(run.path, progress=False).predictions


def test_the_learned_ensemble_is_fitted_in_float32_under_autocast():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 2, 6, 5, 7, generator=generator)
    target = torch.randint(0, 6, (2, 5, 7), generator=generator)
    ensemble = LearnedEnsemble(3, 6)
    with torch.no_grad():
        ensemble.raw_weight.normal_(generator=generator)
    parameters = [ensemble.raw_weight, ensemble.bias]
    plain = ensemble.loss(logits, target)
    expected = (plain, *torch.autograd.grad(plain, parameters))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = ensemble.loss(logits, target)
    assert all(
        torch.equal(a, b) for a, b in zip((mixed, *torch.autograd.grad(mixed, parameters)), expected, strict=True)
    )
    half = logits.bfloat16()
    upsampling = Upsampling((10, 14))
    assert torch.equal(ensemble_labels(ensemble, half, upsampling), ensemble_labels(ensemble, half.float(), upsampling))
