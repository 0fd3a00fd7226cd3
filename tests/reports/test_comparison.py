import dataclasses

import numpy as np
import pytest

from longtail.diagnosis.failure_file import Failure, save_failures
from longtail.errors import DataError
from longtail.reports.comparison import Comparison, Run, display_name
from support.fake_runs import make_detection_results, make_results, write_run


@pytest.fixture
def comparison(tmp_path):
    baseline = write_run(tmp_path / "a", make_results("baseline", 12))
    method = write_run(tmp_path / "b", make_results("medoe", 12, experts=3))
    return Comparison.load([baseline, method / "results.json"])


def test_roles_and_order(comparison):
    assert [(e.label, e.role) for e in comparison.entries] == [
        ("Baseline", "baseline"),
        ("MEDOE", "method"),
        ("Group average", "ensemble"),
        ("Oracle", "oracle"),
        ("Expert 1", "expert"),
        ("Expert 2", "expert"),
        ("Expert 3", "expert"),
    ]
    assert comparison.method.label == "MEDOE"
    assert comparison.baseline.label == "Baseline"
    assert [e.label for e in comparison.headline] == ["Baseline", "MEDOE", "Oracle"]
    assert comparison.group_metrics == ["mIoU", "mAcc"]
    assert comparison.class_metrics == ["IoU", "Acc"]


def test_one_run_has_no_baseline(tmp_path):
    alone = Comparison.load([write_run(tmp_path / "a", make_results("baseline", 5))])
    assert alone.baseline is None
    assert alone.method.role == "method"


def test_equal_methods_are_told_apart(tmp_path):
    runs = [write_run(tmp_path / name, make_results("medoe", 5, experts=2)) for name in ("seed0", "seed1")]
    labels = [e.label for e in Comparison.load(runs).entries]
    assert labels[:2] == ["MEDOE (seed0)", "MEDOE (seed1)"]
    assert "MEDOE (seed1) · Oracle" in labels
    assert len(set(labels)) == len(labels)
    assert len({e.label for e in Comparison.load([runs[0], runs[0]]).entries}) == len(labels)


def test_order_and_counts_with_and_without_frequency(tmp_path, comparison):
    counts, unit = comparison.counts
    assert unit == "training pixels"
    assert (np.diff(counts[comparison.order]) <= 0).all()
    without = Comparison.load([write_run(tmp_path / "c", make_results("medoe", 12, with_frequency=False))])
    counts, unit = without.counts
    assert unit.startswith("evaluated pixels")
    assert counts.tolist() == np.sum(without.method.prediction.extra["confusion"], axis=1).tolist()
    results = make_results("medoe", 12, with_frequency=False)
    del results.predictions["medoe"].extra["confusion"]
    bare = Comparison.load([write_run(tmp_path / "d", results)])
    assert bare.counts is None
    assert (np.diff(bare.groups.group_of[bare.order]) >= 0).all()


def test_detection_counts_instances(tmp_path):
    detection = Comparison.load([write_run(tmp_path / "a", make_detection_results("mec"))])
    assert detection.counts[1] == "training instances"
    assert np.isnan(detection.values(detection.method, "AP")[7])
    assert np.isnan(detection.values(detection.method, "no such metric")).all()


@pytest.mark.parametrize("change", [{"task": "detection"}, {"groups": {"all": list(range(12))}}])
def test_refuses_runs_that_differ(tmp_path, change):
    results = make_results("medoe", 12)
    runs = [write_run(tmp_path / "a", results), write_run(tmp_path / "b", dataclasses.replace(results, **change))]
    with pytest.raises(DataError, match=next(iter(change))):
        Comparison.load(runs)


def test_refuses_nothing_and_folders_without_results(tmp_path):
    with pytest.raises(DataError):
        Comparison.load([])
    with pytest.raises(DataError, match=r"results\.json"):
        Comparison.load([tmp_path])


def test_names():
    assert display_name("stage_2") == "Stage 2"
    assert display_name("softmax_threshold") == "Softmax threshold"
    assert display_name("my_model") == "my_model"


def test_what_lies_next_to_results_at_hand_is_not_theirs(tmp_path):
    folder = write_run(tmp_path / "a", make_results("medoe", 5), pictures=1)
    save_failures({"building": [Failure("missed", "", "")]}, folder / "pictures")
    read = Comparison.load([folder]).focus
    assert read.pictures is not None and list(read.failures) == ["building"]
    at_hand = Run("mine", read.results, folder / "results.json", {})
    assert at_hand.pictures is None and at_hand.failures == {} and at_hand.images == {}
