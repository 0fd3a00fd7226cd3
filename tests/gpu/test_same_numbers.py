"""The same numbers on a GPU as on the CPU: ``pytest -m gpu``. LONGTAIL_TEST_DEVICE=cpu tries the tests themselves."""

import copy
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from longtail.frequency import ClassFrequency
from longtail.losses.build import LOSSES, build_loss
from longtail.losses.label_space import LabelSpace
from longtail.losses.positions import check_labels
from longtail.metrics.segmentation import confusion_matrix
from longtail.models.detector import Detector
from longtail.models.segmentation_methods import build_method
from longtail.pixels import Upsampling, map_labels, most_probable, softmax_sums
from longtail.training.run import fit, score_run
from support.tiny_detection import detector_arguments
from support.tiny_detection import tiny_config as detection_config
from support.tiny_runs import tiny_config as segmentation_config
from support.tiny_segmentation import FREQUENCY, GROUPS, NUM_CLASSES, tiny_model

DEVICE = torch.device(os.environ.get("LONGTAIL_TEST_DEVICE", "cuda"))
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(DEVICE.type == "cuda" and not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.fixture(autouse=True)
def _full_precision():
    """Products of matrices in float32, not TF32."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rarest", [1.0, 0.4])
@pytest.mark.parametrize(
    ("classes", "low", "size", "align_corners"),
    [(19, (32, 64), (128, 256), False), (150, (17, 23), (100, 133), False), (150, (17, 23), (65, 89), True)],
)
def test_sums_in_closed_form_every_time(classes, low, size, align_corners, rarest, dtype):
    generator = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(2, classes, *low, generator=generator)).to(dtype)
    label_set = torch.arange(classes) >= classes * (1 - rarest)
    target = torch.randint(0, classes, (2, *size), generator=generator)
    target = target.where(label_set[target], 255)
    target[:, :3] = 255
    weight = torch.rand(2, *size, generator=generator)

    def sums_on(device: torch.device | str) -> tuple[Tensor, Tensor, Tensor]:
        z = logits.to(device).requires_grad_()
        upsampling = Upsampling(size, 1, align_corners)
        sums = softmax_sums(z, target.to(device), label_set.to(device), upsampling, weight=weight.to(device))
        mean = sums.predictions / target.numel()
        total = sums.cross_entropy / target.numel() + (mean * (mean + 1e-9).log()).sum()
        return total.detach().cpu(), sums.predictions.detach().cpu(), torch.autograd.grad(total, z)[0].cpu()

    found = sums_on(DEVICE)
    tolerance = {"rtol": 1e-4, "atol": 1e-7} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 1e-5}
    for ours, theirs in zip(found, sums_on("cpu"), strict=True):
        torch.testing.assert_close(ours, theirs, **tolerance)
    for again, first in zip(sums_on(DEVICE), found, strict=True):
        assert torch.equal(again, first)


@pytest.mark.parametrize("name", LOSSES.names())
def test_every_loss(name):
    frequency = ClassFrequency(
        tuple("abcdef"),
        images=np.array([9, 7, 5, 3, 2, 1]),
        pixels=np.array([900, 70, 50, 30, 20, 1]),
        instances=np.array([90, 70, 50, 30, 20, 10]),
    )
    generator = torch.Generator().manual_seed(0)
    outcomes = []
    for device in ("cpu", DEVICE):
        generator.manual_seed(0)
        torch.manual_seed(0)
        boxes = name in ("federated", "balanced_group_softmax")
        loss = build_loss(name, LabelSpace.of_boxes(frequency) if boxes else LabelSpace.of_pixels(frequency)).to(device)
        logits = torch.randn(40, loss.num_logits, generator=generator).to(device).requires_grad_()
        target = torch.randint(0, 6, (40,), generator=generator).to(device)
        target[:3] = 255
        loss.set_progress(0.9)
        value = loss(logits, target)
        gradient = torch.autograd.grad(value, logits)[0]
        assert value.device.type == gradient.device.type == torch.device(device).type
        outcomes.append((value.detach().cpu(), gradient.cpu()))
    if name in ("blv", "federated", "under_sampling", "balanced_group_softmax"):  # they draw, on the device
        assert outcomes[1][0].isfinite() and outcomes[1][1].isfinite().all()
    else:
        torch.testing.assert_close(outcomes[1], outcomes[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["baseline", "medoe", "mcn", "model_ensemble"])
def test_segmentation_methods_train_and_read_alike(method):
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(2, 3, 32, 48, generator=generator)
    target = torch.randint(0, NUM_CLASSES, (2, 32, 48), generator=generator)
    target[:, :4] = 255
    made = build_method(method, tiny_model(), frequency=FREQUENCY, groups=GROUPS)
    for module in made.modules():
        if isinstance(module, torch.nn.Dropout2d):
            module.p = 0.0
    state = copy.deepcopy(made.state_dict())
    outcomes = []
    for device in ("cpu", DEVICE):
        made.load_state_dict(state)
        made.to(device).train()
        losses, gradients = {}, {}
        for phase in made.phases:
            made.start_phase(phase)
            made.zero_grad()
            terms = made.losses(image.to(device), target.to(device))
            sum(terms.values()).backward()
            losses |= {f"{phase} {name}": value.detach().cpu() for name, value in terms.items()}
            gradients |= {f"{phase} {name}": p.grad.cpu() for name, p in made.named_parameters() if p.grad is not None}
        made.load_state_dict(state)
        made.eval()
        with torch.no_grad():
            maps, probabilities = made.labels(image.to(device)).cpu(), made(image.to(device)).cpu()
        outcomes.append((losses, gradients, probabilities, maps))
    (losses, gradients, probabilities, maps), found = outcomes
    torch.testing.assert_close(found[0], losses, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[1], gradients, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(found[2], probabilities, rtol=1e-3, atol=1e-5)
    assert (found[3] == maps).float().mean() > 0.99  # ties of an untrained net


def test_labels_of_upsampled_maps():
    generator = torch.Generator().manual_seed(2)
    coarse = torch.randn(2, 19, 4, 4, generator=generator)
    logits = torch.nn.functional.interpolate(4 * coarse, (32, 40), mode="bilinear")
    upsampling = Upsampling((128, 160))
    same = map_labels(logits.to(DEVICE), upsampling).cpu() == map_labels(logits, upsampling)
    assert same.float().mean() > 0.9999


def test_most_probable_and_confusion():
    generator = torch.Generator().manual_seed(3)
    probabilities = torch.rand(2, 5, 30, 30, generator=generator)
    labels = probabilities.argmax(dim=1)
    assert torch.equal(most_probable(probabilities.to(DEVICE)).cpu(), labels)
    truth = torch.randint(0, 5, labels.shape, generator=generator)
    truth[:, :2] = 255
    for dtype in (torch.int64, torch.uint8):
        counts = confusion_matrix(labels.to(DEVICE, dtype), truth.to(DEVICE), 5)
        assert torch.equal(counts.cpu(), confusion_matrix(labels, truth, 5))


@pytest.mark.skipif(DEVICE.type != "cuda", reason="a CPU waits for nothing")
def test_labels_are_checked_without_waiting():
    target = torch.tensor([0, 5, 255], device=DEVICE)
    torch.cuda.set_sync_debug_mode("error")
    try:
        check_labels(target, 6, 255)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    code = (
        "import torch; from longtail.losses.positions import check_labels; "
        "check_labels(torch.tensor([0, 6], device='cuda'), 6, 255); torch.cuda.synchronize()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "assert" in done.stderr


def _accelerator() -> str:
    return "gpu" if DEVICE.type == "cuda" else "cpu"


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("task", ["segmentation", "detection"])
def test_a_run_trains_resumes_and_is_scored(tmp_path, task, precision):
    hardware = {"accelerator": _accelerator(), "devices": 1, "precision": precision}
    config = (segmentation_config if task == "segmentation" else detection_config)(hardware=hardware)
    run = fit(config, tmp_path / "run", quiet=True)
    assert run.weights.is_file() and run.last.is_file()
    assert fit(config, run.path, resume=True, quiet=True).path == run.path
    assert score_run(run.path, device=str(DEVICE)).predictions


def test_detections_of_a_trained_detector_are_those_of_the_cpu():
    torch.manual_seed(0)
    detector = Detector(**detector_arguments())
    for stage in detector.method.heads.stages:
        torch.nn.init.normal_(stage.classifier.weight, std=2.0)
    detector.eval()
    picture = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    found = [detector.to(device).predict(picture) for device in ("cpu", DEVICE)]
    assert len(found[0]) == len(found[1])
    torch.testing.assert_close(found[1].scores.cpu(), found[0].scores.cpu(), rtol=1e-3, atol=1e-4)
