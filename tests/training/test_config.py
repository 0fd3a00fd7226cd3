import subprocess
import sys

import pytest

from longtail.errors import ConfigError
from longtail.settings import differences, from_dict, read_yaml, to_dict, write_yaml
from longtail.training.config import LoadingConfig, OptimiserConfig, RunConfig
from longtail.training.segmentation_config import SegmentationConfig


def test_yaml_gives_the_same_configuration_back(tmp_path):
    config = from_dict(
        SegmentationConfig,
        {
            "data": {"dataset": "ccp51", "groups": {"by": "rank", "sizes": [1, 2, 3]}},
            "augmentation": {"crop": [64, 32]},
            "iterations": {"experts": 5},
            "method": {"alpha": 0.2},
            "hardware": {"devices": 2},
        },
    )
    assert config.augmentation.crop == (64, 32) and config.data.groups.sizes == (1, 2, 3)
    write_yaml(config, tmp_path / "config.yaml")
    assert from_dict(SegmentationConfig, read_yaml(tmp_path / "config.yaml")) == config


def test_numbers_as_yaml_reads_them(tmp_path):
    (tmp_path / "c.yaml").write_text("optimiser: {lr: 1e-3, warmup_iterations: 5, decay_norms: true}\n")
    optimiser = from_dict(RunConfig, read_yaml(tmp_path / "c.yaml")).optimiser
    assert (optimiser.lr, optimiser.warmup_iterations, optimiser.decay_norms) == (0.001, 5, True)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optimizer": {}}, r"unknown setting optimizer\n.*did you mean optimiser\?"),
        ({"optimiser": {"learning_rate": 1}}, r"unknown setting optimiser\.learning_rate"),
        ({"optimiser": {"lr": -1}}, r"optimiser\.lr is -1"),
        ({"optimiser": {"lr": "fast"}}, r"optimiser\.lr is 'fast'\n.*a number"),
        ({"optimiser": {"name": "adam"}}, r"optimiser\.name is 'adam'"),
        ({"loading": {"workers": -1}}, r"loading\.workers is -1"),
        ({"loading": {"batch_size": 1.5}}, r"loading\.batch_size is 1\.5"),
        ({"iterations": {"experts": 0}}, r"iterations\.experts is 0"),
        ({"data": {"groups": {"by": "rank"}}}, r"rank without sizes"),
        ({"augmentation": {"crop": [64]}}, r"augmentation\.crop is \[64\]\n.*a list of 2"),
        ({"augmentation": {"scale": [2, 1]}}, r"augmentation\.scale"),
        ({"phase_optimisers": {"ensemble": {"lrr": 1}}}, r"unknown setting phase_optimisers\.ensemble\.lrr"),
        ({"seed": True}, r"seed is True"),
        ({"hardware": {"precision": "bf16-true"}}, r"hardware\.precision is 'bf16-true'\n.*bf16-mixed"),
        ({"hardware": {"precision": "64-true"}}, r"hardware\.precision is '64-true'"),
        ({"hardware": {"precision": "transformer-engine"}}, r"hardware\.precision is 'transformer-engine'"),
        ({"task": "detection"}, r"task is 'detection'"),
    ],
)
def test_what_cannot_work_is_refused_with_its_name(values, message):
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        from_dict(SegmentationConfig, values)


def test_a_batch_is_a_multiple_of_what_is_accumulated():
    with pytest.raises(ConfigError, match="not a multiple"):
        from_dict(RunConfig, {"loading": {"batch_size": 6}, "hardware": {"accumulate": 4}})
    assert RunConfig(loading=LoadingConfig(batch_size=6)).loading.batch_size == 6


def test_recipes_fill_what_is_not_given():
    run = RunConfig(
        optimiser=OptimiserConfig(name="adamw", lr=1e-4), phase_optimisers={"ensemble": {"name": "sgd"}}
    ).resolved(("experts", "ensemble"))
    assert (run.optimiser.lr, run.optimiser.weight_decay, run.optimiser.warmup_iterations) == (1e-4, 0.01, 1500)
    assert run.iterations == {"experts": 80_000, "ensemble": 1_600}
    assert run.optimiser_of("experts") == run.optimiser
    assert run.optimiser_of("ensemble").recipe("lr") == 0.01  # another optimiser: not the lr of the first
    plain = RunConfig(optimiser=OptimiserConfig(name="adamw", lr=1e-4))
    assert (
        plain.optimiser_of("ensemble") == OptimiserConfig("sgd")
        and plain.optimiser_of("calibration") is plain.optimiser
    )
    named = RunConfig(optimiser=plain.optimiser, phase_optimisers={"ensemble": {}})
    assert named.optimiser_of("ensemble") == plain.optimiser
    same = RunConfig(optimiser=OptimiserConfig(lr=0.5), phase_optimisers={"ensemble": {"weight_decay": 0}})
    assert same.optimiser_of("ensemble").lr == 0.5
    with pytest.raises(ConfigError, match="'ensemble', which the method does not have"):
        same.resolved(("train",))


def test_differences_are_named_by_key():
    one, other = to_dict(RunConfig()), to_dict(RunConfig(seed=1, optimiser=OptimiserConfig(lr=2)))
    assert differences(one, other) == {"optimiser.lr": (None, 2), "seed": (0, 1)}


def test_files_that_are_no_settings(tmp_path):
    with pytest.raises(ConfigError, match="cannot read settings"):
        read_yaml(tmp_path / "missing.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match="holds no settings"):
        read_yaml(tmp_path / "list.yaml")
    (tmp_path / "broken.yaml").write_text("a: [1\n")
    with pytest.raises(ConfigError, match="cannot read settings"):
        read_yaml(tmp_path / "broken.yaml")


def test_settings_load_without_torch():
    modules = "longtail.training.segmentation_config, longtail.training.run_folder, longtail.training.console"
    script = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def test_epochs_become_iterations_once_the_data_are_known():
    config = from_dict(RunConfig, {"epochs": {"train": 1.5}, "loading": {"batch_size": 4}})
    assert config.length_of("train") == "1.5 epochs" and config.length_of("ensemble") == "1600"
    with pytest.raises(ConfigError, match=r"epochs\.train is of data"):
        config.iterations_of("train")
    resolved = config.resolved(("train", "ensemble"), samples=10)
    assert resolved.iterations == {"train": 4, "ensemble": 1600} and resolved.epochs == {}  # 15 samples in fours
    assert resolved.resolved(("train", "ensemble"), samples=10) == resolved
    with pytest.raises(ConfigError, match=r"both iterations\.train and epochs\.train"):
        from_dict(RunConfig, {"epochs": {"train": 2}, "iterations": {"train": 3}})
    with pytest.raises(ConfigError, match=r"epochs\.train is 0"):
        from_dict(RunConfig, {"epochs": {"train": 0}})
    with pytest.raises(ConfigError, match="epochs names phase 'experts'"):
        from_dict(RunConfig, {"epochs": {"experts": 2}}).resolved(("train",), 10)
