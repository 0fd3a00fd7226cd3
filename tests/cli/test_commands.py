import json
import re

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from longtail.cli import main
from longtail.frequency import ClassFrequency
from longtail.metrics.results import Results
from support.fake_runs import make_results, write_run
from support.tiny_runs import tiny_settings


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LONGTAIL_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("COLUMNS", "140")
        yield


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("settings") / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny_settings()))
    return str(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory, settings):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("runs") / "medoe"
    assert main(["train", "segmentation", "--config", settings, "--run", str(folder)]) == 0
    return folder


def test_count(tmp_path, capsys):
    out = tmp_path / "f.json"
    words = ["count", "longtail-scenes", "--options", "{size: [32, 32], num_images: 9}", "--out", str(out)]
    assert main([*words, "--groups.by", "rank", "--groups.sizes", "[4, 6, 6]", "--rows", "3"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"head\s+4 ", shown) and "13 rarer classes" in shown and "imbalance" in shown
    assert ClassFrequency.from_json(out).num_images == 9


def test_count_says_where_it_cannot_write(tmp_path, capsys):
    words = ["count", "longtail-scenes", "--options", "{size: [32, 32], num_images: 2}"]
    (tmp_path / "file").write_text("")
    for option, file in (("--out", "file/no/f.json"), ("--plot", "file/no/f.svg")):
        assert main([*words, option, str(tmp_path / file)]) == 2
        assert f"cannot write {tmp_path / 'file'}" in capsys.readouterr().err


def test_train_scores_and_prints(run, capsys):
    results = Results.load(run / "results.json")
    assert {"medoe", "oracle", "expert_1"} <= set(results.predictions)
    assert (run / "best.safetensors").is_file() and (run / "pictures/index.json").is_file()


def test_a_run_that_is_there_is_refused_resumed_or_replaced(run, settings, capsys):
    words = ["train", "segmentation", "--run", str(run)]
    assert main([*words, "--config", settings]) == 2
    assert "--resume" in capsys.readouterr().err
    for resumed in (words, ["train", "segmentation", f"--run={run}"]):
        assert main([*resumed, "--resume", "--evaluate", "false"]) == 0  # its own settings
    assert "already trained" in capsys.readouterr().out
    assert main(["train", "segmentation", f"--run={run}", "--resume", "--evaluate", "false"]) == 0
    assert main([*words, "--resume", "--optimiser.lr", "0.5"]) == 2
    assert "optimiser.lr: 0.01 -> 0.5" in capsys.readouterr().err


def test_the_written_settings_replay(run, tmp_path, capsys):
    words = ["train", "segmentation", "--config", str(run / "config.yaml"), "--run", str(tmp_path / "again")]
    assert main([*words, "--evaluate", "false"]) == 0
    assert (tmp_path / "again/best.safetensors").read_bytes() == (run / "best.safetensors").read_bytes()
    assert (tmp_path / "again/config.yaml").read_text() == (run / "config.yaml").read_text()


def test_printed_settings_load_back(settings, tmp_path, capsys):
    words = ["train", "segmentation", "--config", settings, "--seed", "7"]
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--print_config"])
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    assert yaml.safe_load(printed)["seed"] == 7
    (tmp_path / "printed.yaml").write_text(printed)
    assert main(["train", "segmentation", "--config", str(tmp_path / "printed.yaml"), "--dry_run"]) == 0


def test_dry_run_prints_the_plan_and_trains_nothing(settings, tmp_path, capsys):
    words = ["train", "segmentation", "--config", settings, "--run", str(tmp_path / "run"), "--dry_run"]
    assert main([*words, "--iterations.experts", "1234"]) == 0
    shown = capsys.readouterr().out
    assert "1,234" in shown and "experts" in shown and "ensemble" in shown
    assert not (tmp_path / "run").exists()
    assert main([*words, "--from", str(tmp_path)]) == 2
    assert "holds no weights" in capsys.readouterr().err
    assert main([*words, "--loading.batch_size", "3", "--hardware.devices", "2"]) == 2
    assert "batch size 3 cannot be parted" in capsys.readouterr().err
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("")
    assert main(words) == 2
    assert "is not empty" in capsys.readouterr().err


def test_fast_dev_run(settings, tmp_path, capsys):
    words = ["train", "segmentation", "--config", settings, "--run", str(tmp_path / "run"), "--fast_dev_run"]
    assert main([*words, "--iterations", "{experts: 5000}", "--data.limit", "null"]) == 0
    assert "experts: 2 iterations" in capsys.readouterr().out


def test_evaluate(run, tmp_path, capsys):
    words = ["evaluate", str(run), "--out", str(tmp_path), "--limit", "2", "--workers", "0", "--device", "cpu"]
    assert main(words) == 0
    assert "Oracle" in capsys.readouterr().out
    assert Results.load(tmp_path / "results.json").data["images"] == 2
    data = ["--data", "longtail-scenes", "--split", "test", "--options", "{size: [40, 40], num_images: 3}"]
    assert main([*words, *data]) == 0
    assert Results.load(tmp_path / "results.json").data["split"] == "test"


def test_evaluate_of_what_is_no_model(tmp_path, capsys):
    assert main(["evaluate", str(tmp_path), "--data", "longtail-scenes", "--split", "val"]) == 2
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path)]) == 2
    assert "cannot read a configuration of this library" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path / "nowhere")]) == 2
    assert "there is no folder" in capsys.readouterr().err


def test_evaluate_keeps_the_runs_own_scores(run, tmp_path, capsys):
    before = (run / "results.json").read_bytes()
    words = ["evaluate", str(run), "--workers", "0", "--device", "cpu"]
    for others, named in (
        (["--split", "train"], "split train"),
        (["--limit", "2", "--out", str(run)], "data.limit 2"),
        (["--window", "[16, 16]"], "evaluation.sliding_window"),
        (["--data", "longtail-scenes", "--split", "test"], "longtail-scenes"),
        (["--limit", "0"], "--limit is 0"),
    ):
        assert main([*words, *others]) == 2
        error = capsys.readouterr().err
        assert named in error and ("--out" in error or "--limit" in error)
    assert (run / "results.json").read_bytes() == before
    assert main([*words, "--split", "val", "--limit", "6"]) == 0  # what the run's settings say
    assert "Groups: those of training" in " ".join(capsys.readouterr().out.split())
    assert len(json.loads((run / "pictures/index.json").read_text())["images"]) == 2  # as they say, too


def test_a_device_that_is_not_there(run, tmp_path, capsys):
    (tmp_path / "a.jpg").write_bytes(b"")
    for words in (["evaluate", str(run)], ["predict", str(run), str(tmp_path / "a.jpg"), "--out", str(tmp_path / "o")]):
        assert main([*words, "--device", "cuda:99"]) == 2
        assert "cannot compute on cuda:99" in capsys.readouterr().err


def test_nothing_to_resume(tmp_path, capsys):
    assert main(["train", "segmentation", "--resume", "--run", str(tmp_path / "nothing")]) == 2
    assert f"nothing to resume in {tmp_path / 'nothing'}" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["train", "segmentation", "--resume", "runs/a"])
    assert "--resume takes no value, but 'runs/a' is given" in capsys.readouterr().err


def test_the_report_doubts_other_images(tmp_path, capsys):
    first, second = make_results("baseline", 5), make_results("medoe", 5)
    second.data |= {"split": "train", "images": 40}
    runs = [str(write_run(tmp_path / name, results)) for name, results in (("a", first), ("b", second))]
    assert main(["report", *runs, "--out", str(tmp_path)]) == 0
    doubts = "Baseline on 200 of val; MEDOE on 40 of train"
    assert f"warning: The runs were scored on different images, {doubts}" in capsys.readouterr().err
    assert doubts in (tmp_path / "report.html").read_text()
    assert main(["report", runs[0], runs[0], "--out", str(tmp_path)]) == 0
    assert not capsys.readouterr().err


def test_predict(run, tmp_path, capsys):
    Image.new("RGB", (50, 41), (90, 120, 60)).save(tmp_path / "a.jpg")
    out = tmp_path / "out"
    words = ["predict", str(run), str(tmp_path / "a.jpg"), "--out", str(out), "--device", "cpu"]
    assert main(words) == 0
    assert np.asarray(Image.open(out / "labels/a.png")).shape == (41, 50)
    assert main(words) == 0
    assert "1 were there already" in capsys.readouterr().out
    assert main([*words, "--threshold", "0.0"]) == 2
    assert "--threshold is not for segmentation" in capsys.readouterr().err
    (tmp_path / "torn.jpg").write_bytes(b"no picture")
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.jpg").read_bytes())
    files = [str(tmp_path / name) for name in ("torn.jpg", "b.jpg")]
    assert main(["predict", str(run), *files, "--out", str(out), "--device", "cpu"]) == 1
    assert "torn.jpg" in capsys.readouterr().err and (out / "labels/b.png").is_file()


def test_report(run, tmp_path, capsys):
    assert main(["report", str(run), "--out", str(tmp_path / "page.html")]) == 0
    assert "<html" in (tmp_path / "page.html").read_text()[:500]
    assert main(["report", str(tmp_path)]) == 2


def test_score_segmentation(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for kind in ("labels", "predictions"):
        (tmp_path / kind).mkdir()
        for i in range(2):
            Image.fromarray(rng.integers(0, 4, (8, 9), dtype=np.uint8)).save(tmp_path / kind / f"{i}.png")
    words = [
        "score",
        "segmentation",
        "--labels",
        str(tmp_path / "labels"),
        "--predictions",
        str(tmp_path / "predictions"),
    ]
    assert main([*words, "--classes", "4", "--out", str(tmp_path / "r.json")]) == 0
    assert json.loads((tmp_path / "r.json").read_text())["data"]["images"] == 2
    shown = capsys.readouterr().out
    assert "mIoU" in shown and "Groups: the labels scored" in " ".join(shown.split())
    assert main([*words, "--out", str(tmp_path)]) == 0 and (tmp_path / "results.json").is_file()
    assert main(["score", "segmentation", "--labels", str(tmp_path), "--predictions", str(tmp_path / "nowhere")]) == 2


def test_score_segmentation_says_how_many_classes_it_found(tmp_path, capsys):
    for kind in ("labels", "predictions"):
        (tmp_path / kind).mkdir()
        Image.fromarray(np.array([[0, 3]], np.uint8)).save(tmp_path / kind / "a.png")
    words = ["score", "segmentation", "--predictions", str(tmp_path / "predictions")]
    assert main([*words, "--labels", str(tmp_path / "labels")]) == 0
    assert "warning: 4 classes, by the largest value in the files" in capsys.readouterr().err
    assert main([*words, "--labels", str(tmp_path / "labels"), "--classes", "4"]) == 0
    assert not capsys.readouterr().err
    assert main(words) == 2
    assert "--data or as --labels" in capsys.readouterr().err


@pytest.mark.parametrize("called", ["", "_leftImg8bit"])
def test_score_segmentation_of_a_data_set(tmp_path, capsys, called):
    root, predictions = tmp_path / "city", tmp_path / "predictions"
    stored, meant = np.array([[7, 8, 0, 33, 33]], np.uint8), np.array([[0, 1, 5, 18, 0]], np.uint8)
    for name, values in (
        (root / "leftImg8bit/val/bonn/x_leftImg8bit.png", np.zeros((1, 5, 3), np.uint8)),
        (root / "gtFine/val/bonn/x_gtFine_labelIds.png", stored),
        (predictions / f"bonn/x{called}.png", meant),
    ):
        name.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(name)
    words = ["score", "segmentation", "--data", f"cityscapes:{root}", "--predictions", str(predictions)]
    groups = ["--groups.by", "rank", "--groups.sizes", "[4, 4, 11]"]
    assert main([*words, *groups, "--out", str(tmp_path / "r.json")]) == 0
    assert not capsys.readouterr().err
    results = Results.load(tmp_path / "r.json")
    assert len(results.class_names) == 19 and results.own.overall["aAcc"] == pytest.approx(3 / 4)
    assert [len(ids) for ids in results.groups.values()] == [4, 4, 11]
    assert results.data["name"] == f"cityscapes:{root}" and results.data["split"] == "val"
    assert main([*words, "--groups.by", "explicit", "--groups.members", "{a: [0], b: [1]}"]) == 2
    assert "groups of 2 classes for labels of 19" in capsys.readouterr().err
    assert main([*words, "--classes", "34"]) == 2
    assert "--classes with --data" in capsys.readouterr().err
    words[words.index("--data") + 1] = "longtail-scenes"
    assert main(words) == 2
    assert "longtail-scenes has no label images" in capsys.readouterr().err


def test_score_segmentation_of_what_predict_wrote(tmp_path, capsys):
    for folder in ("truth", "mine/labels"):
        (tmp_path / folder).mkdir(parents=True)
        Image.fromarray(np.array([[0, 1, 1]], np.uint8)).save(tmp_path / folder / "a.png")
    (tmp_path / "mine/made_by.json").write_text("{}")
    words = ["--labels", str(tmp_path / "truth"), "--predictions", str(tmp_path / "mine"), "--classes", "2"]
    assert main(["score", "segmentation", *words, "--out", str(tmp_path / "r.json")]) == 0
    results = Results.load(tmp_path / "r.json")
    assert list(results.predictions) == ["mine"] and results.own.overall["mIoU"] == 1


def test_where_it_cannot_write_is_told_in_one_line(run, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    place = str(tmp_path / "file" / "x")
    for words in (["report", str(run)], ["evaluate", str(run), "--device", "cpu", "--limit", "1"]):
        assert main([*words, "--out", place]) == 2
        error = capsys.readouterr().err
        assert f"error: cannot write {place}" in error and "Not a directory" in error and "name another" in error


def test_a_step_without_a_window(run, tmp_path, capsys):
    for words in (["evaluate", str(run)], ["predict", str(run), str(tmp_path)]):
        assert main([*words, "--stride", "[8, 8]"]) == 2
        assert "--stride without --window" in capsys.readouterr().err


def test_report_of_a_run_that_was_not_scored(tmp_path, capsys):
    (tmp_path / "config.yaml").write_text("")
    assert main(["report", str(tmp_path)]) == 2
    assert f"longtail evaluate {tmp_path}" in capsys.readouterr().err


def test_score_stages_of_a_segmentation_run(run, capsys):
    assert main(["score", "stages", str(run), "--annotations", "any.json"]) == 2
    assert "is a segmentation model, not one of detection" in capsys.readouterr().err


def test_info_of_parts_of_ones_own(tmp_path, monkeypatch, capsys):
    (tmp_path / "my_parts.py").write_text(
        "from longtail.samplers.base import Sampler\n"
        "class Mine(Sampler):\n    def __init__(self, power: float = 0.5): ...\n"
        "def net(num_classes: int, width: int = 8): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["info", "my_parts.Mine"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("sampler my_parts.Mine") and "power [0.5]" in shown
    assert main(["info", "my_parts.net"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("my_parts.net: ensemble or network") and "width [8]" in shown


def test_info(capsys):
    assert main(["info"]) == 0
    shown = capsys.readouterr().out
    assert torch.__version__ in shown and "deeplabv3plus" in shown and "focal" in shown
    assert main(["info", "deeplabv3plus"]) == 0
    assert "output_stride [8]: Stride of the deepest map" in capsys.readouterr().out
    assert main(["info", "focl"]) == 2
    assert "did you mean 'focal'" in capsys.readouterr().err
