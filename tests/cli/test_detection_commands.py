import json

import numpy as np
import pytest
import torch
import yaml

from longtail.cli import main
from longtail.datasets.coco import Coco
from longtail.frequency import ClassFrequency
from longtail.metrics.detection_arrays import DetectionArrays
from longtail.metrics.operating_points import save_thresholds
from longtail.metrics.results import Results
from support.detection_layouts import voc, yolo
from support.tiny_detection import tiny_settings, write_coco


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for split in ("train", "val"):
        write_coco(folder, split)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory, data):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("runs")
    settings = tiny_settings(data={"dataset": str(data), "groups": {"edges": [4, 5]}}, iterations={"train": 2})
    (folder / "tiny.yaml").write_text(yaml.safe_dump(settings))
    assert main(["train", "detection", "--config", str(folder / "tiny.yaml"), "--run", str(folder / "mec")]) == 0
    return folder / "mec"


def test_train_evaluate_predict_and_report(run, data, tmp_path, capsys):
    results = Results.load(run / "results.json")
    assert results.task == "detection" and {"mec", "sparse", "stage_3"} <= set(results.predictions)
    assert (run / "results.npz").is_file() and (run / "pictures/failures.json").is_file()
    assert "errors" in results.own.extra and "errors" not in results.predictions["sparse"].extra
    words = ["evaluate", str(run), "--readouts", "[average]", "--record", str(tmp_path / "rec"), "--flip"]
    assert main([*words, "--out", str(tmp_path / "again"), "--workers", "0", "--limit", "3"]) == 0
    again = Results.load(tmp_path / "again/results.json")
    assert again.method == "average" and again.data["images"] == 3 and again.settings["evaluation"]["flip"]
    assert list((tmp_path / "rec").iterdir())
    again = ["score", "stages", str(tmp_path / "rec"), "--annotations", str(data / "annotations/val.json")]
    tried = [
        "--ensembles",
        "{plain: average, own: {name: sparse, background: singleton}}",
        "--temperatures",
        "[0.1, 2]",
    ]
    assert main([*again, *tried, "--readouts", "[]", "--quick", "--out", str(tmp_path / "stages.json")]) == 0
    stages = Results.load(tmp_path / "stages.json")
    assert list(stages.predictions) == ["plain", "own", "tau_0.1", "tau_2"] and stages.data["images"] == 3
    assert stages.settings["groups_from"] == "those of training"
    capsys.readouterr()
    assert main([*again, "--readouts", "[mec]", "--quick", "--groups", "file"]) == 0
    assert "Groups: image counts of the annotation file" in " ".join(capsys.readouterr().out.split())
    assert main([*again, "--kept", "0"]) == 2
    assert main([*again, "--ensembles", "{a: {name: dynamic, heat: 1}}"]) == 2
    assert "heat" in capsys.readouterr().err
    assert main(["evaluate", str(run), "--window", "[32, 32]"]) == 2
    assert "--window is not for detection" in capsys.readouterr().err
    words = ["predict", str(run), str(data / "images/val"), "--out", str(tmp_path / "out")]
    assert main([*words, "--window", "[9, 9]"]) == 2
    assert "--window is not for detection" in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert main(words) == 0
    assert "5 written" in capsys.readouterr().out and (tmp_path / "out/detections.json").is_file()
    assert main([*words, "--threshold", "0.9"]) == 2
    assert "threshold 0.3 -> 0.9" in capsys.readouterr().err
    names = results.class_names
    save_thresholds({"threshold": [1.1] * len(names)}, names, tmp_path / "thresholds.json")
    words[words.index("--out") + 1] = str(tmp_path / "cut")
    assert main([*words, "--thresholds", str(tmp_path / "thresholds.json")]) == 0
    assert json.loads((tmp_path / "cut/detections.json").read_text()) == []
    assert main(["report", str(run), "--out", str(tmp_path / "report.html")]) == 0
    assert "data:image/jpeg" in (tmp_path / "report.html").read_text()


def test_score_detection(data, tmp_path, capsys):
    dataset = Coco(data, "val")
    samples = [dataset[i] for i in range(5)]
    right = DetectionArrays(
        np.array([s["image_id"] for s in samples for _ in s["labels"]]),
        torch.cat([s["boxes"] for s in samples]).numpy(),
        torch.linspace(1, 0.1, 12).numpy(),
        torch.cat([s["labels"] for s in samples]).numpy(),
    )
    right.to_json(tmp_path / "right.json", dataset.category_ids)
    (tmp_path / "none.json").write_text("[]")
    words = ["score", "detection", "--annotations", str(data / "annotations/val.json"), "--detections"]
    files = [str(tmp_path / "right.json"), str(tmp_path / "none.json")]
    assert main([*words, *files, "--iou-type", "bbox", "--out", str(tmp_path / "r.json")]) == 0
    results = Results.load(tmp_path / "r.json")
    assert results.own.overall["AP"] == pytest.approx(1) and results.predictions["none"].overall["AP"] == 0
    assert main([*words, files[0], "--federated", "--out", str(tmp_path / "f.json")]) == 0
    assert Results.load(tmp_path / "f.json").settings["federated"]
    assert main([*words, files[0], "--iou_type", "segm"]) == 2
    capsys.readouterr()
    assert main([*words, files[0], files[0]]) == 2
    assert f"names {files[0]} 2 times" in capsys.readouterr().err
    assert main([*words, *files, "--name", "mine"]) == 2
    assert main([*words, files[0], "--max_detections", "-1"]) == 2
    assert "max_detections is -1" in capsys.readouterr().err
    assert main([*words, files[0], "--edges", "[2, 5]"]) == 2
    assert "--frequency" in capsys.readouterr().err
    frequency = tmp_path / "f.json.counts"
    counted = ["count", str(data / "annotations/train.json"), "--edges", "[2, 5]", "--out", str(frequency)]
    assert main([*counted, "--plot", str(tmp_path / "counts.png")]) == 0
    assert "instances" in capsys.readouterr().out and (tmp_path / "counts.png").is_file()
    assert ClassFrequency.from_json(frequency).counts("instances").sum() == 12
    capsys.readouterr()
    assert main([*words, files[0], "--edges", "[2, 5]", "--frequency", str(frequency)]) == 0
    assert "Groups: training instances" in " ".join(capsys.readouterr().out.split())
    assert main([*words, files[0]]) == 0
    assert "Groups: image counts of the annotation file" in " ".join(capsys.readouterr().out.split())


def test_evaluate_keeps_the_runs_own_scores(run, capsys):
    before = (run / "results.json").read_bytes()
    for others in (["--split", "train"], ["--readouts", "[average]"], ["--scales", "[1, 2]"], ["--flip"]):
        assert main(["evaluate", str(run), *others]) == 2
        assert "--out" in capsys.readouterr().err
    assert (run / "results.json").read_bytes() == before


def test_build_coco_lt(data, tmp_path, capsys):
    annotations = str(data / "annotations/train.json")
    out = tmp_path / "lt"
    assert main(["build-coco-lt", annotations, "--reference", annotations, "--out", str(out), "--free", "1"]) == 0
    assert "objects of 12" in capsys.readouterr().out
    assert {p.name for p in out.iterdir()} == {"train.json", "images.txt", "counts.json", "distribution.svg"}
    assert json.loads((out / "train.json").read_text())["categories"][0]["name"] == "class 2"


def test_count_proposes_edges_and_takes_ranks(data, capsys):
    file = str(data / "annotations/train.json")
    assert main(["count", file]) == 0
    assert "no class of common, frequent has an object" in capsys.readouterr().err
    assert main(["count", file, "--groups.by", "rank", "--groups.sizes", "[1, 1, 1]"]) == 0
    assert not capsys.readouterr().err
    assert main(["count", file, "--split", "val"]) == 2
    assert "counted whole" in capsys.readouterr().err
    assert main(["count", str(data / "annotations/{split}.json"), "--split", "val"]) == 0
    assert main(["count", file, "--options", "{val_share: 0.5}", "--split", "all"]) == 0


def test_train_on_one_layout_and_evaluate_on_another(tmp_path, capsys):
    yolo(tmp_path / "yolo")
    voc(tmp_path / "voc")
    settings = tiny_settings(
        data={"dataset": str(tmp_path / "yolo")}, iterations={"train": 1}, method={"name": "baseline"}
    )
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(settings))
    run = str(tmp_path / "run")
    assert main(["train", "detection", "--config", str(tmp_path / "tiny.yaml"), "--run", run]) == 0
    assert "1 images have no label file" in capsys.readouterr().out
    words = ["evaluate", run, "--data", str(tmp_path / "voc"), "--split", "val", "--workers", "0"]
    assert main([*words, "--out", str(tmp_path / "voc-scores")]) == 0
    scores = [Results.load(tmp_path / folder / "results.json") for folder in ("run", "voc-scores")]
    assert [s.data["images"] for s in scores] == [3, 3] and scores[0].class_names == scores[1].class_names == [
        "cat",
        "dog",
    ]
