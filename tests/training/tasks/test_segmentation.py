import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from longtail.errors import ConfigError, DataError
from longtail.frequency import ClassFrequency
from longtail.metrics.results import Results
from longtail.models.segmenter import Segmenter
from longtail.samplers.base import split
from longtail.settings import from_dict, read_yaml
from longtail.training.run import build_task, fit, score_run
from longtail.training.run_folder import RunFolder
from longtail.training.segmentation_config import SegmentationConfig
from support.tiny_runs import tiny_config


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LONGTAIL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunFolder:
    torch.set_num_threads(1)
    return fit(tiny_config(), tmp_path_factory.mktemp("runs") / "medoe", quiet=True)


def test_a_run_leaves_all_that_is_needed(run):
    for path in (run.settings, run.log, run.metrics, run.weights, run.card, run.last, run.phase_weights("experts")):
        assert path.is_file(), path
    config = from_dict(SegmentationConfig, read_yaml(run.settings))
    assert config.optimiser.lr == 0.01 and config.iterations == {"experts": 3, "ensemble": 2}
    rows = run.metrics.read_text().splitlines()
    assert "val/mIoU" in rows[0] and len(rows) == 1 + 2 + 1 + 2


def test_its_weights_are_a_segmenter(run):
    segmenter = Segmenter.from_pretrained(run.path)
    saved = load_file(run.weights)
    assert all(torch.equal(value, saved[name]) for name, value in segmenter.state_dict().items())
    assert segmenter.predict(torch.zeros(3, 20, 30, dtype=torch.uint8)).shape == (20, 30)


def test_it_is_scored_by_every_readout(run):
    results = score_run(run.path, progress=False)
    again = Results.load(run.results)
    assert again.predictions.keys() == results.predictions.keys() >= {"medoe", "oracle", "expert_3", "mean"}
    assert again.settings["model"]["name"] == "deeplabv3plus" and again.seed == 0
    assert again.data == {
        "name": "longtail-scenes",
        "split": "val",
        "images": 6,
        "fingerprint": results.data["fingerprint"],
    }
    index = json.loads((run.pictures / "index.json").read_text())
    assert len(index["images"]) == 2 and index["readouts"][0] == "medoe"


def test_its_configuration_replays_to_the_same_weights(run, tmp_path):
    config = from_dict(SegmentationConfig, read_yaml(run.settings))
    again = fit(config, tmp_path / "again", quiet=True)
    one, other = load_file(run.weights), load_file(again.weights)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_ensemble_trains_from_the_experts_of_another_run(run, tmp_path):
    again = fit(tiny_config(), tmp_path / "again", start_from=run.path, quiet=True)
    one, other = load_file(run.weights), load_file(again.weights)
    assert all(torch.equal(one[name], other[name]) for name in one)
    rows = again.metrics.read_text().splitlines()[1:]
    assert rows and all(row.startswith("ensemble") for row in rows)


def test_a_single_phase_method_starts_from_given_weights(tmp_path):
    config = tiny_config(method={"name": "baseline"}, iterations={"train": 1})
    first = fit(config, tmp_path / "first", quiet=True)
    second = fit(config, tmp_path / "second", start_from=first.path, quiet=True)
    assert second.weights.is_file()


def test_without_validation_the_last_weights_are_kept(tmp_path):
    config = tiny_config(data={"dataset": "longtail-scenes", "size": [32, 32], "num_images": 6, "val_split": ""})
    run = fit(config, tmp_path / "run", quiet=True)
    assert run.weights.is_file()
    with pytest.raises(ConfigError, match="no validation split"):
        score_run(run.path)


def test_evaluation_may_have_the_size_of_training(tmp_path):
    config = tiny_config()
    config.augmentation.eval_size = (48, 40)
    task = build_task(config)
    sample = task.val_data[0]
    assert sample["image"].shape[-2:] == (48, 40)
    assert sample["mask"].shape != (48, 40)  # labels are scored at their own size
    image = torch.zeros(3, 50, 90, dtype=torch.uint8)
    assert task.model.preprocess(image).shape == (3, 48, 40)
    assert task.model.predict(image).shape == (50, 90)


def test_given_frequencies_and_groups(tmp_path):
    task = build_task(tiny_config())
    task.frequency.to_json(tmp_path / "f.json")
    options = {"dataset": "longtail-scenes", "size": [32, 32], "num_images": 12}
    data = {**options, "frequency": str(tmp_path / "f.json"), "groups": {"by": "rank", "sizes": [4, 12]}}
    assert build_task(tiny_config(data=data)).groups.sizes == (4, 12)
    other = ClassFrequency(("x", "y"), images=np.ones(2), pixels=np.ones(2))
    other.to_json(tmp_path / "f.json")
    with pytest.raises(ConfigError, match="counts 2 classes"):
        build_task(tiny_config(data=data))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"data": {}}, ConfigError, "data.dataset is not given"),
        ({"data": {"dataset": "nowhere"}}, ConfigError, "nowhere"),
        ({"augmentation": {"blur": 1}}, ConfigError, "blur"),
        ({"model": {"name": "deeplab"}}, ConfigError, "deeplab"),
        ({"method": {"name": "moe"}}, ConfigError, "moe"),
        ({"method": {"name": "medoe", "alfa": 1}}, ConfigError, "did you mean .alpha"),
    ],
)
def test_settings_that_cannot_work_name_themselves(tmp_path, changes, error, message):
    with pytest.raises(error, match=message):
        fit(tiny_config(**changes), tmp_path / "run", quiet=True)


def write_folder(root, parts=("train", "val"), images=2):
    """Images and labels of two classes."""
    for part in parts:
        for i in range(images):
            for kind, suffix in (("images", "jpg"), ("labels", "png")):
                (root / kind / part).mkdir(parents=True, exist_ok=True)
                red = 20 * len(list(root.rglob("*.jpg")))  # an image of its own, which JPEG keeps apart
                mode, value = ("RGB", (red % 256, red // 256 * 50, 0)) if kind == "images" else ("L", i % 2)
                Image.new(mode, (32, 32), value).save(root / kind / part / f"{i}.{suffix}")
    (root / "classes.json").write_text(json.dumps({"names": ["a", "b"]}))


def folder_config(root, **data):
    return tiny_config(
        data={"dataset": str(root), "groups": {"by": "rank", "sizes": [1, 1]}, **data},
        method={"name": "baseline"},
        iterations={"train": 4},
        loading={"batch_size": 2, "workers": 1},
    )


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda r: Image.new("L", (32, 32), 37).save(r / "labels/val/1.png"), r"val/1\.png holds value 37"),
        (lambda r: (r / "images/val/1.jpg").write_bytes(b"no picture"), r"cannot read image .*val/1\.jpg"),
        (lambda r: Image.new("RGB", (30, 32)).save(r / "images/val/0.jpg"), r"val/0\.png is 32x32.* 30x32"),
        (
            lambda r: [Image.new("L", (32, 32), 255).save(r / f"labels/val/{i}.png") for i in (0, 1)],
            r"2 images of 'val' have no labelled pixel",
        ),
        (lambda r: shutil.rmtree(r / "images/val"), r"no split 'val'\n.*data\.val_split ''"),
    ],
)
def test_validation_data_that_cannot_work_are_refused_before_training(tmp_path, damage, problem):
    write_folder(tmp_path)
    build_task(folder_config(tmp_path))
    damage(tmp_path)
    with pytest.raises(DataError, match=problem):
        build_task(folder_config(tmp_path))


@pytest.mark.parametrize("part", ["train", "val"])
def test_masks_of_0_and_255_are_refused_before_training(tmp_path, part):
    write_folder(tmp_path)
    Image.new("L", (32, 32), 255).save(tmp_path / "labels" / part / "1.png")
    with pytest.raises(DataError, match=rf"no pixel of .*{part}.* is 'b', while 1024 .*\n.*label_map \{{255: 1\}}"):
        build_task(folder_config(tmp_path))
    task = build_task(folder_config(tmp_path, label_map={255: 1}))
    assert task.frequency.pixels.tolist() == [1024, 1024]


def test_a_folder_without_splits_is_parted_and_says_so(tmp_path):
    write_folder(tmp_path, parts=("",), images=12)
    task = build_task(folder_config(tmp_path))
    assert not set(task.train_data.dataset.label_files) & set(task.val_data.label_files)
    said = dict(task.describe())
    assert len(task.train_data) + len(task.val_data) == 12 and "hash of its name" in said["split"]
    with pytest.raises(DataError, match=r"of the .* images of 'val' are training images"):
        build_task(folder_config(tmp_path, train_split="all"))
    assert len(build_task(folder_config(tmp_path, train_split="all", val_split="")).train_data) == 12
    write_folder(tmp_path / "split")
    both = folder_config(tmp_path / "split", val_split="train")  # asked for by name
    assert "split" not in dict(build_task(both).describe())


def test_a_run_is_resumed_with_a_copy_of_its_data_but_not_with_less(tmp_path):
    write_folder(tmp_path / "data", images=4)
    config = folder_config(tmp_path / "data")
    before = build_task(config).data_fingerprint
    shutil.copytree(tmp_path / "data", tmp_path / "copy", copy_function=shutil.copyfile)
    shutil.rmtree(tmp_path / "data")
    (tmp_path / "copy").rename(tmp_path / "data")
    assert build_task(config).data_fingerprint == before
    for file in ("images/train/3.jpg", "labels/train/3.png"):
        (tmp_path / "data" / file).unlink()
    assert build_task(config).data_fingerprint != before


def test_a_broken_label_stops_the_training_with_its_name(tmp_path):
    root = tmp_path / "data"
    write_folder(root)
    config = folder_config(root)
    fit(config, tmp_path / "good", quiet=True)
    (root / "images/train/1.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"1\.jpg"):
        fit(config, tmp_path / "bad", quiet=True)


@pytest.mark.parametrize(
    "sampling",
    [{"name": "repeat_factor", "threshold": 0.5}, {"name": "class_aware"}, {"name": "rare_class", "smallest": 5}],
    ids=str,
)
def test_sampling_by_class(sampling, tmp_path):
    data = {"dataset": "longtail-scenes", "size": [32, 32], "num_images": 8}
    task = build_task(
        tiny_config(method={"name": "baseline"}, iterations={"train": 2}, data={**data, "sampling": sampling})
    )
    drawn = [split(index, task.train_data.sampled) for index in task.order(torch.Generator().manual_seed(0))]
    assert all((drawn_for is not None) == (sampling["name"] == "rare_class") for _, drawn_for in drawn)
    assert task.train_data[task.order(torch.Generator().manual_seed(0))[0]]["mask"].ndim == 2
    fit(task.config, tmp_path / "run", task=task, quiet=True)
    assert (tmp_path / "run" / "best.safetensors").is_file()
