"""Folders of true labels as people have them: colours, masks of 0 and 255, ids from 1 on."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from longtail.cli import main
from longtail.frequency import ClassFrequency
from longtail.metrics.results import Results

IDS = np.array([[0, 0, 1, 2], [0, 1, 1, 2]], np.uint8)
COLOURS = np.array([[0, 0, 0], [200, 10, 10], [10, 10, 200]], np.uint8)
NAMES = ("sky", "cat", "owl")
FILES = {
    "labelmap.txt": "# label:color_rgb:parts:actions\nsky:0,0,0::\ncat:200,10,10::\nowl:10,10,200::\n",
    "class_dict.csv": "name,r,g,b\nsky,0,0,0\ncat,200,10,10\nowl,10,10,200\n",
    "classes.json": json.dumps({"names": NAMES, "palette": COLOURS.tolist()}),
}


def folders(root: Path, labels: np.ndarray, predicted: np.ndarray = IDS) -> list[str]:
    for name, values in (("labels", labels), ("predictions", predicted)):
        (root / name).mkdir()
        Image.fromarray(values).save(root / name / "one.png")
    places = ["--labels", str(root / "labels"), "--predictions", str(root / "predictions")]
    return ["score", "segmentation", *places, "--out", str(root / "r.json")]


@pytest.mark.parametrize("file", FILES)
def test_colours_are_read_by_the_file_of_classes(file: str, tmp_path: Path, capsys) -> None:
    words = folders(tmp_path, COLOURS[IDS])
    assert main(words) == 2  # colours of which nothing is known
    (tmp_path / "labels" / file).write_text(FILES[file])
    assert main(words) == 0
    results = Results.load(tmp_path / "r.json")
    assert results.own.overall["mIoU"] == 1 and tuple(results.class_names) == NAMES
    assert results.settings["classes_from"].endswith(file)
    Image.fromarray(COLOURS[IDS] // 2).save(tmp_path / "labels/one.png")
    capsys.readouterr()
    assert main(words) == 2
    assert "(100, 5, 5) (3 pixels)" in capsys.readouterr().err


def test_the_file_of_classes_may_lie_elsewhere(tmp_path: Path) -> None:
    words = folders(tmp_path, COLOURS[IDS])
    (tmp_path / "own").mkdir()
    (tmp_path / "own/labelmap.txt").write_text(FILES["labelmap.txt"])
    assert main([*words, "--classes", str(tmp_path / "own/labelmap.txt")]) == 0
    assert Results.load(tmp_path / "r.json").own.overall["mIoU"] == 1


@pytest.mark.parametrize(
    ("labels", "options"),
    [
        (IDS + 1, ["--reduce_zero_label"]),
        (IDS * 100, ["--label_map", "{100: 1, 200: 2}"]),
        (np.where(IDS == 2, 255, IDS).astype(np.uint8), ["--label_map", "{255: 2}"]),
    ],
)
def test_values_mean_what_the_options_say(labels: np.ndarray, options: list[str], tmp_path: Path, capsys) -> None:
    words = folders(tmp_path, labels)
    assert main([*words, *options]) == 2
    assert "--classes" in capsys.readouterr().err
    assert main([*words, *options, "--classes", "3"]) == 0
    assert Results.load(tmp_path / "r.json").own.extra["confusion"] == [[3, 0, 0], [0, 3, 0], [0, 0, 2]]
    ClassFrequency(NAMES, np.array([1, 1, 1]), np.array([9, 2, 1])).to_json(tmp_path / "f.json")
    assert main([*words, *options, "--frequency", str(tmp_path / "f.json")]) == 0
    assert tuple(Results.load(tmp_path / "r.json").class_names) == NAMES


def test_a_mask_of_0_and_255_is_told(tmp_path: Path, capsys) -> None:
    mask = (IDS > 0).astype(np.uint8)
    words = [*folders(tmp_path, mask * 255, mask), "--classes", "2"]
    assert main(words) == 2
    assert "label_map {255: 1}" in capsys.readouterr().err
    assert main([*words, "--label_map", "{255: 1}"]) == 0
    assert Results.load(tmp_path / "r.json").own.overall["mIoU"] == 1
