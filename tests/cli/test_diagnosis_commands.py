"""Reports, tables, comparisons and suspicious labels of anyone's predictions, from the command line."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from longtail.cli import main
from longtail.metrics.operating_points import read_thresholds
from longtail.metrics.results import Results
from support.tiny_detection import write_coco


@pytest.fixture(scope="module")
def boxes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("boxes")
    for split in ("train", "val"):
        write_coco(folder, split, count=6)
    content = json.loads((folder / "annotations/val.json").read_text())
    draw = np.random.default_rng(0)
    for name, wrong in (("good", 0.1), ("bad", 0.7)):
        found = []
        for a in content["annotations"]:
            category = 2 if draw.random() < wrong else a["category_id"]
            found.append(
                {
                    "image_id": a["image_id"],
                    "category_id": category,
                    "bbox": a["bbox"],
                    "score": 0.5 + draw.random() / 2,
                }
            )
        (folder / f"{name}.json").write_text(json.dumps(found))
    return folder


def test_score_report_tables_and_thresholds(boxes, tmp_path, capsys):
    words = [
        "score",
        "detection",
        "--annotations",
        f"{boxes}/annotations/val.json",
        "--detections",
        f"{boxes}/bad.json",
    ]
    words += [
        "--images",
        f"{boxes}/images",
        "--train",
        f"{boxes}/annotations/train.json",
        "--out",
        f"{tmp_path}/bad.json",
    ]
    words += [
        "--report",
        f"{tmp_path}/why.html",
        "--tables",
        f"{tmp_path}/tables",
        "--thresholds",
        f"{tmp_path}/t.json",
    ]
    assert main(words) == 0
    page = (tmp_path / "why.html").read_text()
    for title in ("Why detections are wrong", "Thresholds", "What would help", "Failures in pictures"):
        assert f"<h2>{title}</h2>" in page
    assert "data:image/jpeg" in page and 'data-pick="class 2"' in page
    assert (tmp_path / "bad.npz").is_file()
    rows = list(csv.DictReader((tmp_path / "tables/errors_by_class.csv").open()))
    assert {row["class"] for row in rows} == {"class 2", "class 3", "class 20"}
    assert len(read_thresholds(tmp_path / "t.json", ["class 2", "class 3", "class 20"])) == 3
    results = Results.load(tmp_path / "bad.json")
    labels = [a["category_id"] for a in json.loads((boxes / "annotations/train.json").read_text())["annotations"]]
    assert results.settings["groups_from"] == "training images"
    assert sorted(results.frequency["instances"]) == sorted(np.unique(labels, return_counts=True)[1].tolist())
    assert main([*words[:6], "--train_images", "x"]) == 2
    assert "without --images" in capsys.readouterr().err


def test_a_data_set_has_its_photographs_and_its_training_split(boxes, tmp_path, capsys):
    words = ["score", "detection", "--data", f"{boxes}", "--detections", f"{boxes}/bad.json", "--out", f"{tmp_path}"]
    assert main([*words, "--train_split", "train", "--report", f"{tmp_path}/why.html"]) == 0
    page = (tmp_path / "why.html").read_text()
    assert "data:image/jpeg" in page and "<h2>Failures in pictures</h2>" in page
    assert Results.load(next(tmp_path.glob("*.json"))).settings["groups_from"] == "training images"
    assert main([*words, "--train_split", "train", "--train", f"{boxes}/annotations/train.json"]) == 2
    assert "--train_split with --train" in capsys.readouterr().err


def test_compare_files_and_their_records(boxes, tmp_path, capsys):
    of = ["--annotations", f"{boxes}/annotations/val.json"]
    files = [f"{boxes}/{name}.json" for name in ("bad", "good")]
    assert main(["compare", *files, *of, "--draws", "200", "--report", f"{tmp_path}/page.html"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Differences to bad with their intervals" in out and "6 images, 200 draws" in out and "tell nothing" in out
    records = []
    for file in files:
        records.append(f"{tmp_path}/{file.rpartition('/')[2]}")
        assert main(["score", "detection", *of, "--detections", file, "--out", records[-1]]) == 0
    capsys.readouterr()
    assert main(["compare", *records, "--draws", "200"]) == 0
    assert "200 draws" in capsys.readouterr().out
    (tmp_path / "good.npz").unlink()
    assert main(["compare", *records, "--draws", "200"]) == 0
    assert "good kept no scores image by image" in capsys.readouterr().err
    assert main(["compare", records[0]]) == 2
    assert "nothing to compare with" in capsys.readouterr().err


def test_suspicious_boxes(boxes, tmp_path, capsys):
    other = json.loads((boxes / "bad.json").read_text())
    (tmp_path / "other.json").write_text(json.dumps([{**found, "score": found["score"] * 0.99} for found in other]))
    words = ["check-labels", f"{boxes}/bad.json", f"{tmp_path}/other.json"]
    words += ["--annotations", f"{boxes}/annotations/val.json"]
    groups = ["--groups", "[rare, common]", "--images", f"{boxes}/images", "--out", str(tmp_path)]
    assert main([*words, *groups, "--trained_on_these"]) == 0
    rows = list(csv.DictReader((tmp_path / "suspicious.csv").open()))
    assert (
        rows
        and {row["suggested"] for row in rows} == {"class 2"}
        and {row["trained_on_these"] for row in rows} == {"True"}
    )
    page = (tmp_path / "suspicious.html").read_text()
    assert "data:image/jpeg" in page and "learned wrong labels by heart" in page
    assert "by heart" in capsys.readouterr().err
    assert main([*words[:2], *words[3:], "--out", str(tmp_path)]) == 2
    assert "one model alone" in capsys.readouterr().err
    (tmp_path / "copy.json").write_bytes((boxes / "bad.json").read_bytes())
    assert main([*words[:2], f"{tmp_path}/copy.json", *words[3:], "--out", str(tmp_path)]) == 2
    assert "copy.json are the same predictions" in capsys.readouterr().err


def test_suspicious_regions_and_reports_of_label_images(tmp_path, capsys):
    data = tmp_path / "data"
    names = ["ground", "thing", "rare thing"]
    for folder in ("images/val", "labels/val", "images/train", "labels/train"):
        (data / folder).mkdir(parents=True)
    for place in range(3):
        truth = np.zeros((48, 64), dtype=np.uint8)
        truth[8:32, 8:40] = 1
        truth[36:46, 40:60] = 2 if place else 0
        predicted = np.where(truth == 2, 1, truth)
        for split in ("val", "train"):
            Image.new("RGB", (64, 48)).save(data / f"images/{split}/{split}{place}.png")
            Image.fromarray(truth).save(data / f"labels/{split}/{split}{place}.png")
        for model in ("a", "b"):
            (tmp_path / model).mkdir(exist_ok=True)
            Image.fromarray(predicted).save(tmp_path / model / f"val{place}.png")
    (data / "classes.json").write_text(json.dumps({"names": names, "ignore_index": 255}))
    words = ["check-labels", f"{tmp_path}/a", f"{tmp_path}/b", "--data", str(data), "--groups", "[head]"]
    assert main([*words, "--out", f"{tmp_path}/out"]) == 0
    rows = list(csv.DictReader((tmp_path / "out/suspicious.csv").open()))
    assert [(row["label"], row["suggested"], row["confidence"]) for row in rows] == [("rare thing", "thing", "1.0")] * 2
    score = ["score", "segmentation", "--data", str(data), "--predictions", f"{tmp_path}/a", "--train_split", "train"]
    assert main([*score, "--report", f"{tmp_path}/why.html", "--out", f"{tmp_path}/why.json"]) == 0
    results = Results.load(tmp_path / "why.json")
    assert results.settings["groups_from"].startswith("frequency") and results.frequency["pixels"][1:] == [2304, 400]
    assert main([*score[:2], "--labels", f"{data}/labels/val", *score[4:]]) == 2
    assert "--train_split without --data" in capsys.readouterr().err
    page = (tmp_path / "why.html").read_text()
    assert "Where wrong pixels go" in page and "training" in page and page.count("data:image/jpeg") >= 3
    assert main(["compare", f"{tmp_path}/a", f"{tmp_path}/b", "--data", str(data), "--draws", "50"]) == 0
    assert "boundary_mIoU" in capsys.readouterr().out
