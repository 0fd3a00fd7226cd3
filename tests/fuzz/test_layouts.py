"""Layouts of boxes: a damaged file is refused, or its objects are counted as a plain reader counts them."""

import codecs
import csv
import json
import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from fuzz.harness import HOSTILE, Tally, damaged, mutated, run
from longtail.frequency import ClassFrequency
from support.detection_layouts import LAYOUTS


def text_of(file: Path) -> str:
    data = file.read_bytes()
    utf_16 = data.startswith(codecs.BOM_UTF16)  # an XML reader takes it
    return data.decode("utf-16") if utf_16 else data.removeprefix(codecs.BOM_UTF8).decode()


def count_yolo(root: Path) -> Counter[str]:
    """Lines of the labels of training images, each once in its file, of boxes with a size."""
    found: Counter[str] = Counter()
    for label in sorted(root.glob("labels/train/*.txt")):
        for line in {tuple(map(float, line.split())) for line in text_of(label).splitlines() if line.strip()}:
            found[str(int(line[0]))] += len(line) > 5 or (line[3] > 0 and line[4] > 0)
    return found


def count_voc(root: Path) -> Counter[str]:
    """Objects of the listed files that are not difficult and have a size, from 1 to the last pixel."""
    base, found = root / "VOCdevkit/VOC2012", Counter[str]()
    for name in filter(None, map(str.strip, text_of(base / "ImageSets/Main/train.txt").splitlines())):
        for one in re.findall("<object>.*?</object>", text_of(base / "Annotations" / f"{name}.xml"), re.S):
            whole = re.sub("<part>.*?</part>", "", one, flags=re.S)
            difficult = re.search("<difficult>(.*?)</difficult>", whole)
            plain = difficult is None or difficult[1].strip().lower() in ("", "0", "false")
            found[re.search("<name>(.*?)</name>", whole)[1].strip()] += plain  # type: ignore[index]
    return found


def count_table(root: Path) -> Counter[str]:
    header, *rows = csv.reader(text_of(root / "train/_annotations.csv").splitlines())
    places = [[re.sub(r"\W", "", name) for name in header].index(name) for name in ("class", "xmin")]
    cells = [[row[place].strip() if place < len(row) else "" for place in places] for row in rows]
    return Counter(name for name, left in cells if left)


def count_coco(root: Path) -> Counter[str]:
    content = json.loads(text_of(root / "train/_annotations.coco.json"))
    names = {c["id"]: str(c.get("name", c["id"])) for c in content["categories"]}
    return Counter(names[a["category_id"]] for a in content["annotations"] if not a.get("iscrowd"))


#: Layout -> (files that are damaged, plain reader).
READERS: dict[str, tuple[str, Callable[[Path], Counter[str]]]] = {
    "yolo": ("data.yaml labels/train/*.txt", count_yolo),
    "voc": ("VOCdevkit/VOC2012/Annotations/*.xml VOCdevkit/VOC2012/ImageSets/Main/train.txt", count_voc),
    "table_roboflow": ("train/_annotations.csv", count_table),
    "roboflow": ("train/_annotations.coco.json", count_coco),
}


def changed(file: Path, rng: random.Random) -> tuple[bytes, str]:
    """The file after one damage, or with one of its words or values replaced."""
    text = file.read_text()
    if rng.random() < 0.2:
        return damaged(text, rng)
    if file.suffix == ".json":
        value, word = mutated(json.loads(text), rng)
        return json.dumps(value).encode(), word
    words = re.findall(r"[\w./-]+|[^\w./-]+", text)
    place = rng.randrange(len(words))
    kind = rng.choice(("replace", "remove", "repeat"))
    other = rng.choice([str(h) for h in HOSTILE] + ["0.5", "1e400", "-3", "cat", "nan", "\t"])
    words[place] = {"replace": other, "remove": "", "repeat": words[place] * 2}[kind]
    return "".join(words).encode(), f"{kind} in {file.suffix}"


@pytest.mark.parametrize("rounds", [40, pytest.param(1500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("layout", READERS)
def test_counts_of_damaged_files(layout: str, rounds: int, tmp_path: Path) -> None:
    patterns, count = READERS[layout]
    LAYOUTS[layout][0](tmp_path)
    files = [file for pattern in patterns.split() for file in sorted(tmp_path.glob(pattern))]
    tally, rng, out = Tally(), random.Random(layout), tmp_path / "counts.txt"
    for number in range(rounds):
        file = rng.choice(files)
        good = file.read_bytes()
        data, word = changed(file, rng)
        file.write_bytes(data)
        outcome = run(["count", str(tmp_path), "--out", str(out)])
        tally.add(word, outcome)
        if outcome.accepted:
            frequency = ClassFrequency.from_json(out)
            names = map(str, range(frequency.num_classes)) if layout == "yolo" else frequency.class_names
            found = dict(zip(names, frequency.counts("instances").tolist(), strict=True))
            wrong = {name: n for name, n in count(tmp_path).items() if found.get(name, 0) != n}
            assert not wrong or (layout in ("roboflow", "voc", "table_roboflow") and smaller(found, count(tmp_path))), (
                f"round {number}, {word} of {file}: {found}, not {wrong}"
            )
        assert file.read_bytes() == data, f"{word}: the command changed {file}"
        file.write_bytes(good)
    print(f"{layout}: {tally}")


def smaller(found: dict[str, int], plain: Counter[str]) -> bool:
    """Whether only objects without an area in their image, which count nowhere, make the difference."""
    return all(found.get(name, 0) <= n for name, n in plain.items()) and sum(found.values()) <= plain.total()


OPTIONS = (
    "annotations",
    "images",
    "masks",
    "outside",
    "keep_empty",
    "val_share",
    "split_by",
    "semantic",
    "task",
    "nothing",
)

GOOD = (True, False, "clip", "train", "train/_annotations.coco.json", "{split}/_annotations.coco.json", "objects", 0.5)


@pytest.mark.parametrize("rounds", [40, pytest.param(1500, marks=pytest.mark.slow)])
def test_options_of_the_commands(rounds: int, tmp_path: Path) -> None:
    LAYOUTS["roboflow"][0](tmp_path)
    tally, rng = Tally(), random.Random(1)
    for _ in range(rounds):
        option, value = rng.choice(OPTIONS), rng.choice((*HOSTILE, *GOOD))
        kind = rng.choice(("", "", "", "coco:", "yolo:", "voc:", "table:", "lvis:"))
        words = ["count", f"{kind}{tmp_path}", "--options", json.dumps({option: value})]
        tally.add(option, run([*words, "--split", rng.choice(("train", "val", "all", "", "x"))]))
    print(f"options: {tally}")
