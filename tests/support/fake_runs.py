"""Run folders with made-up numbers."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.metrics.by_group import segmentation_prediction
from longtail.metrics.results import Prediction, Results


def frequency(num_classes: int, steepness: float = 1.6) -> ClassFrequency:
    """Zipf-like counts in shuffled order."""
    order = np.random.default_rng(1).permutation(num_classes)
    pixels = (2e8 / (1 + order) ** steepness).astype(np.int64)
    names = tuple(f"{_WORDS[i % len(_WORDS)]} {i // len(_WORDS) or ''}".strip() for i in range(num_classes))
    return ClassFrequency(class_names=names, images=np.maximum(pixels // 10**5, 1), pixels=pixels, num_images=2000)


_WORDS = (
    "wall, side of a room", "building", "sky", "floor", "tree", "road", "bed", "window", "grass", "cabinet", "person",
    "earth", "door", "table", "mountain", "plant", "curtain", "chair", "car", "water", "painting", "sofa", "shelf",
    "house", "sea", "mirror", "rug", "field", "armchair", "seat", "fence", "desk", "rock", "wardrobe", "lamp", "bath",
    "railing", "cushion", "base", "box", "column", "signboard", "dresser", "counter", "sand", "sink", "skyscraper",
    "fireplace", "refrigerator", "grandstand", "path",
)  # fmt: skip


def confusion(counts: ClassFrequency, skill: float, tail_help: float, seed: int = 0, absent: int = 0) -> torch.Tensor:
    """A confusion matrix whose rare classes are worse, and lose pixels to frequent ones."""
    rng = np.random.default_rng(seed)
    share = counts.share()
    rows = np.zeros((counts.num_classes, counts.num_classes), np.int64)
    rarity = np.clip(-np.log10(share) / 6, 0, 1)
    for j in range(counts.num_classes):
        hit = np.clip(skill - (0.75 - tail_help) * rarity[j] + rng.normal(0, 0.06), 0.01, 0.98)
        rest = share * rng.exponential(1, counts.num_classes)
        rest[j] = 0
        p = (1 - hit) * rest / max(rest.sum(), 1e-12)
        p[j] = 1 - p.sum()
        rows[j] = rng.multinomial(max(int(counts.pixels[j] / 500), 3), p / p.sum())
    if absent:
        rows[np.argsort(counts.pixels)[:absent]] = 0
    return torch.from_numpy(rows)


def make_results(
    method: str,
    num_classes: int = 51,
    *,
    with_frequency: bool = True,
    experts: int = 0,
    tail_help: float = 0.0,
    absent: int = 0,
) -> Results:
    """Results of a fake segmentation run."""
    counts = frequency(num_classes)
    groups = CategoryGroups.by_share(counts)
    known = counts if with_frequency else None

    def scored(skill: float, tail_help: float, seed: int) -> Prediction:
        matrix = confusion(counts, skill, tail_help, seed, absent)
        accuracy = (matrix.diagonal() / matrix.sum(1).clamp(min=1)).double()
        return segmentation_prediction(matrix, groups, known, bias=1.6 * (1 - accuracy) if experts else None)

    predictions = {method: scored(0.92, tail_help, 0)}
    if experts:
        predictions["oracle"] = scored(0.97, tail_help + 0.25, 3)
        predictions["group_average"] = scored(0.9, tail_help - 0.03, 4)
        for expert in range(experts):
            predictions[f"expert_{expert + 1}"] = scored(
                0.92 - 0.2 * expert, tail_help + 0.18 * expert - 0.1, 5 + expert
            )
    return Results(
        task="segmentation",
        method=method,
        class_names=list(counts.class_names),
        groups=groups.to_dict(),
        predictions=predictions,
        frequency=counts.to_dict() if with_frequency else None,
        data={"name": "fake scenes", "split": "val", "images": 200, "fingerprint": "abc"},
        settings={"method": {"name": method, "alpha": 0.2}},
        seed=0,
        environment={"torch": "2.11"},
    )


def make_detection_results(method: str, gain: float = 0.0) -> Results:
    """Results of a fake detection run."""
    rng = np.random.default_rng(2)
    instances = (3000 / (1 + np.arange(39)) ** 1.7).astype(np.int64) + 1
    groups = CategoryGroups.by_count(instances)
    ap: list[float | None] = list(np.clip(0.4 - 0.01 * np.arange(39) + rng.normal(0, 0.03, 39) + gain, 0, 1))
    ap[7] = None

    def mean(members):
        values = [ap[m] for m in members if ap[m] is not None]
        return float(np.mean(values)) if values else None

    by_group = {name: {"AP": mean(members)} for name, members in groups.to_dict().items()}
    overall = {"AP": mean(range(39)), "AP50": 0.4 + gain, "AP75": 0.2 + gain, "APs": None}
    counts = ClassFrequency(class_names=tuple(f"thing {i}" for i in range(39)), images=instances, instances=instances)
    prediction = Prediction(overall, by_group, {"AP": ap})
    return Results(
        task="detection",
        method=method,
        class_names=list(counts.class_names),
        groups=groups.to_dict(),
        predictions={method: prediction, "stage_1": prediction, "stage_2": prediction},
        frequency=counts.to_dict(),
    )


def write_run(folder: Path, results: Results, pictures: int = 0) -> Path:
    """A run folder with results and, where asked, pictures."""
    results.save(folder / "results.json")
    if not pictures:
        return folder
    rng = np.random.default_rng(0)
    classes = len(results.class_names)
    target = folder / "pictures"
    target.mkdir()
    names = [f"scene_{i}" for i in range(pictures)]
    readouts = list(results.predictions)
    for number, name in enumerate(names):
        truth = np.zeros((300, 480), np.uint8)
        for label in rng.permutation(classes)[:9]:
            y, x = rng.integers(0, 240), rng.integers(0, 400)
            truth[y : y + rng.integers(30, 140), x : x + rng.integers(30, 160)] = label
        truth[:6] = 255
        photo = np.clip((truth[..., None] * np.array([3, 5, 7]) % 200 + rng.normal(30, 12, (300, 480, 3))), 0, 255)
        Image.fromarray(photo.astype(np.uint8)).save(target / f"{name}.input.jpg")
        Image.fromarray(truth).save(target / f"{name}.truth.png")
        for readout in readouts:
            wrong = np.roll(truth, 3 + number, axis=1)
            Image.fromarray(np.where(wrong == 255, 0, wrong).astype(np.uint8)).save(target / f"{name}.{readout}.png")
    palette = rng.integers(40, 255, (classes, 3)).tolist()
    (target / "index.json").write_text(json.dumps({"images": names, "readouts": readouts, "palette": palette}))
    return folder
