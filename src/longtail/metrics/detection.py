"""COCO and LVIS metrics of detections: the one file that talks to the evaluator, hotcoco."""

import copy
import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from longtail.errors import ConfigError, DataError
from longtail.frequency.counts import ClassFrequency
from longtail.frequency.groups import CategoryGroups
from longtail.metrics.by_group import group_means
from longtail.metrics.detection_arrays import DetectionArrays, mask_areas, text_mask
from longtail.metrics.pooled import calibration, pooled_ap
from longtail.metrics.results import Prediction

IouType = Literal["bbox", "segm"]

#: Detections a class of AP-fixed, over the whole data set and without a limit an image.
#: Source: Dave et al., "Evaluating Large-Vocabulary Object Detectors: The Devil is in the Details".
FIXED_PER_CLASS = 10_000
#: Box metrics carry no prefix and mask metrics this one.
MASK_PREFIX = "mask_"
_SIZES = {"all": (0.0, 1e10), "s": (0.0, 32.0**2), "m": (32.0**2, 96.0**2), "l": (96.0**2, 1e10)}


class DetectionTruth:
    """Annotations to score detections against.

    Args:
        annotations: COCO- or LVIS-style JSON file, or its content.

    Attributes:
        category_ids: int64 (C,), category id of every class, ascending.
        class_names: Names of the C classes.
        image_ids: int64, ids of all images, ascending.
        federated: Whether the images say which classes were looked for (LVIS): others are then neither right nor
            wrong.

    Raises:
        DataError: The file cannot be read, or an annotation names an image or a category that is not there.
    """

    def __init__(self, annotations: str | Path | Mapping[str, Any]) -> None:
        import hotcoco

        source = annotations if isinstance(annotations, (str, Path)) else "the annotations"
        try:
            self._coco = hotcoco.COCO(str(annotations) if isinstance(annotations, (str, Path)) else dict(annotations))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"cannot read {source}: {error}", fix="give a COCO- or LVIS-style annotation file"
            ) from error
        self.category_ids = np.array(sorted(self._coco.get_cat_ids()), dtype=np.int64)
        self.image_ids = np.array(sorted(self._coco.get_img_ids()), dtype=np.int64)
        if not len(self.category_ids) or not len(self.image_ids):
            raise DataError(f"{source} has no categories or no images", fix="give a COCO-style annotation file")
        self._categories = self._coco.load_cats(self.category_ids.tolist())
        self.class_names = tuple(str(c.get("name", c["id"])) for c in self._categories)
        self.federated = any("neg_category_ids" in i for i in self._coco.load_imgs(self.image_ids.tolist()))
        self._check_references(source)

    @classmethod
    def from_dataset(cls, dataset: Any) -> "DetectionTruth":
        """Annotations of a ``DetectionDataset``: its file where it has one, else every sample is read once.

        Args:
            dataset: Its transform is left out: detections are in pixels of the stored images. A data set with an
                ``annotation_file`` must show all of the file's images.
        """
        path = getattr(dataset, "annotation_file", None)
        if path is not None:
            return cls(path)
        plain = copy.copy(dataset)
        plain.transform = None
        return cls(annotations_of((plain[i] for i in range(len(plain))), plain.classes.names))

    @classmethod
    def of_images(cls, annotations: str | Path, image_ids: Collection[int]) -> "DetectionTruth":
        """Annotations of some images of a file alone.

        Raises:
            DataError: The file cannot be read.
        """
        try:
            content = json.loads(Path(annotations).read_bytes())
            wanted = set(image_ids)
            content["images"] = [image for image in content["images"] if image["id"] in wanted]
            content["annotations"] = [a for a in content["annotations"] if a["image_id"] in wanted]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"cannot read {annotations}: {error}", fix="give a COCO-style annotation file") from error
        return cls(content)

    @property
    def num_classes(self) -> int:
        """Number of classes, C."""
        return len(self.category_ids)

    @property
    def groups(self) -> CategoryGroups:
        """The file's own groups: LVIS's ``frequency`` letters, else by ``image_count``, else one group of all."""
        letters = [c.get("frequency") for c in self._categories]
        if all(letter in ("r", "c", "f") for letter in letters):
            names = {"rare": "r", "common": "c", "frequent": "f"}
            return CategoryGroups.explicit(
                {name: [c for c, of in enumerate(letters) if of == letter] for name, letter in names.items()}
            )
        if all("image_count" in c for c in self._categories):
            return CategoryGroups.lvis([c["image_count"] for c in self._categories])
        return CategoryGroups.explicit({"all": range(self.num_classes)})

    @property
    def frequency(self) -> ClassFrequency | None:
        """Counts of the training split, where the categories carry them (LVIS)."""
        if not all("image_count" in c for c in self._categories):
            return None
        counted = all("instance_count" in c for c in self._categories)
        instances = np.array([c["instance_count"] for c in self._categories]) if counted else None
        return ClassFrequency(self.class_names, np.array([c["image_count"] for c in self._categories]), None, instances)

    def _check_references(self, source: object) -> None:
        everyone = self._coco.get_ann_ids()
        for what, ids, key in (
            ("category", self.category_ids, "category_id"),
            ("image", self.image_ids, "image_id"),
        ):
            known = self._coco.get_ann_ids(**{"cat_ids" if what == "category" else "img_ids": ids.tolist()})
            if len(known) != len(everyone):
                lost = self._coco.load_anns([sorted(set(everyone) - set(known))[0]])[0]
                raise DataError(
                    f"annotation {lost['id']} of {source} names {what} {lost[key]}, which the file does not list",
                    fix=f"add the {what} or remove the annotation",
                )


def annotations_of(samples: Iterable[Mapping[str, Any]], class_names: Sequence[str]) -> dict[str, Any]:
    """COCO-style content of detection samples; category ids are the class ids.

    Args:
        samples: Untransformed ``DetectionSample`` dicts.
        class_names: Names of the C classes.
    """
    from hotcoco import mask

    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for sample in samples:
        height, width = sample["image"].shape[-2:]
        identity = int(sample["image_id"])
        images.append({"id": identity, "height": int(height), "width": int(width), "file_name": str(sample["name"])})
        boxes = np.asarray(sample["boxes"], dtype=np.float64).reshape(-1, 4)
        masks = np.asarray(sample["masks"], dtype=np.uint8) if "masks" in sample else None
        for i, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
            record = {
                "id": len(annotations) + 1,
                "image_id": identity,
                "category_id": int(sample["labels"][i]),
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": (x1 - x0) * (y1 - y0),
                "iscrowd": int(sample["crowd"][i]),
            }
            if masks is not None:
                encoded = mask.encode(np.asfortranarray(masks[i]))
                record |= {"segmentation": text_mask(encoded), "area": float(masks[i].sum())}
            annotations.append(record)
    categories = [{"id": c, "name": name} for c, name in enumerate(class_names)]
    return {"images": images, "annotations": annotations, "categories": categories}


def evaluate(
    truth: DetectionTruth,
    detections: DetectionArrays,
    iou_type: IouType = "bbox",
    *,
    federated: bool | None = None,
    max_detections: int | None = None,
    sizes: Sequence[str] = tuple(_SIZES),
) -> Any:
    """Run the evaluator once.

    Args:
        truth: The annotations.
        detections: The detections; may be none.
        iou_type: ``bbox`` or ``segm``.
        federated: LVIS's rules; None for what the annotations are.
        max_detections: Limit: an image where federated (LVIS: 300), an image and class elsewhere (COCO: 100); 0 for no
            limit. None for these defaults.
        sizes: Size ranges: ``all``, ``s``, ``m``, ``l``.

    Returns:
        hotcoco's evaluator with ``eval`` and ``eval_imgs`` filled.

    Raises:
        ConfigError: Masks are to be scored and there are none.
        DataError: A detection names an unknown image or class, or its score or box is not finite.
    """
    import hotcoco

    _check_detections(truth, detections, iou_type)
    federated = truth.federated if federated is None else federated
    boxes = np.concatenate([detections.boxes[:, :2], detections.boxes[:, 2:] - detections.boxes[:, :2]], axis=1)
    categories = truth.category_ids[detections.labels]
    rows = np.concatenate(
        [detections.image_ids[:, None], boxes, detections.scores[:, None], categories[:, None]], axis=1
    )
    masks = detections.masks if iou_type == "segm" and len(detections) else None
    found = truth._coco.load_res(rows, segmentation=masks)
    if masks is not None:  # sizes of masks are by their own area, as all reference evaluations have it
        found.update_anns(ids=np.arange(1, len(rows) + 1), area=np.asarray(mask_areas(masks), dtype=np.float64))
    limit = (300 if federated else 100) if max_detections is None else max_detections
    if federated:
        found = found.cap_detections_per_image(limit or None)
    run = hotcoco.COCOeval(truth._coco, found, iou_type, lvis_style=federated)
    run.params.area_rng = [list(_SIZES[size]) for size in sizes]
    run.params.area_rng_lbl = list(sizes)
    if not federated:
        run.params.max_dets = [limit or max(len(rows), 1)]
    run.evaluate()
    run.accumulate()
    return run


def detection_prediction(
    truth: DetectionTruth,
    detections: DetectionArrays,
    groups: CategoryGroups | None = None,
    *,
    iou_types: Sequence[IouType] = ("bbox",),
    federated: bool | None = None,
    max_detections: int | None = None,
    fixed: bool = True,
    pooled: bool = True,
) -> Prediction:
    """All scores of one way to detect, as ``results.json`` holds them.

    Scoring the detections of each stage of a cascade gives the paper's Figure 1 (a).

    Args:
        truth: The annotations.
        detections: The detections; with masks where ``segm`` is wanted.
        groups: Partition of the classes; None for the annotations' own.
        iou_types: ``bbox``, ``segm`` or both. Metrics of masks are named ``mask_AP`` and so on.
        federated: See ``evaluate``.
        max_detections: See ``evaluate``.
        fixed: Also AP_fixed: the best 10,000 detections of each class, without a limit an image. The honest check of
            whatever re-ranks categories, since the ordinary limit rewards it.
        pooled: Also AP_pool, one precision-recall curve over all classes, and the calibration of scores by group.
            Reads every match, which costs memory in proportion to the detections.

    Source: SPEC C31; PEERS part 2 §3.
    """
    groups = truth.groups if groups is None else groups
    if groups.num_classes != truth.num_classes:
        raise ConfigError(
            f"groups of {groups.num_classes} classes for {truth.num_classes} categories",
            fix="group exactly the categories of the annotation file, in the order of their ids",
        )
    prediction = Prediction({}, {name: {} for name in groups.names})
    for iou_type in iou_types:
        prefix = MASK_PREFIX if iou_type == "segm" else ""
        run = evaluate(truth, detections, iou_type, federated=federated, max_detections=max_detections)
        _add_scores(prediction, run.eval, groups, prefix)
        del run  # its matches take as much memory as those of the next
        if not (fixed or pooled):
            continue
        best = detections.top_per_class(FIXED_PER_CLASS)
        run = evaluate(truth, best, iou_type, federated=federated, max_detections=0, sizes=("all",))
        if fixed:
            _add_metric(prediction, f"{prefix}AP_fixed", _class_ap(run.eval)[:, 0].mean(axis=1), groups)
        if pooled:
            matches = run.eval_imgs
            prediction.overall[f"{prefix}AP_pool"] = pooled_ap(matches)
            group_of = dict(zip(truth.category_ids.tolist(), groups.group_of.tolist(), strict=True))
            prediction.extra[f"{prefix}calibration"] = calibration(matches, group_of, groups.names)
    prediction.extra["detections"] = len(detections)
    return prediction


def _class_ap(scores: Mapping[str, Any]) -> np.ndarray:
    """AP of every class, size range and IoU threshold, (C, sizes, thresholds); NaN where there is nothing to find."""
    precision = np.asarray(scores["precision"])[..., -1]  # thresholds, recalls, classes, sizes
    return np.where(precision > -1, precision, np.nan).mean(axis=1).transpose(1, 2, 0)


def _add_scores(prediction: Prediction, scores: Mapping[str, Any], groups: CategoryGroups, prefix: str) -> None:
    ap = _class_ap(scores)
    everything, recall = ap[:, 0], np.asarray(scores["recall"])[:, :, 0, -1].T
    _add_metric(prediction, f"{prefix}AP", everything.mean(axis=1), groups)
    _add_metric(prediction, f"{prefix}AP50", everything[:, 0], groups)
    _add_metric(prediction, f"{prefix}AP75", everything[:, 5], groups)
    for size, name in enumerate(tuple(_SIZES)[1:], 1):
        prediction.overall[f"{prefix}AP{name}"] = _mean(ap[:, size].mean(axis=1))
    _add_metric(prediction, f"{prefix}AR", np.where(recall > -1, recall, np.nan).mean(axis=1), groups)


def _add_metric(prediction: Prediction, name: str, per_class: np.ndarray, groups: CategoryGroups) -> None:
    """One metric overall, by group and by class."""
    prediction.overall[name] = _mean(per_class)
    prediction.per_class[name] = [None if math.isnan(value) else float(value) for value in per_class]
    for group, value in group_means(per_class, groups).items():
        prediction.groups[group][name] = value


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def _check_detections(truth: DetectionTruth, detections: DetectionArrays, iou_type: str) -> None:
    if iou_type not in ("bbox", "segm"):
        raise ConfigError(f"iou_type is {iou_type!r}", fix="choose 'bbox' or 'segm'")
    if iou_type == "segm" and detections.masks is None and len(detections):
        raise ConfigError("masks are to be scored, but the detections have none", fix="score 'bbox' only")
    strangers = ~np.isin(detections.image_ids, truth.image_ids)
    if strangers.any():
        raise DataError(
            f"{strangers.sum()} detections are of images that the annotations do not list, such as "
            f"{detections.image_ids[strangers][0]}",
            fix="score detections against the annotations of the same split",
        )
    wrong = (detections.labels < 0) | (detections.labels >= truth.num_classes)
    if wrong.any():
        raise DataError(
            f"{wrong.sum()} detections have classes outside 0 … {truth.num_classes - 1}, such as "
            f"{detections.labels[wrong][0]}",
            fix="use the class ids of the annotation file: its categories in the order of their ids",
        )
    broken = ~(np.isfinite(detections.scores) & np.isfinite(detections.boxes).all(axis=1))
    if broken.any():
        raise DataError(
            f"{broken.sum()} detections have a score or box that is not finite, first at {np.flatnonzero(broken)[0]}",
            fix="find out why the detector gives NaN; do not score it",
        )
