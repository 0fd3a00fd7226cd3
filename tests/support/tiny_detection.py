"""Detection runs that take seconds, a file of annotations, and a detector that sees the truth."""

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from PIL import Image
from torch import nn

from longtail.datasets.base import DetectionDataset
from longtail.datasets.longtail_scenes import LongTailScenes
from longtail.detection.method import DetectionMethod, Detections, StageOutputs
from longtail.frequency import CategoryGroups
from longtail.metrics.detection_truth import annotations_of
from longtail.settings import from_dict
from longtail.training.detection_config import DetectionConfig
from longtail.training.evaluate_detection import evaluate_detection
from longtail.transforms import IMAGENET_MEAN, IMAGENET_STD, detection_eval

SETTINGS: dict[str, Any] = {
    "data": {
        "dataset": "longtail-scenes",
        "size": [48, 64],
        "num_images": 12,
        "groups": {"edges": [2, 5]},
        "limit": 6,
    },
    "augmentation": {"short_sides": [48, 56], "short_side": 48, "max_side": 100},
    "model": {
        "backbone": {"name": "torchvision/mobilenet_v2", "channels": 8, "frozen_stages": 0},
        "head_channels": 16,
        "mask_channels": 8,
        "mask_convolutions": 1,
        "samples": 16,
        "proposals": {"anchor_sizes": [8, 16, 32, 64, 128], "kept_train": 40, "kept_test": 20},
        "postprocess": {"max_detections": 10},
    },
    "iterations": {"train": 3},
    "optimiser": {"lr": 0.001, "warmup_iterations": 1},
    "loading": {"batch_size": 2, "workers": 0},
    "hardware": {"accelerator": "cpu", "devices": 1},
    "logging": {"logger": "none", "log_interval": 2, "val_interval": 100},
    "evaluation": {"pictures": 2},
}


def tiny_settings(**changes: Any) -> dict[str, Any]:
    return {**SETTINGS, **changes}


def tiny_config(**changes: Any) -> DetectionConfig:
    return from_dict(DetectionConfig, tiny_settings(**changes))


def detector_arguments(**method: Any) -> dict[str, Any]:
    """Arguments of a ``Detector`` of six classes."""
    names = [f"class {c}" for c in range(6)]
    return {
        "model": copy.deepcopy({"name": "cascade", **SETTINGS["model"]}),
        "method": {"name": "mec", **method},
        "classes": {"names": names, "palette": [[40 * c, 0, 99] for c in range(6)], "ids": [3, 5, 7, 11, 13, 17]},
        "groups": {"names": ["rare", "common", "frequent"], "members": [[0, 1], [2, 3], [4, 5]]},
        "frequency": {
            "class_names": names,
            "images": [1, 2, 20, 30, 200, 300],
            "instances": [1, 2, 20, 30, 200, 300],
            "pixels": None,
            "num_images": 400,
        },
        "input": {"short_side": 48, "max_side": 100},
    }


class SeesTheTruth(DetectionMethod):
    """Finds exactly the annotated objects; recognises an image by its mean. ``wrong`` mistakes every class.

    With ``limit``, it keeps so many of an image.
    """

    unlimited_kinds = ("bbox", "segm")

    def __init__(self, dataset: DetectionDataset, limit: int | None = None) -> None:
        samples = [dataset[i] for i in range(len(dataset))]
        super().__init__(dataset.classes.num_classes, "masks" in samples[0])
        content = annotations_of(samples, dataset.classes.names)
        self.means = torch.stack([s["image"].float().mean((1, 2)) / 255 for s in samples])
        ids = [s["image_id"] for s in samples]
        self.objects = [[a for a in content["annotations"] if a["image_id"] == i] for i in ids]
        self.weight, self.limit = nn.Parameter(torch.zeros(1)), limit

    def losses(self, images, targets) -> dict[str, torch.Tensor]:
        return {"nothing": self.weight.sum()}

    def stage_outputs(self, images) -> list[StageOutputs]:
        raise NotImplementedError

    def readouts(self) -> dict:
        return {"right": None, "wrong": None}

    def predict_readouts(
        self, images, original_sizes=None, names=None, *, unlimited=False
    ) -> dict[str, list[Detections]]:
        found = [self._find(image, size) for image, size in zip(images, original_sizes, strict=True)]
        wrong = [(d.labels + 1) % self.num_classes for d in found]
        mistaken = [Detections(d.boxes, d.scores, w, d.size, d.masks) for d, w in zip(found, wrong, strict=True)]
        given = {name: found if name == "right" else mistaken for name in names or self.readouts()}
        return {name: [self._best(d, unlimited) for d in every] for name, every in given.items()}

    def _best(self, every: Detections, unlimited: bool) -> Detections:
        columns = (every.boxes, every.scores, every.labels)
        masks = None if every.masks is None else every.masks[: self.limit]
        return Detections(*(c[: self.limit] for c in columns), every.size, masks, every if unlimited else None)

    def _find(self, image: torch.Tensor, size: Sequence[int]) -> Detections:
        mean = image.mean((1, 2)) * torch.tensor(IMAGENET_STD) + torch.tensor(IMAGENET_MEAN)
        objects = self.objects[int((self.means - mean).abs().sum(1).argmin())]
        boxes = torch.tensor([o["bbox"] for o in objects], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        return Detections(
            boxes,
            torch.linspace(1, 0.5, len(objects)),
            torch.tensor([o["category_id"] for o in objects], dtype=torch.int64),
            (int(size[0]), int(size[1])),
            [o["segmentation"] for o in objects] if self.has_masks else None,
        )


def write_coco(root: Path, split: str, count: int = 5, *, seed: int = 0, federated: bool = False) -> None:
    """A COCO-style folder with grey images, one of them empty, and category ids that are not contiguous."""
    rng = np.random.default_rng(seed)
    (root / "images" / split).mkdir(parents=True, exist_ok=True)
    (root / "annotations").mkdir(exist_ok=True)
    categories = [{"id": i, "name": f"class {i}", "image_count": 5 * i} for i in (2, 3, 20)]
    images, annotations = [], []
    for place in range(count):
        height, width = 40 + 4 * place, 60 - 4 * place
        pixels = np.full((height, width, 3), 20 * place + (split != "train"), np.uint8)
        name = f"{split}/picture {place}.png"
        Image.fromarray(pixels).save(root / "images" / name)
        images.append({"id": 100 + place, "height": height, "width": width, "file_name": name})
        for _ in range(0 if place == 1 else 3):
            left, top = rng.integers(0, 20, 2).tolist()
            box = [left, top, *rng.integers(5, 18, 2).tolist()]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 100 + place,
                    "category_id": int(rng.choice([2, 3, 20])),
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
    if federated:
        images = [{**image, "neg_category_ids": [2, 3, 20], "not_exhaustive_category_ids": []} for image in images]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations" / f"{split}.json").write_text(json.dumps(content))


GROUPS = CategoryGroups(("rare", "frequent"), (tuple(range(6, 12)), tuple(range(6))))


def scenes(count: int = 8, transform=None, **options) -> LongTailScenes:
    return LongTailScenes("val", num_images=count, size=(48, 64), task="detection", transform=transform, **options)


def scores_of_truth(pictures: Path) -> dict[str, float]:
    data = scenes(7, transform=detection_eval(48))
    results = evaluate_detection(SeesTheTruth(scenes()), data, groups=GROUPS, pictures=3, pictures_dir=pictures)
    return {f"{name} {metric}": p.overall[metric] for name, p in results.predictions.items() for metric in ("AP", "AR")}


def score_on_rank(rank: int, port: int, folder: str) -> None:
    """Target of a process of its own."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    (Path(folder) / f"{rank}.json").write_text(json.dumps(scores_of_truth(Path(folder) / "shared")))
    dist.destroy_process_group()
