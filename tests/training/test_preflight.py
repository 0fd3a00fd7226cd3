from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from longtail.errors import CheckpointError, ConfigError
from longtail.training import preflight
from longtail.training.config import HardwareConfig, LoadingConfig, OptimiserConfig, RunConfig
from longtail.training.preflight import check_batch_norm, check_weights, doubts
from support.toy_run import ToyMethod


def config(batch_size: int, **hardware) -> RunConfig:
    return RunConfig(loading=LoadingConfig(batch_size=batch_size), hardware=HardwareConfig(**hardware))


def test_batches_of_one_under_batch_norm() -> None:
    method = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.GroupNorm(2, 4))
    for size, hardware, ranks, device in (
        (1, {}, 1, "cpu"),
        (2, {"accumulate": 2}, 1, "cpu"),
        (2, {}, 2, "cpu"),
        (4, {"accumulate": 2}, 2, "cuda"),
        (2, {"sync_batch_norm": False}, 2, "cuda"),
    ):
        shared = hardware.get("sync_batch_norm", True) and ranks > 1 and device == "cuda"
        with (
            nullcontext()
            if shared
            else pytest.raises(ConfigError, match=f"1 batch norm .*batch_size {size} over {ranks}")
        ):
            check_batch_norm(method.eval(), config(size, **hardware), ranks, device)
    check_batch_norm(method, config(2))
    check_batch_norm(method, config(4), world_size=2)
    check_batch_norm(nn.Sequential(nn.GroupNorm(2, 4)), config(1))


def test_batch_norm_that_a_phase_freezes_may_see_one_image() -> None:
    class Frozen(nn.BatchNorm2d):
        def train(self, mode: bool = True) -> "Frozen":
            return super().train(False)

    check_batch_norm(nn.Sequential(Frozen(4)), config(1))


@pytest.mark.parametrize(("able", "count"), [(True, 0), (False, 1)])
def test_bfloat16_on_a_processor(able: bool, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "_computes_in_bfloat16", lambda: able)
    found = doubts(config(4, precision="bf16-mixed"))
    assert len(found) == count and all("no bfloat16" in words for words in found)
    assert not doubts(config(4)) and not doubts(config(4, precision="bf16"), device="cuda")


def test_a_device_that_is_not_here() -> None:
    wanted = config(4, accelerator="gpu")
    assert ["accelerator gpu: the run would be refused" in words for words in doubts(wanted, "cpu")] == [True]
    assert not doubts(wanted, "cuda")


def test_a_phase_of_warm_up_alone() -> None:
    warm = RunConfig(optimiser=OptimiserConfig("adamw"), iterations={"train": 1500})
    (found,) = doubts(warm)
    assert "phase train has 1500 iterations, all of them warm-up" in found
    assert not doubts(RunConfig(optimiser=OptimiserConfig("adamw"), iterations={"train": 1501}))


def test_published_weights_count_as_trained_up_to_the_last_phase(tmp_path: Path) -> None:
    method = ToyMethod()
    save_file(method.state_dict(), tmp_path / "model.safetensors")
    assert check_weights(method, tmp_path, method.phases)[0] == ("experts",)
    save_file({k: v for k, v in method.state_dict().items() if k != "scale"}, tmp_path / "model.safetensors")
    assert check_weights(method, tmp_path, method.phases)[0] == ()


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no weights"):
        check_weights(nn.Identity(), tmp_path, ("train",))
    torch.save({}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError):
        check_weights(nn.Identity(), tmp_path / "w.pt", ("train",))
