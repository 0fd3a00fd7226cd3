"""One phase of the loop against a loop written by hand, on a method without any randomness."""

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import Dataset

from longtail.training.config import HardwareConfig, LoadingConfig, LoggingConfig, OptimiserConfig, RunConfig
from longtail.training.run import fit
from support.toy_run import ToyTask

SIZE = 8
X = torch.randn(SIZE, 4, generator=torch.Generator().manual_seed(0))
Y = X @ torch.tensor([1.0, -2.0, 0.5, 3.0])


class Regression(nn.Module):
    phases = ("train",)
    phase = "train"

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    def start_phase(self, phase: str) -> None:
        self.phase = phase

    def losses(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
        error = (self.layer(x).squeeze(1) - y).square().mean()
        return {"error": 0.75 * error, "rest": 0.25 * error}


class Points(Dataset):
    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"x": X[index], "y": Y[index]}


class RegressionTask(ToyTask):
    def __init__(self) -> None:
        super().__init__()
        self.method = Regression()
        self.train_data = Points()
        self.order = lambda generator: range(SIZE)


def trained(folder, iterations: int = 5, momentum: float = 0.9, **hardware) -> tuple[torch.Tensor, list[str]]:
    config = RunConfig(
        optimiser=OptimiserConfig(lr=0.1, momentum=momentum, weight_decay=0.0),
        iterations={"train": iterations},
        loading=LoadingConfig(batch_size=SIZE, workers=0),
        hardware=HardwareConfig(accelerator="cpu", devices=1, **hardware),
        logging=LoggingConfig(logger="none", log_interval=2, val_interval=0),
    )
    run = fit(config, folder, task=RegressionTask(), quiet=True)
    weights = load_file(run.weights)
    rows = run.metrics.read_text().splitlines()
    return torch.cat([weights["layer.weight"][0], weights["layer.bias"]]), rows


def by_hand(iterations: int = 5, momentum: float = 0.9) -> tuple[torch.Tensor, list[float]]:
    model, losses = Regression(), []
    optimiser = torch.optim.SGD(model.parameters(), 0.1, momentum)
    for iteration in range(iterations):
        optimiser.param_groups[0]["lr"] = 0.1 * (1 - iteration / iterations) ** 0.9
        loss = sum(model.losses(X, Y).values())
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return torch.cat([model.layer.weight[0], model.layer.bias]).detach(), losses


@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_equals_a_loop_by_hand_however_the_batch_is_parted(tmp_path, accumulate):
    weights, rows = trained(tmp_path, accumulate=accumulate)
    expected, losses = by_hand()
    torch.testing.assert_close(weights, expected)
    header, *lines = (row.split(",") for row in rows)
    logged = [float(line[header.index("loss")]) for line in lines]
    means = [sum(losses[:2]) / 2, sum(losses[2:4]) / 2, losses[4]]
    assert logged == pytest.approx(means, rel=1e-4)
    rates = [float(line[header.index("lr")]) for line in lines]
    assert rates == pytest.approx([0.1 * (1 - i / 5) ** 0.9 for i in (1, 3, 4)], rel=1e-4)


def test_gradients_are_clipped_by_their_norm(tmp_path):
    weights, _ = trained(tmp_path, iterations=1, momentum=0.0, gradient_clip=0.01)
    torch.testing.assert_close(weights.norm(), torch.tensor(0.1 * 0.01), rtol=1e-3, atol=0)
    expected, _ = by_hand(1, 0.0)
    torch.testing.assert_close(weights / weights.norm(), expected / expected.norm())
