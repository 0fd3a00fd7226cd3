"""Where the pixels of the classes go: flows between groups near boundaries and inside, boundary IoU, images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, Integer
from torch import Tensor

from longtail.frequency.groups import CategoryGroups
from longtail.metrics.by_group import add_class_metric
from longtail.metrics.image_counts import ImageCounts
from longtail.metrics.image_scores import ImageScores
from longtail.metrics.label_bands import BAND, BandCounts, count_bands
from longtail.metrics.label_regions import LargestRegions, Region
from longtail.metrics.results import Prediction
from longtail.metrics.segmentation import confusion_matrix
from longtail.metrics.shown_classes import shown_classes

_TAKERS = 4  # classes named for each true class


class LabelDiagnosis:
    """Collects image by image what ``results.json`` says on where pixels go.

    Args:
        num_classes: Number of classes C.
        ignore_index: Value of pixels without a label.
    """

    def __init__(self, num_classes: int, ignore_index: int) -> None:
        self.num_classes, self.ignore_index = num_classes, ignore_index
        self.band = np.zeros((num_classes, num_classes), dtype=np.int64)
        self.boundary = np.zeros((2, num_classes), dtype=np.int64)
        self.names: list[str] = []
        self.counts: list[np.ndarray] = []
        self.regions = LargestRegions()

    def look(self, prediction: Integer[Tensor, "h w"], truth: Integer[Tensor, "h w"]) -> tuple[Tensor, BandCounts]:
        """Confusion matrix and bands of one image, to ``add`` in the order of the images."""
        matrix = confusion_matrix(prediction, truth, self.num_classes, self.ignore_index)
        return matrix, count_bands(prediction.cpu().numpy(), truth.cpu().numpy(), self.num_classes, self.ignore_index)

    def add(self, name: str, matrix: Tensor, bands: BandCounts, regions: list[Region] | None = None) -> None:
        """Take what ``look`` found, and the regions of wrong pixels where they are to be shown."""
        self.regions.add(regions or [])
        self.names.append(name)
        self.counts.append(np.stack([v.cpu().numpy() for v in (matrix.diagonal(), matrix.sum(1), matrix.sum(0))]))
        self.band += bands.confusion
        self.boundary += bands.boundary

    def merge(self, parts: Sequence["LabelDiagnosis"]) -> None:
        """Replace what was taken by what these took, each of other images."""
        self.names = [name for part in parts for name in part.names]
        self.counts = [counts for part in parts for counts in part.counts]
        self.regions.merge([part.regions for part in parts])
        self.band = np.sum([part.band for part in parts], axis=0)
        self.boundary = np.sum([part.boundary for part in parts], axis=0)

    @property
    def boundary_iou(self) -> Float[np.ndarray, "classes"]:
        """Boundary IoU of every class over all images; NaN where no image has or predicts the class."""
        both, either = self.boundary
        return np.divide(both, either, out=np.full(len(both), np.nan), where=either > 0)

    @property
    def images(self) -> ImageScores:
        """Pixels image by image, in the order of the images' names."""
        order = np.argsort(np.array(self.names), kind="stable")
        counts = np.stack([self.counts[i] for i in order])
        return ImageScores({"": ImageCounts(tuple(self.names[i] for i in order), counts)})

    def complete(self, prediction: Prediction, confusion: Tensor, groups: CategoryGroups) -> None:
        """Add boundary IoU, ``flows``, ``class_pixels``, ``class_band`` and ``shown`` to the scores of a prediction.

        Args:
            prediction: Scores of the same images.
            confusion: Their confusion matrix, rows the truth.
            groups: Groups of the classes.
        """
        add_class_metric(prediction, "boundary_IoU", torch.from_numpy(self.boundary_iou), groups)
        true = np.stack(self.counts)[:, 1]
        areas = np.where(true > 0, np.sqrt(true), np.nan)
        side = np.array([np.median(of[~np.isnan(of)]) if (of > 0).any() else 0.0 for of in areas.T])
        prediction.extra["shown"] = shown_classes(true > 0, side)
        prediction.extra["class_pixels"] = confusion.sum(1).tolist()
        prediction.extra["class_band"] = self.band.sum(axis=1).tolist()
        prediction.extra["flows"] = label_flows(confusion.cpu().numpy(), self.band, groups)


def label_flows(
    confusion: Int64[np.ndarray, "classes classes"],
    band: Int64[np.ndarray, "classes classes"],
    groups: CategoryGroups,
) -> dict[str, Any]:
    """Wrong pixels from group to group and from class to class, and how many of them lie next to a boundary.

    Args:
        confusion: Pixels of every (true class, predicted class).
        band: Those of them in the bands along true boundaries.
        groups: Groups of the classes.

    Returns:
        ``band``: width of the bands as a share of the diagonal; ``groups``: true group -> predicted group -> wrong
        pixels, and those in bands; ``classes``: rows (true class, predicted class, pixels, in bands), the largest
        takers of every class.
    """
    wrong, near = (np.where(np.eye(len(confusion), dtype=bool), 0, matrix) for matrix in (confusion, band))
    masks = groups.masks.astype(np.int64)
    mass, near_mass = masks @ wrong @ masks.T, masks @ near @ masks.T
    takers = np.argsort(-wrong, axis=1, kind="stable")[:, :_TAKERS]
    return {
        "band": BAND,
        "groups": {
            true: {called: [int(mass[i, j]), int(near_mass[i, j])] for j, called in enumerate(groups.names)}
            for i, true in enumerate(groups.names)
        },
        "classes": [
            [true, int(called), int(wrong[true, called]), int(near[true, called])]
            for true, row in enumerate(takers)
            for called in row
            if wrong[true, called]
        ],
    }
