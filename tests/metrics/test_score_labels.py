import json

import numpy as np
import pytest
import torch
from hotcoco.semantic import SemanticEval
from PIL import Image

from longtail.errors import ConfigError, DataError
from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.frequency.label_format import PLAIN, LabelFormat
from longtail.metrics.results import Results
from longtail.metrics.score_labels import score_label_folders
from longtail.metrics.segmentation import confusion_matrix, iou_per_class

SHARES = [0.6, 0.3, 0.09, 0.008, 0.0015, 0.0005]


def write(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


@pytest.fixture
def folders(tmp_path):
    """Eight label images of six classes in two sub-folders, with predictions that are often right."""
    rng = np.random.default_rng(0)
    pairs = []
    for index in range(8):
        truth = rng.choice(6, size=(40, 50 + index), p=SHARES).astype(np.uint8)
        predicted = np.where(rng.random(truth.shape) < 0.7, truth, rng.integers(0, 6, truth.shape)).astype(np.uint8)
        truth[rng.random(truth.shape) < 0.05] = 255
        pairs.append((truth, predicted))
        write(tmp_path / "labels" / f"part{index % 2}" / f"{index}.png", truth)
        write(tmp_path / "ours" / f"part{index % 2}" / f"{index}.png", predicted)
    return tmp_path / "labels", tmp_path / "ours", pairs


def frequency(counts=(60_000, 30_000, 9000, 800, 95, 50)):
    names = tuple("abcdef"[: len(counts)])
    return ClassFrequency(class_names=names, images=np.ones(len(counts)), pixels=np.asarray(counts))


def expected(pairs, classes=6):
    return sum(confusion_matrix(torch.from_numpy(p), torch.from_numpy(t), classes) for t, p in pairs)


@pytest.mark.parametrize("workers", [1, 3])
def test_scores_equal_the_matrix_of_the_arrays(folders, workers):
    labels, predictions, pairs = folders
    results = score_label_folders(labels, predictions, classes=list("abcdef"), workers=workers)
    assert results.method == "ours"
    assert results.own.extra["confusion"] == expected(pairs).tolist()
    assert results.own.overall["mIoU"] == pytest.approx(iou_per_class(expected(pairs)).mean().item())
    assert results.data["images"] == 8
    assert results.settings["groups_from"].startswith("the labels scored")
    assert results.groups == {"head": [0, 1, 2], "body": [3, 4], "tail": [5]}


def test_equals_hotcoco_on_files(folders):
    labels, predictions, _ = folders
    oracle = SemanticEval(6)
    for part in ("part0", "part1"):
        oracle.update_folders(str(labels / part), str(predictions / part))
    assert score_label_folders(labels, predictions, classes=6).own.extra["confusion"] == oracle.confusion().tolist()


def test_groups_from_training_frequency_given_as_file(folders, tmp_path):
    labels, predictions, _ = folders
    frequency().to_json(tmp_path / "frequency.json")
    results = score_label_folders(labels, predictions, frequency=tmp_path / "frequency.json")
    assert results.groups == {"head": [0, 1, 2], "body": [3], "tail": [4, 5]}
    assert results.settings["groups_from"].startswith("frequency")
    assert results.class_names == list("abcdef")
    assert -1 <= results.own.extra["pearson"]["Acc"] <= 1
    results.save(tmp_path / "results.json")
    assert Results.load(tmp_path / "results.json").own == results.own


def test_training_counts_are_matched_by_name(folders, tmp_path):
    labels, predictions, _ = folders
    straight = score_label_folders(labels, predictions, classes=list("abcdef"), frequency=frequency())
    turned = frequency().in_order_of(list("fedcba"), "the test")
    for where in ("argument", "classes.txt"):
        (tmp_path / where).write_text("\n".join("abcdef"))
        given = {"classes": list("abcdef")} if where == "argument" else {}
        results = score_label_folders(labels, predictions, frequency=turned, **given)
        assert results.own == straight.own and results.groups == straight.groups
        assert results.frequency == straight.frequency and results.class_names == list("abcdef")
    with pytest.raises(ConfigError, match="counted only: 'f', only of the labels: 'x'"):
        score_label_folders(labels, predictions, classes=list("abcdex"), frequency=turned)


@pytest.mark.parametrize("names", [["a", "a", "b", "c", "d", "e"], ["a", None, "b", "c", "d", "e"]])
def test_names_that_tell_no_classes_are_refused(names, folders):
    labels, predictions, _ = folders
    (labels / "classes.json").write_text(json.dumps({"names": names}))
    for given in ({}, {"classes": labels / "classes.json"}, {"classes": ["a", "a", *"bcde"]}):
        with pytest.raises(DataError, match=r"gives the name 'a' to the classes 0, 1|class 1 of .* has the name None"):
            score_label_folders(labels, predictions, **given)


def test_the_ignored_value_of_the_classes_file(folders):
    labels, predictions, _ = folders
    (labels / "classes.json").write_text(json.dumps({"names": list("abcdef"), "ignore_index": 4}))
    with pytest.raises(DataError, match="255"):
        score_label_folders(labels, predictions)
    assert score_label_folders(labels, predictions, ignore_index=255).settings["ignore_index"] == 255


def test_explicit_groups(folders):
    labels, predictions, _ = folders
    groups = {"seen": [0, 1, 2, 3], "rare": [4, 5]}
    for given in (groups, CategoryGroups.explicit(groups)):
        results = score_label_folders(labels, predictions, groups=given, frequency=frequency())
        assert results.groups == groups
        assert results.settings["groups_from"] == "argument"
    with pytest.raises(ConfigError, match="5 classes"):
        score_label_folders(labels, predictions, classes=6, groups={"a": [0, 1, 2, 3, 4]})
    with pytest.raises(ConfigError, match="4 classes"):
        score_label_folders(labels, predictions, classes=6, frequency=frequency((4, 3, 2, 1)))


def test_classes_from_the_files_or_a_classes_file(folders):
    labels, predictions, _ = folders
    results = score_label_folders(labels, predictions)
    assert results.class_names == [f"class_{i}" for i in range(6)]
    assert results.settings["classes_from"] == "values in the files"
    (labels.parent / "classes.json").write_text(json.dumps({"names": list("uvwxyz")}))
    assert score_label_folders(labels, predictions).class_names == list("uvwxyz")
    (labels.parent / "classes.txt").write_text("m\nn\no\np\nq\nr\n")  # the JSON file comes first
    assert score_label_folders(labels, predictions).class_names == list("uvwxyz")
    (labels / "names.txt").write_text("m\nn\no\np\nq\nr\n\n")
    assert score_label_folders(labels, predictions, classes=labels / "names.txt").class_names == list("mnopqr")


def test_reduce_zero_label_shifts_the_labels_alone(tmp_path):
    write(tmp_path / "l" / "x.png", np.array([[0, 1, 2, 3, 255]], np.uint8))
    write(tmp_path / "p" / "x.png", np.array([[2, 0, 1, 1, 2]], np.uint8))
    results = score_label_folders(
        tmp_path / "l", tmp_path / "p", classes=3, label_format=PLAIN.mapped(3, 255, reduce_zero_label=True)
    )
    assert results.own.extra["confusion"] == [[1, 0, 0], [0, 1, 0], [0, 1, 0]]


def test_labels_by_name_with_a_data_sets_table(tmp_path):
    table = np.full(256, -1)
    table[[0, 7, 9]] = 255, 0, 1
    write(tmp_path / "l" / "any.png", np.array([[0, 7, 9, 9]], np.uint8))
    write(tmp_path / "p" / "x.png", np.array([[1, 0, 1, 0]], np.uint8))
    labels, given = {"x": tmp_path / "l" / "any.png"}, {"label_format": LabelFormat(table), "classes": ["a", "b"]}
    results = score_label_folders(labels, tmp_path / "p", **given)
    assert results.own.extra["confusion"] == [[1, 0], [1, 1]]
    with pytest.raises(ConfigError, match="format without classes"):
        score_label_folders(labels, tmp_path / "p", label_format=LabelFormat(table))
    write(tmp_path / "l" / "any.png", np.array([[0, 7, 9, 8]], np.uint8))
    with pytest.raises(DataError, match=r"any\.png holds value 8 .*no class"):
        score_label_folders(labels, tmp_path / "p", **given)


def test_groups_made_of_the_counts(folders):
    labels, predictions, _ = folders

    def by_rank(counts):
        return CategoryGroups.by_rank(counts.counts("pixels"), (1, 2, 3))

    results = score_label_folders(labels, predictions, classes=6, groups=by_rank)
    assert results.groups == {"head": [0], "body": [1, 2], "tail": [3, 4, 5]}
    assert results.settings["groups_from"].startswith("the labels scored")
    told = frequency((1, 2, 3, 4, 5, 6))
    results = score_label_folders(labels, predictions, groups=by_rank, frequency=told)
    assert results.groups == {"head": [5], "body": [3, 4], "tail": [0, 1, 2]}
    assert results.settings["groups_from"].startswith("frequency")


def test_many_classes_in_16_bits_and_palette_predictions(tmp_path):
    truth = np.array([[0, 300, 846, 65535]], np.uint16)
    write(tmp_path / "l" / "x.png", truth)
    write(tmp_path / "p" / "x.tif", np.array([[0, 300, 5, 700]], np.uint16))
    results = score_label_folders(tmp_path / "l", tmp_path / "p", classes=847, ignore_index=65535)
    assert results.own.overall["aAcc"] == pytest.approx(2 / 3)
    with pytest.raises(ConfigError, match="ignore_index 255"):
        score_label_folders(tmp_path / "l", tmp_path / "p", classes=847)
    with pytest.raises(DataError, match="pass classes"):
        score_label_folders(tmp_path / "l", tmp_path / "p")
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), mode="P")
    palette.putpalette([9, 9, 9, 200, 0, 0])
    (tmp_path / "v").mkdir()
    palette.save(tmp_path / "v" / "x.png")
    assert score_label_folders(tmp_path / "v", tmp_path / "v").own.overall["aAcc"] == 1


def test_suffixes_of_cityscapes(tmp_path):
    write(tmp_path / "l" / "ulm" / "u_1_gtFine_labelTrainIds.png", np.zeros((2, 2), np.uint8))
    write(tmp_path / "l" / "ulm" / "u_1_gtFine_color.png", np.zeros((2, 2, 3), np.uint8))
    write(tmp_path / "p" / "ulm" / "u_1_leftImg8bit.png", np.zeros((2, 2), np.uint8))
    results = score_label_folders(
        tmp_path / "l",
        tmp_path / "p",
        classes=19,
        label_suffix="_gtFine_labelTrainIds",
        prediction_suffix="_leftImg8bit",
        name="mine",
    )
    assert (results.method, results.own.overall["aAcc"]) == ("mine", 1)


def test_fingerprint_is_of_the_labels(folders):
    labels, predictions, pairs = folders
    first = score_label_folders(labels, predictions, classes=6).data["fingerprint"]
    write(predictions / "part0" / "0.png", np.zeros_like(pairs[0][1]))
    assert score_label_folders(labels, predictions, classes=6).data["fingerprint"] == first
    write(labels / "part0" / "0.png", np.zeros_like(pairs[0][0]))
    assert score_label_folders(labels, predictions, classes=6).data["fingerprint"] != first


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (np.zeros((40, 51), np.uint8), r"shape \(40, 51\).*part0.0\.png"),
        (np.zeros((40, 50, 3), np.uint8), r"part0.0\.png.*RGB"),
        (np.full((40, 50), 9, np.uint8), r"value 9.*part0.0\.png"),
        (np.full((40, 50), 255, np.uint8), r"value 255.*part0.0\.png"),
    ],
)
def test_refusals_name_the_file(folders, values, problem):
    labels, predictions, _ = folders
    write(predictions / "part0" / "0.png", values)
    with pytest.raises(DataError, match=problem):
        score_label_folders(labels, predictions, classes=6, workers=2)


def test_unknown_classes_do_not_excuse_unpredicted_pixels(folders):
    labels, predictions, _ = folders
    write(predictions / "part0" / "0.png", np.full((40, 50), 255, np.uint8))
    with pytest.raises(DataError, match=r"255, the ignored value.*part0.0\.png"):
        score_label_folders(labels, predictions)


def test_missing_predictions_and_folders(folders, tmp_path):
    labels, predictions, _ = folders
    (predictions / "part1" / "3.png").unlink()
    with pytest.raises(DataError, match=r"1 of 8 labels.*part1.3\.png"):
        score_label_folders(labels, predictions)
    with pytest.raises(DataError, match=r"folder of label images .*absent does not exist"):
        score_label_folders(labels, tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no label images"):
        score_label_folders(labels, tmp_path / "empty")
    (predictions / "part1" / "3.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"3\.png"):
        score_label_folders(labels, predictions)


def test_nothing_labelled(tmp_path):
    write(tmp_path / "l" / "x.png", np.full((2, 2), 255, np.uint8))
    write(tmp_path / "p" / "x.png", np.zeros((2, 2), np.uint8))
    with pytest.raises(DataError, match="no pixel"):
        score_label_folders(tmp_path / "l", tmp_path / "p")


def test_real_labels_against_themselves(real_data):
    folder = real_data / "camvid11" / "labels" / "val"
    results = score_label_folders(folder, folder)
    assert results.class_names[0] == "sky"
    assert results.own.overall == {"mIoU": 1, "mAcc": 1, "aAcc": 1, "boundary_mIoU": 1}
    pixels = json.loads((real_data / "camvid11" / "classes.json").read_text())["splits"]["val"]["pixels"]
    assert np.diag(results.own.extra["confusion"]).tolist() == pixels
