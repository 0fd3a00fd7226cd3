"""Label images, photographs, files of colours and folders: damaged ones are refused, or counted as what they hold."""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fuzz.harness import Tally, damaged, run
from longtail.frequency import ClassFrequency

NAMES = ["sky", "sea", "boat"]
COLOURS = np.array([(0, 0, 0), (128, 0, 0), (1, 2, 3)], np.uint8)
SIZE = (12, 16)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGTAIL_CACHE", str(tmp_path / "cache"))


def make(root: Path, seed: int = 0, coloured: bool = False) -> dict[str, np.ndarray]:
    """Three images with labels; the class ids of each by name."""
    shutil.rmtree(root, ignore_errors=True)
    rng, found = np.random.default_rng(seed), {}
    for name in "abc":
        ids = rng.choice([0, 1, 2, 255] if not coloured else [0, 1, 2], SIZE).astype(np.uint8)
        for kind, pixels in (
            ("images", rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)),
            ("labels", COLOURS[ids] if coloured else ids),
        ):
            (root / kind / "train").mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / kind / "train" / f"{name}.png")
        found[name] = ids
    if not coloured:
        (root / "classes.json").write_text(json.dumps({"names": NAMES}))
    return found


def count(root: Path, out: Path, *more: str):
    outcome = run(["count", str(root), "--out", str(out), "--workers", "1", *more])
    return outcome, ClassFrequency.from_json(out) if outcome.accepted else None


def pixels_of(labels: dict[str, np.ndarray]) -> list[int]:
    return np.bincount(np.concatenate([v.ravel() for v in labels.values()]), minlength=256)[:3].tolist()


def other_label(path: Path, ids: np.ndarray, rng: random.Random) -> tuple[str, np.ndarray | None]:
    """Write the label in another way; a word, and the ids that it must be read as, None if it must be refused."""
    binary, low = (ids == 1).astype(np.uint8), np.where(ids == 255, 0, ids).astype(np.uint8)
    palette = Image.fromarray(low)
    palette.putpalette([rng.randrange(256) for _ in range(768)])
    kinds: dict[str, tuple[Callable[[], object], np.ndarray | None]] = {
        "16 bits": (lambda: Image.fromarray(low.astype(np.uint16)).save(path), low),
        "palette": (lambda: palette.save(path), low),
        "two bits": (lambda: palette.save(path, bits=2), low),
        "one bit": (lambda: Image.fromarray(binary.astype(bool)).save(path), binary),
        "colours": (lambda: Image.fromarray(COLOURS[low]).save(path), None),
        "transparent": (lambda: Image.fromarray(np.dstack([COLOURS[low], low])).save(path), None),
        "jpeg": (lambda: Image.fromarray(ids).save(path, format="JPEG"), None),
        "webp": (lambda: Image.fromarray(ids).save(path, format="WEBP", lossless=True), None),
        "float": (lambda: Image.fromarray(low.astype(np.float32)).save(path, format="TIFF"), None),
        "pages": (
            lambda: palette.save(path, format="TIFF", save_all=True, append_images=[palette]),
            None,
        ),
        "another size": (lambda: Image.fromarray(ids[:-1]).save(path), None),
        "no class": (lambda: Image.fromarray(low + np.uint8(rng.choice((3, 7, 200)))).save(path), None),
        "255 for 1": (lambda: Image.fromarray(np.where(ids == 1, 255, low).astype(np.uint8)).save(path), None),
        "empty": (lambda: path.write_bytes(b""), None),
        "cut": (lambda: path.write_bytes(path.read_bytes()[: rng.randrange(40)]), None),
        "folder": (lambda: (path.unlink(), path.mkdir()), None),
        "gone": (path.unlink, None),
        "dangling": (lambda: (path.unlink(), path.symlink_to("nowhere.png")), None),
    }
    word = rng.choice(sorted(kinds))
    write, read = kinds[word]
    write()
    return word, np.where(ids == 1, 255, low).astype(np.uint8) if word == "255 for 1" else read


@pytest.mark.parametrize("rounds", [60, pytest.param(3000, marks=pytest.mark.slow)])
def test_label_images(rounds: int, tmp_path: Path) -> None:
    root, out, rng, tally = tmp_path / "data", tmp_path / "counts.json", random.Random(0), Tally()
    for round_ in range(rounds):
        labels = make(root, round_)
        name = rng.choice("abc")
        word, read = other_label(root / "labels" / "train" / f"{name}.png", labels[name], rng)
        outcome, frequency = count(root, out)
        tally.add(word, outcome)
        assert outcome.accepted == (read is not None), (word, outcome.err)
        if frequency is not None and read is not None:
            assert frequency.pixels is not None and frequency.pixels.tolist() == pixels_of({**labels, name: read}), word
    print(f"label images: {tally}")


def test_masks_of_two_values_are_named(tmp_path: Path) -> None:
    labels = make(tmp_path / "data")
    (tmp_path / "data" / "classes.json").write_text(json.dumps({"names": ["other", "crack"]}))
    for name, ids in labels.items():
        mask = np.where(ids == 1, 255, 0).astype(np.uint8)
        Image.fromarray(mask).save(tmp_path / "data" / "labels" / "train" / f"{name}.png")
    outcome, _ = count(tmp_path / "data", tmp_path / "counts.json")
    assert not outcome.accepted and "'crack'" in outcome.err and "label_map {255: 1}" in outcome.err
    mapped, frequency = count(tmp_path / "data", tmp_path / "counts.json", "--options", "{label_map: {255: 1}}")
    cracks = sum(int((ids == 1).sum()) for ids in labels.values())
    assert mapped.accepted and frequency is not None and frequency.pixels is not None
    assert frequency.pixels.tolist() == [3 * SIZE[0] * SIZE[1] - cracks, cracks]


PHOTOS: dict[str, Callable[[Path, np.ndarray], object]] = {
    "grey": lambda path, pixels: Image.fromarray(pixels[..., 0]).save(path),
    "16 bits": lambda path, pixels: Image.fromarray(pixels[..., 0].astype(np.uint16) * 16).save(path),
    "transparent": lambda path, pixels: Image.fromarray(np.dstack([pixels, pixels[..., 0]])).save(path),
    "another size": lambda path, pixels: Image.fromarray(pixels[1:]).save(path),
    "jpeg": lambda path, pixels: Image.fromarray(pixels).save(path, format="JPEG"),
    "text": lambda path, pixels: path.write_text("no picture"),
    "empty": lambda path, pixels: path.write_bytes(b""),
    "gone": lambda path, pixels: path.unlink(),
}


@pytest.mark.parametrize("word", PHOTOS)
def test_photographs(word: str, tmp_path: Path) -> None:
    make(tmp_path / "data")
    path = tmp_path / "data" / "images" / "train" / "b.png"
    PHOTOS[word](path, np.asarray(Image.open(path)).copy())
    outcome, _ = count(tmp_path / "data", tmp_path / "counts.json")
    # the headers of photographs are looked at; what is behind them when they are read
    assert outcome.accepted == (word in ("grey", "jpeg")), (word, outcome.err)
    looked, _ = count(tmp_path / "data", tmp_path / "counts.json", "--images")
    assert looked.accepted == (word in ("jpeg", "another size")), (word, looked.err)


@pytest.mark.parametrize("rounds", [40, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["class_dict.csv", "labelmap.txt", "_classes.csv"])
def test_files_of_classes(name: str, rounds: int, tmp_path: Path) -> None:
    root, out, rng, tally = tmp_path / "data", tmp_path / "counts.json", random.Random(2), Tally()
    labels = make(root, coloured=name != "_classes.csv")
    (root / "classes.json").unlink(missing_ok=True)
    rows = [(c, *map(str, COLOURS[i])) for i, c in enumerate(NAMES)]
    text = {
        "class_dict.csv": "name,r,g,b\n" + "".join(",".join(row) + "\n" for row in rows),
        "labelmap.txt": "# label:color_rgb:parts:actions\n" + "".join(f"{c}:{r},{g},{b}::\n" for c, r, g, b in rows),
        "_classes.csv": "Pixel Value, Class\n" + "".join(f"{i}, {c}\n" for i, c in enumerate(NAMES)),
    }[name]
    for _ in range(rounds):
        data, word = damaged(text, rng)
        (root / name).write_bytes(data)
        outcome, frequency = count(root, out)
        tally.add(word, outcome)
        if frequency is not None and frequency.class_names == tuple(NAMES):
            assert frequency.pixels is not None and frequency.pixels.tolist() == pixels_of(labels), word
    print(f"{name}: {tally}")
    assert tally.refused and tally.accepted


def other_folder(root: Path, rng: random.Random) -> tuple[str, bool]:
    """Change the folder; a word, and whether the same labels are still there to be read."""
    images, labels = root / "images" / "train", root / "labels" / "train"
    kinds: dict[str, tuple[Callable[[], object], bool]] = {
        "hidden": (lambda: shutil.copytree(labels, labels / ".ipynb_checkpoints"), True),
        "archive": (lambda: shutil.copytree(images, images / "__MACOSX"), True),
        "resource fork": (lambda: (images / "._a.png").write_bytes(b"x"), True),
        "notes": (lambda: (labels / "notes.txt").write_text("x"), True),
        "linked": (lambda: (images.rename(root / "elsewhere"), images.symlink_to(root / "elsewhere")), True),
        "circle": (lambda: (images / "again").symlink_to(images), True),
        "masks": (lambda: (root / "labels").rename(root / "masks"), True),
        "suffix": (lambda: [p.rename(p.with_name(f"{p.stem}_mask.png")) for p in labels.glob("*.png")], True),
        "one image more": (lambda: shutil.copy(images / "a.png", images / "d.png"), False),
        "two of one name": (lambda: shutil.copy(images / "a.png", images / "a.bmp"), False),
        "another case": (lambda: (labels / "a.png").rename(labels / "A.png"), False),
        "no labels": (lambda: shutil.rmtree(root / "labels"), False),
        "no split": (lambda: images.rename(root / "images" / "other"), False),
        "dangling": (lambda: (images / "d.png").symlink_to("nowhere.png"), False),
        "no classes": (lambda: (root / "classes.json").unlink(), False),
    }
    word = rng.choice(sorted(kinds))
    kinds[word][0]()
    return word, kinds[word][1]


@pytest.mark.skipif(os.name == "nt", reason="links")
@pytest.mark.parametrize("rounds", [50, pytest.param(2000, marks=pytest.mark.slow)])
def test_folders(rounds: int, tmp_path: Path) -> None:
    root, out, rng, tally = tmp_path / "data", tmp_path / "counts.json", random.Random(3), Tally()
    for round_ in range(rounds):
        labels = make(root, round_)
        shutil.rmtree(root / "elsewhere", ignore_errors=True)
        word, same = other_folder(root, rng)
        outcome, frequency = count(root, out)
        tally.add(word, outcome)
        assert outcome.accepted == same, (word, outcome.err)
        if frequency is not None:
            assert frequency.pixels is not None and frequency.pixels.tolist() == pixels_of(labels), word
    print(f"folders: {tally}")
