import csv
import json
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml

from longtail.errors import ConfigError, DataError
from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.metrics.detection_truth import DetectionTruth
from longtail.metrics.results import Results
from longtail.models.detector import Detector
from longtail.samplers.build import build_sampler
from longtail.settings import from_dict, read_yaml, write_yaml
from longtail.training.detection_config import DetectionConfig, DetectionGroupsConfig, DetectorConfig
from longtail.training.evaluate_detection import evaluation_groups
from longtail.training.groups import object_groups
from longtail.training.loading import BatchPlan
from longtail.training.run import build_task, fit, score_run
from longtail.training.tasks.base import Task
from longtail.training.tasks.detection import DetectionTask
from support.tiny_detection import tiny_config, tiny_settings, write_coco


def test_settings_load_without_torch_and_replay(tmp_path):
    script = "import sys, longtail.training.detection_config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
    write_yaml(tiny_config(), tmp_path / "config.yaml")
    assert from_dict(DetectionConfig, read_yaml(tmp_path / "config.yaml")) == tiny_config()


def test_recipe_of_the_paper():
    optimiser = from_dict(DetectionConfig, {"optimiser": {"lr": 0.01}}).resolved(("train",)).optimiser
    assert (optimiser.lr, optimiser.weight_decay, optimiser.momentum) == (0.01, 1e-4, 0.9)
    assert (optimiser.schedule, optimiser.warmup_iterations, optimiser.warmup_start) == ("step", 1000, 0.1)
    assert from_dict(DetectionConfig, {"optimiser": {"name": "adamw"}}).optimiser.recipe("lr") == 1e-4


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": {"overall_weight": 2}}, r"overall_weight \(lambda\) is 2"),
        ({"data": {"groups": {"by": "explicit"}}}, "explicit without members"),
        ({"data": {"sampling": {"name": "random", "seed": 1}}}, "there is no sampler 'random'"),
        ({"model": {"ious": [1.5]}}, r"model\.ious"),
        ({"augmentation": {"short_sides": []}}, "short_sides is empty"),
        ({"evaluation": {"scales": [0]}}, r"evaluation\.scales is 0"),
    ],
)
def test_what_cannot_work_is_refused_with_its_name(values, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(DetectionConfig, values)


def with_data(**changes) -> DetectionConfig:
    return tiny_config(data={**tiny_settings()["data"], **changes})


def test_groups():
    frequency = DetectionTask.count(DetectionTask.open(tiny_config(), "train"))
    counts = frequency.counts("instances")
    for settings, expected in (
        ({"edges": [2, 5]}, (counts >= 2).astype(int) + (counts >= 5)),
        ({"by": "lvis"}, (frequency.images > 10).astype(int)),
        ({"edges": [1, 2, 5]}, (counts >= 1).astype(int) + (counts >= 2) + (counts >= 5)),
    ):
        groups = object_groups(with_data(groups=settings).data.groups, frequency)
        assert groups.group_of.tolist() == expected.tolist()
    with pytest.raises(ConfigError, match="name 2 classes of 12"):
        object_groups(with_data(groups={"by": "explicit", "members": {"all": [0, 1]}}).data.groups, frequency)


class AnnotationsOf(DetectionTruth):
    """Annotations of which only the groups and the rules are known."""

    groups_and_source = None

    def __init__(self, groups: CategoryGroups, source: str, federated: bool) -> None:
        self.groups_and_source, self.federated = (groups, source), federated


@pytest.mark.parametrize(
    ("by", "federated", "expected"),
    [
        ("auto", False, "training"),
        ("auto", True, "file"),
        ("training", True, "training"),
        ("file", False, "file"),
        ("standard", False, "standard"),
        ("standard", True, "file"),
    ],
)
def test_groups_to_score_by(by, federated, expected):
    frequency = ClassFrequency(tuple("abcd"), images=np.array([3, 3, 3, 3]), instances=np.array([9, 10, 99, 100]))
    known = {
        "training": CategoryGroups.by_count([1, 2, 3, 4], (2, 3, 4), ("w", "x", "y", "z")),
        "file": CategoryGroups.explicit({"rare": [3], "common": [2], "frequent": [0, 1]}),
        "standard": CategoryGroups.explicit({"rare": [0], "common": [1, 2], "frequent": [3]}),
    }
    truth = AnnotationsOf(known["file"], "letters", federated)
    assert tiny_config(evaluation={"groups": by}).evaluation.groups == by
    groups, source = evaluation_groups(by, known["training"], frequency, truth)
    assert groups == known[expected]
    assert source == {"training": "those of training", "file": "letters", "standard": "training instances"}[expected]


@pytest.mark.parametrize("by", ["auto", "file", "standard"])
def test_federated_annotations_without_groups_have_lvis_groups_of_the_training_images(by):
    frequency = ClassFrequency(tuple("abc"), images=np.array([10, 11, 101]), instances=np.array([200, 200, 200]))
    everyone = CategoryGroups.explicit({"all": range(3)})
    groups, source = evaluation_groups(by, everyone, frequency, AnnotationsOf(everyone, "", federated=True))
    assert groups.to_dict() == {"rare": [0], "common": [1], "frequent": [2]} and source == "training images"


@pytest.mark.parametrize("sampling", [{"name": "repeat_factor", "threshold": 0.9}, {"name": "class_aware"}], ids=str)
def test_samplers_resume_and_part_over_ranks(sampling):
    config = with_data(sampling=sampling)
    facts = DetectionTask.sampling_facts(DetectionTask.open(config, "train"), config.data.limit)
    order = build_sampler(config.data.sampling.to_dict(), facts)

    def batches(start: int = 0, ranks: int = 1, rank: int = 0) -> list:
        return list(BatchPlan(order, 4, 1, ranks, rank, 12, 7, "train").batches(start))

    whole = batches()
    assert batches(start=5) == whole[5:]
    halves = zip(batches(ranks=2, rank=0), batches(ranks=2, rank=1), strict=True)
    assert [a + b for a, b in halves] == whole
    shown = np.array([index for batch in whole for _, index in batch])
    assert shown.max() < 6  # data.limit
    assert len(np.unique(np.bincount(shown, minlength=6))) > 1  # not every image as often as the others


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    torch.set_num_threads(1)
    done = fit(tiny_config(), tmp_path_factory.mktemp("runs") / "mec", quiet=True)
    score_run(done.path, progress=False)
    return done


def test_a_run_trains_scores_and_loads(run):
    results = Results.load(run.results)
    assert results.method == "mec" and "stage_3" in results.predictions
    assert {"AP", "AP_fixed", "mask_AP"} <= set(results.own.overall)
    assert results.settings["task"] == "detection" and (run.pictures / "index.json").is_file()
    detector = Detector.from_pretrained(run.path)
    assert list(detector.groups.names) == ["rare", "common", "frequent"]
    assert detector.input["short_side"] == 48 and detector.frequency.counts("instances").sum() > 0
    lines = run.metrics.read_text().splitlines()
    assert all(name in lines[0] for name in ("loss/stage_1_class", "val/AP", "positives/stage_1/rare", "memory_gb"))


def test_a_run_resumes_where_it_was(run, tmp_path):
    """Three iterations at once, or one and two more: the same weights."""
    config = tiny_config(logging={**tiny_settings()["logging"], "checkpoint_interval": 1})
    task = DetectionTaskThatStops(config)
    with pytest.raises(RuntimeError, match="power cut"):
        fit(config, tmp_path / "run", task=task, quiet=True)
    done = fit(config, tmp_path / "run", resume=True, quiet=True)
    one, other = Detector.from_pretrained(run.path).state_dict(), Detector.from_pretrained(done.path).state_dict()
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_htc_trains_its_semantic_branch(tmp_path):
    model = tiny_settings()["model"]
    model = {**model, "name": "htc", "semantic_classes": 16}
    config = with_data(train_options={"semantic": True})
    config = replace(config, model=from_dict(DetectorConfig, model))
    done = fit(config, tmp_path / "htc", quiet=True)
    rows = list(csv.DictReader(done.metrics.open()))
    assert all(0 < float(row["loss/semantic"]) < 1 for row in rows if row["loss"])  # 0.2 ln 16 = 0.55 at first
    detector = Detector.from_pretrained(done.path)
    assert detector.method.heads.semantic.classifier.out_channels == 16
    with pytest.raises(ConfigError, match="no semantic maps"):
        DetectionTask(replace(config, data=tiny_config().data))


def test_a_length_in_epochs_counts_what_the_sampler_shows(tmp_path):
    sampling = {"name": "repeat_factor", "threshold": 0.9}
    settings = tiny_settings(epochs={"train": 1}, data={**tiny_settings()["data"], "sampling": sampling})
    config = from_dict(DetectionConfig, {**settings, "iterations": {}})
    assert ("phases", "train 1 epochs") in DetectionTask(config).describe()
    done = fit(config, tmp_path / "run", quiet=True)
    resolved = read_yaml(done.settings)
    shown = len(build_task(config).order(torch.Generator().manual_seed(0)))
    assert shown > 6  # more than the images of data.limit
    assert resolved["iterations"] == {"train": math.ceil(shown / 2)} and resolved["epochs"] == {}
    settings = {key: value for key, value in resolved.items() if key != "epochs"}  # as older versions wrote it
    done.settings.write_text(yaml.safe_dump(settings))
    fit(config, done.path, resume=True, quiet=True)


class DetectionTaskThatStops(DetectionTask):
    """Is interrupted in its third batch, with two iterations saved."""

    def __init__(self, config: DetectionConfig) -> None:
        from longtail.training.randomness import seed_generators

        seed_generators(config.seed, "model")
        super().__init__(config)
        self.seen = 0

    def inputs(self, batch):
        self.seen += 1
        if self.seen == 3:
            raise RuntimeError("power cut")
        return super().inputs(batch)


def test_task_meets_its_contract_and_says_what_it_does(tmp_path):
    for split in ("train", "val"):
        write_coco(tmp_path, split, seed=len(split))
    config = tiny_config(
        data={"dataset": str(tmp_path), "groups": {"edges": [2, 5]}},
        model={**tiny_settings()["model"], "name": "cascade", "classifier": "cosine"},
        method={"name": "baseline"},
    )
    task = DetectionTask(config)
    assert isinstance(task, Task) and not task.method.has_masks  # boxes only in the files
    assert task.model.category_ids.tolist() == [2, 3, 20]
    batch = task.collate([task.train_data[0], task.train_data[1]])  # the second one is empty
    losses = task.method.losses(*task.inputs(batch))
    assert all(math.isfinite(value.item()) for value in losses.values())
    assert task.validate(torch.device("cpu")).values.keys() >= {"AP", "AP50"}
    words = dict(task.describe())
    assert "5 train, 5 val" in words["data"] and "baseline" in words["model"]


def test_what_cannot_be_trained_or_scored_is_refused_before_training(tmp_path):
    config = tiny_config(data={"dataset": str(tmp_path)})
    for split in ("train", "val"):
        write_coco(tmp_path, split)
    val = json.loads((tmp_path / "annotations/val.json").read_text())
    broken = [{**val["annotations"][0], "bbox": [1, 2, 3, 4, 5]}]
    (tmp_path / "annotations/val.json").write_text(json.dumps({**val, "annotations": broken}))
    with pytest.raises(DataError, match=r"annotation 1 of .*val\.json has the box \[1, 2, 3, 4, 5\]"):
        DetectionTask(config)
    (tmp_path / "annotations/train.json").write_text(json.dumps({**val, "annotations": []}))
    with pytest.raises(DataError, match="the 5 images of train have no objects"):
        DetectionTask(config)


def test_says_that_the_validation_split_has_no_masks(tmp_path):
    for split in ("train", "val"):
        write_coco(tmp_path, split)
    file = tmp_path / "annotations/train.json"
    content = json.loads(file.read_text())
    for a in content["annotations"]:
        left, top, width, height = a["bbox"]
        a["segmentation"] = [[left, top, left + width, top, left + width, top + height]]
    file.write_text(json.dumps(content))
    task = DetectionTask(tiny_config(data={"dataset": str(tmp_path), "groups": {"edges": [4, 5]}}))
    assert task.has_masks and ("masks", "val has none: boxes alone are scored") in task.describe()


def test_splits_of_other_classes_are_refused(tmp_path):
    write_coco(tmp_path, "train")
    write_coco(tmp_path, "val")
    file = tmp_path / "annotations/val.json"
    file.write_text(file.read_text().replace("class 20", "class twenty"))
    with pytest.raises(DataError, match="3 classes and val 3; class 2 is 'class 20' and 'class twenty'"):
        DetectionTask(tiny_config(data={"dataset": str(tmp_path)}))
    by_path = tiny_config(data={"dataset": "longtail.datasets.longtail_scenes.LongTailScenes", "num_images": 2})
    assert DetectionTask.open(by_path, "train").task == "detection"


def test_one_file_for_both_splits_is_refused_unless_it_is_parted(tmp_path):
    write_coco(tmp_path, "train", 12)
    data = {"dataset": str(tmp_path), "annotations": "annotations/train.json", "groups": {"edges": [3, 5]}}
    with pytest.raises(DataError, match=r"12 of the 12 images of 'val' are training images(.|\n)*data.val_share"):
        DetectionTask(tiny_config(data=data))
    task = DetectionTask(tiny_config(data={**data, "val_share": 0.4}, method={"name": "baseline"}))
    assert len(task.val_data) + task.train_data.sampled == 12
    assert any(subject == "split" and "val (40%)" in words for subject, words in task.describe())
    by_picture = {**data, "split_by": r"picture (\d)", "val_share": 0.4}
    assert len(DetectionTask.open(tiny_config(data=by_picture), "val"))


def test_paths_of_options_are_of_the_data_or_of_the_working_folder(tmp_path, monkeypatch):
    write_coco(tmp_path / "data", "train")
    monkeypatch.chdir(tmp_path)
    for given in (
        "annotations/{split}.json",
        "data/annotations/train.json",
        str(tmp_path / "data/annotations/train.json"),
    ):
        data = {"dataset": "data", "train_options": {"annotations": given}}
        assert len(DetectionTask.open(tiny_config(data=data), "train", training=True)) == 5
    data = {"dataset": "data", "train_options": {"annotations": "elsewhere.json"}}
    with pytest.raises(DataError, match=r"neither data/elsewhere.json nor .*elsewhere.json"):
        DetectionTask.open(tiny_config(data=data), "train", training=True)


def test_groups_by_rank_and_mass():
    frequency = ClassFrequency(tuple("abcde"), images=np.ones(5), instances=np.array([80, 12, 5, 2, 1]))
    rank = object_groups(DetectionGroupsConfig(by="rank", sizes=(2, 2, 1)), frequency)
    assert rank.to_dict() == {"rare": [3, 4], "common": [1, 2], "frequent": [0]}
    # the most frequent class holds 80 % alone; b begins at 80 and c at 92 % of the instances, both before 95 %
    mass = object_groups(DetectionGroupsConfig(by="mass"), frequency)
    assert mass.to_dict() == {"rare": [3, 4], "common": [1, 2], "frequent": [0]}
    four = object_groups(DetectionGroupsConfig(by="rank", sizes=(2, 1, 1, 1)), frequency)
    assert four.names == ("group_1", "group_2", "group_3", "group_4") and four.members[0] == (3, 4)
    with pytest.raises(ConfigError, match="rank without sizes"):
        DetectionGroupsConfig(by="rank")
    with pytest.raises(ConfigError, match="sum to 4"):
        object_groups(DetectionGroupsConfig(by="rank", sizes=(2, 2)), frequency)


def test_augmentations_of_rare_objects():
    settings = {"short_sides": [48], "short_side": 48, "max_side": 100}
    plain = build_task(tiny_config(augmentation=settings))
    rich = {"copy_paste": 1.0, "jitter": [0.8, 1.25], "photometric": True}
    pasting = build_task(tiny_config(augmentation={**settings, **rich}))
    torch.manual_seed(0)
    counts = [[len(task.train_data[i][1]["labels"]) for i in range(6)] for task in (plain, pasting)]
    assert sum(counts[1]) > sum(counts[0])
    image, target = pasting.train_data[0]
    assert image.shape[-1] <= 48 and target["masks"].shape[-2:] == image.shape[-2:]
    losses = pasting.method.losses(*pasting.inputs(pasting.collate([(image, target)])))
    assert all(torch.isfinite(value) for value in losses.values())
