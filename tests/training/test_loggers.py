"""wandb and mlflow beside TensorBoard, by Lightning's loggers; nothing needs a network."""

import pytest

from longtail.errors import ConfigError
from longtail.training import devices
from longtail.training.config import LoggingConfig
from longtail.training.run import fit
from longtail.training.run_folder import RunFolder
from support.toy_run import ToyTask, toy_config


def config(logger, **changes):
    logging = LoggingConfig(logger=logger, log_interval=1, val_interval=2, checkpoint_interval=1, project="tests")
    return toy_config(logging=logging, iterations={"experts": 4, "ensemble": 2}, **changes)


class Killed(ToyTask):
    def inputs(self, batch):
        self.steps = getattr(self, "steps", 0) + 1
        if self.steps == 3:
            raise KeyboardInterrupt
        return super().inputs(batch)


def test_mlflow_goes_on_in_one_run(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    with pytest.raises(KeyboardInterrupt):
        fit(config("mlflow"), tmp_path / "run", task=Killed(), quiet=True)
    run = fit(config("mlflow"), tmp_path / "run", task=ToyTask(), resume=True, quiet=True)
    client = mlflow.MlflowClient(f"file:{run.path / 'mlruns'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "tests"]
    (found,) = client.search_runs([experiment.experiment_id])
    steps = [metric.step for metric in client.get_metric_history(found.info.run_id, "experts/loss/sum")]
    assert set(steps) == {1, 2, 3, 4} and "experts/val/score" in found.data.metrics
    assert found.info.run_id == (run.path / "mlflow_run").read_text().strip()


def test_wandb_beside_tensorboard(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = fit(config(("tensorboard", "wandb")), tmp_path / "run", task=ToyTask(), quiet=True)
    assert list((run.path / "tensorboard").glob("events*"))
    assert list((run.path / "wandb").glob("offline-run-*")) and (run.path / "wandb_run").read_text().strip()


def test_a_logger_that_is_not_installed(tmp_path, monkeypatch):
    def missing(*_, **__):
        raise ModuleNotFoundError("No module named 'wandb'")

    import lightning.pytorch.loggers

    monkeypatch.setattr(lightning.pytorch.loggers, "WandbLogger", missing)
    with pytest.raises(ConfigError, match=r"cannot log with wandb: No module named 'wandb'.*\n.*longtail\[wandb\]"):
        fit(config("wandb"), tmp_path / "run", task=ToyTask(), quiet=True)
    assert devices.build_loggers(LoggingConfig(logger="none"), RunFolder(tmp_path)) == []


def test_unknown_loggers_are_refused():
    with pytest.raises(ConfigError, match=r"logging\.logger is 'neptune'"):
        LoggingConfig(logger=("tensorboard", "neptune"))
