"""How cost grows: with classes, experts, resolution, images, processes and ranks; ``results/scale/*.json``.

``OMP_NUM_THREADS=1 taskset -c 1 python benchmarks/scale.py``, some of it with ``--only classes images``. CPU time of one
thread and peak memory, except where wall time is named. ``python benchmarks/scale_figures.py`` draws the figures.
"""

import argparse
import gc
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from harness import RESULTS, machine, resident_growth, torch_peak
from scale_processes import count_with_workers, reduce_with_ranks

from longtail.ensembles.dynamic import DynamicEnsemble
from longtail.frequency.count_pixels import count_pixels
from longtail.frequency.groups import CategoryGroups
from longtail.frequency.label_format import PLAIN
from longtail.mec.losses import expert_losses
from longtail.medoe.experts import LabelSets
from longtail.medoe.losses import ExpertLoss
from longtail.metrics.confusion import ConfusionMatrix
from longtail.metrics.detection_arrays import DetectionArrays
from longtail.metrics.detection_scorer import DetectionScorer
from longtail.metrics.detection_truth import DetectionTruth
from longtail.pixels import Upsampling
from longtail.training.allocator import keep_freed_memory

CLASSES = (19, 150, 847, 1203)  # Cityscapes, ADE20K, ADE20K-full, LVIS
EXPERTS = (1, 2, 3, 4, 6)
SIDES = (64, 128, 256, 512)
IMAGES = (1_000, 10_000, 100_000)
REPEATS = 3

Cost = dict[str, list[float]]


def counts_of(classes: int) -> np.ndarray:
    """Long-tailed counts, most frequent class first."""
    return (1e7 / np.arange(1, classes + 1) ** 1.6 + 1).astype(np.int64)


def cost_of(points: Sequence[Callable[[], Any]]) -> Cost:
    """Median CPU milliseconds and peak MiB of torch at every point."""
    cost: Cost = {"ms": [], "mib": []}
    for run in points:
        run()
        times = []
        for _ in range(REPEATS):
            gc.collect()
            start = time.process_time()
            run()
            times.append(time.process_time() - start)
        cost["ms"].append(round(1e3 * statistics.median(times), 3))
        cost["mib"].append(round(torch_peak(run) / 2**20, 2))
    return cost


def expert_loss(classes: int, experts: int, side: int) -> Callable[[], None]:
    """Losses of all experts, one image, logits at a quarter of its size; forward and backward."""
    generator = torch.Generator().manual_seed(0)
    counts = counts_of(classes)
    share = torch.from_numpy(counts / counts.sum())
    cells = torch.multinomial(share, (side // 8) ** 2, True, generator=generator).view(1, side // 8, side // 8)
    target = cells.repeat_interleave(8, 1).repeat_interleave(8, 2)
    sizes = [classes // experts] * (experts - 1)
    groups = CategoryGroups.by_rank(counts, (*sizes, classes - sum(sizes)))
    criteria = [ExpertLoss(mask, share.float()) for mask in LabelSets.from_groups(groups).masks]
    low = [torch.randn(1, classes, side // 4, side // 4, generator=generator, requires_grad=True) for _ in criteria]
    upsampling = Upsampling((side, side))

    def run() -> None:
        for criterion, logits in zip(criteria, low, strict=True):
            logits.grad = None
            torch.stack(list(criterion(logits, target, upsampling).values())).sum().backward()

    return run


def plain_loss(classes: int, side: int) -> Callable[[], None]:
    """Cross-entropy of one map as stock PyTorch computes it: upsampled, forward and backward."""
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(classes, (1, side, side), generator=generator)
    low = torch.randn(1, classes, side // 4, side // 4, generator=generator, requires_grad=True)

    def run() -> None:
        low.grad = None
        F.cross_entropy(F.interpolate(low, (side, side), mode="bilinear"), target).backward()

    return run


def multi_expert_loss(classes: int, rows: int = 512) -> Callable[[], None]:
    """MEC's losses of three stages, forward and backward."""
    generator = torch.Generator().manual_seed(0)
    losses = expert_losses(CategoryGroups.by_rank(counts_of(classes), thirds(classes)), overall_weight=0.7)
    logits = [torch.randn(rows, classes + 1, generator=generator).requires_grad_() for _ in losses]
    target = torch.randint(classes, (rows,), generator=generator)
    target[rows // 4 :] = classes

    def run() -> None:
        for loss, z in zip(losses, logits, strict=True):
            z.grad = None
            loss(z, target).backward()

    return run


def stage_ensemble(classes: int, rows: int = 300) -> Callable[[], Any]:
    """Group alignment and the dynamic ensemble of three stages."""
    ensemble = DynamicEnsemble(CategoryGroups.by_rank(counts_of(classes), thirds(classes)))
    logits = torch.randn(3, rows, classes + 1, generator=torch.Generator().manual_seed(0))
    return torch.inference_mode()(lambda: ensemble(logits))


def thirds(classes: int) -> tuple[int, int, int]:
    return classes // 3, classes // 3, classes - 2 * (classes // 3)


def by_classes() -> dict[str, Any]:
    """Losses and ensembles against the number of classes."""
    return {
        "x": CLASSES,
        "series": {
            "loss of 3 experts, 128x128": cost_of([expert_loss(c, 3, 128) for c in CLASSES]),
            "cross-entropy, 1 map, stock": cost_of([plain_loss(c, 128) for c in CLASSES]),
            "multi-expert loss, 3 x 512 boxes": cost_of([multi_expert_loss(c) for c in CLASSES]),
            "dynamic ensemble, 3 x 300 boxes": cost_of([stage_ensemble(c) for c in CLASSES]),
        },
    }


def by_experts() -> dict[str, Any]:
    """The experts' losses against their number."""
    return {
        "x": EXPERTS,
        "series": {"losses of all experts, 150 classes, 128x128": cost_of([expert_loss(150, k, 128) for k in EXPERTS])},
    }


def by_resolution() -> dict[str, Any]:
    """Losses against the side of the image."""
    return {
        "x": SIDES,
        "series": {
            "loss of 3 experts, 150 classes": cost_of([expert_loss(150, 3, s) for s in SIDES]),
            "cross-entropy, 1 map, stock": cost_of([plain_loss(150, s) for s in SIDES]),
        },
    }


def by_images() -> dict[str, Any]:
    """A pass over the labels, and evaluation, against the number of images; each point in a process of its own."""
    return {
        "x": IMAGES,
        "series": {
            "frequency pass": in_children(pass_over_labels, IMAGES),
            "segmentation evaluation": in_children(evaluate_segmentation, IMAGES),
            "detection evaluation, 30 boxes an image": in_children(evaluate_detections, IMAGES),
            "of that, reading the annotations": in_children(read_annotations, IMAGES),
        },
    }


def in_children(run: Callable[[int], Any], points: Sequence[int]) -> dict[str, Any]:
    """CPU milliseconds and growth of resident memory of a call, measured in forked processes."""
    cost: dict[str, Any] = {"ms": [], "mib": []}
    context = multiprocessing.get_context("fork")
    for point in points:
        queue = context.SimpleQueue()
        child = context.Process(target=_measure_into, args=(queue, run, point))
        child.start()
        seconds, peak = queue.get()
        child.join()
        cost["ms"].append(round(1e3 * seconds, 1))
        cost["mib"].append(round(peak / 2**20, 2))
    return cost


def _measure_into(queue: Any, run: Callable[[int], Any], point: int) -> None:
    run(16)  # what is loaded and allocated once
    start = time.process_time()
    peak = resident_growth(lambda: run(point))
    queue.put((time.process_time() - start, peak))


class RepeatedLabels:
    """A few label files, each many times over: a data set of any length."""

    def __init__(self, files: Sequence[Path], length: int) -> None:
        from longtail.datasets.base import ClassInfo
        from longtail.datasets.palette import generate_palette

        self.label_files = [files[i % len(files)] for i in range(length)]
        self.classes = ClassInfo(tuple(map(str, range(150))), generate_palette(150))
        self.ignore_index, self.label_format, self.fingerprint = 255, PLAIN, ""

    def __len__(self) -> int:
        return len(self.label_files)

    def mask(self, index: int) -> np.ndarray:
        raise NotImplementedError("label files are counted without it")


def label_files(folder: Path, count: int = 16) -> list[Path]:
    """Small label maps in patches."""
    from PIL import Image

    rng = np.random.default_rng(0)
    files = [folder / f"{i}.png" for i in range(count)]
    for file in files:
        Image.fromarray(np.kron(rng.integers(0, 150, (6, 6)), np.ones((12, 12))).astype(np.uint8)).save(file)
    return files


def pass_over_labels(images: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        count_pixels(RepeatedLabels(label_files(Path(folder)), images), workers=1, progress=False)  # type: ignore[arg-type]


def evaluate_segmentation(images: int) -> None:
    """Label maps of 64x64, made one by one."""
    confusion = ConfusionMatrix(150)
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(150, (64, 64), generator=generator, dtype=torch.uint8)
    for index in range(images):
        confusion.update(target.roll(index % 64, 0), target)
    confusion.compute()


def boxes_of(image: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes and boxes (xyxy) of seven objects."""
    rng = np.random.default_rng(image)
    corner = rng.random((7, 2)) * 400
    return rng.integers(80, size=7), np.concatenate([corner, corner + rng.random((7, 2)) * 99 + 9], axis=1)


def read_annotations(images: int) -> DetectionTruth:
    """A file of seven objects an image, of 80 classes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "annotations.json"
        with path.open("w") as file:
            file.write('{"categories": ' + json.dumps([{"id": c, "name": str(c)} for c in range(80)]) + ', "images": [')
            file.writelines(f'{", " * (i > 0)}{{"id": {i}, "height": 512, "width": 512}}' for i in range(images))
            file.write('], "annotations": [')
            file.writelines(f"{', ' * (i > 0)}{objects_of(i)}" for i in range(images))
            file.write("]}")
        return DetectionTruth(path)


def objects_of(image: int) -> str:
    """Annotations of an image."""
    records = []
    for place, (label, (x0, y0, x1, y1)) in enumerate(zip(*boxes_of(image), strict=True)):
        box = [float(x0), float(y0), float(x1 - x0), float(y1 - y0)]
        identity = {"id": 7 * image + place + 1, "image_id": image, "category_id": int(label)}
        records.append(json.dumps({**identity, "bbox": box, "area": box[2] * box[3]}))
    return ", ".join(records)


def evaluate_detections(images: int) -> None:
    """AP, AP-fixed, AP-pool of 30 detections an image, eight images at a time."""
    scorer = DetectionScorer(read_annotations(images))
    for start in range(0, images, 8):
        found = []
        for image in range(start, min(start + 8, images)):
            labels, boxes = boxes_of(image)
            rng = np.random.default_rng(image)
            near = rng.integers(7, size=30)
            found.append(
                DetectionArrays(
                    np.full(30, image), boxes[near] + rng.normal(size=(30, 4)), rng.random(30), labels[near]
                )
            )
        scorer.update(range(start, start + len(found)), DetectionArrays.join(found))
    scorer.compute()


PARTS = {
    "images": by_images,  # first: memory that other parts freed and the process kept would hide growth
    "classes": by_classes,
    "experts": by_experts,
    "resolution": by_resolution,
    "workers": count_with_workers,
    "ranks": reduce_with_ranks,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    keep_freed_memory()
    torch.set_num_threads(1)
    folder = RESULTS / "scale"
    folder.mkdir(parents=True, exist_ok=True)
    for name in sorted(parser.parse_args().only, key=list(PARTS).index):
        start = time.process_time()
        record = {"name": name, **PARTS[name](), "machine": machine(), "date": date.today().isoformat()}
        (folder / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
        sys.stdout.write(f"{name}, {time.process_time() - start:.0f} s: {json.dumps(record['series'])}\n")


if __name__ == "__main__":
    main()
