"""A detector as one graph of a fixed number of detections: nothing in it depends on how many were found."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchvision.ops import nms

from longtail.boxes import sides_at_least
from longtail.detection.config import PostprocessConfig
from longtail.detection.method import DetectionMethod
from longtail.export.graph import Graph
from longtail.models.detector import Detector

#: Pairs of box and class that take part in the suppression, at least, and for each detection wanted.
_PAIRS, _PAIRS_EACH = 1024, 8
#: Part of the detections that must agree with the model's own. Scores that are equal but for rounding may change places,
#: and of two boxes that overlap another one then survives.
_AGREEING = 0.95
_TIE = 1e-6


class Chosen(NamedTuple):
    """A fixed number of detections, best first; those that are missing have score 0 and label -1.

    Attributes:
        boxes: (k, 4), xyxy in pixels of the image.
        scores: (k,).
        labels: (k,), class ids.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


class DetectionGraph(Graph):
    """One image -> boxes (k, 4), scores (k,), labels (k,), and masks (k, h, w).

    Args:
        detector: The trained model.
        top_k: Number of detections k; where there are fewer, the last ones have score 0 and label -1.
        normalise: See ``Graph``.
    """

    batches = False

    def __init__(self, detector: Detector, *, top_k: int = 100, normalise: bool = False) -> None:
        super().__init__(detector.input, detector.photos.num_bands, normalise=normalise)
        self.method: DetectionMethod = detector.method
        self.top_k = top_k
        self.readout = next(iter(self.method.readouts().values()))
        self.outputs = ("boxes", "scores", "labels", *(["masks"] if self.method.has_masks else []))

    @abstractmethod
    def mask_difference(self, image: Tensor, found: Chosen, masks: Tensor) -> float:
        """Largest difference of mask probabilities from the model's.

        Args:
            image: Normalised.
            found: Detections of a file.
            masks: Their masks.
        """

    def difference(self, image: Tensor, found: Sequence[Tensor]) -> float:
        """Of scores and of boxes, as parts of the image's longer side, of 95 % of the detections; and of their masks."""
        image = self.normalised(image)
        own = self.method([image[0]])[0]
        ours, theirs = Chosen(*found[:3]), Chosen(own.boxes, own.scores, own.labels)
        there = ours.labels >= 0
        ours = Chosen(*(part[there] for part in ours))
        gap = _gap(ours, theirs, max(image.shape[-2:]))
        # whatever ties with the last one of a list may be left out of it
        cut = max(float(part.scores.min()) if len(part.scores) else 0.0 for part in (ours, theirs)) + _TIE
        rows, columns = gap[ours.scores > cut], gap[:, theirs.scores > cut]
        nearest = torch.cat([_nearest(rows, 1), _nearest(columns, 0)])
        largest = float(nearest.quantile(_AGREEING)) if len(nearest) else 0.0
        if not self.method.has_masks or not there.any():
            return largest
        return max(largest, self.mask_difference(image, ours, found[3][there]))


def _gap(ours: Chosen, theirs: Chosen, side: int) -> Float[Tensor, "n m"]:
    """How far two detections are apart; 1 for different classes."""
    boxes = (ours.boxes[:, None] - theirs.boxes).abs().amax(dim=2) / side
    scores = (ours.scores[:, None] - theirs.scores).abs()
    same = ours.labels[:, None] == theirs.labels
    return torch.where(same, torch.maximum(boxes, scores), torch.ones_like(boxes))


def _nearest(gap: Tensor, dim: int) -> Tensor:
    return gap.amin(dim=dim) if gap.shape[dim] else gap.new_ones(gap.shape[1 - dim])


def fixed_detections(
    probabilities: Float[Tensor, "r classes"],
    boxes: Float[Tensor, "r 4"],
    real: Bool[Tensor, " r"],
    config: PostprocessConfig,
    top_k: int,
    side: int,
) -> tuple[Chosen, Int[Tensor, " k"]]:
    """The best detections after suppression among the best pairs of box and class, and their rows.

    Args:
        probabilities: Class probabilities, background last.
        boxes: One box per row, the same for all classes.
        real: Rows that count.
        config: Thresholds.
        top_k: Number of detections.
        side: Longer side of the image.
    """
    scores = probabilities[:, :-1].float()
    if config.best_class_only:
        scores = scores * (scores == scores.amax(dim=1, keepdim=True))
    counts = real & sides_at_least(boxes, config.min_size)
    flat = (scores * ((scores > config.score_threshold) & counts[:, None])).reshape(-1)
    suppressed = config.nms_iou < 1
    pairs = min(flat.shape[0], max(_PAIRS, _PAIRS_EACH * top_k) if suppressed else top_k)
    best, index = flat.topk(pairs)
    rows = index // scores.shape[1]
    labels = index - rows * scores.shape[1]
    if suppressed:
        apart = boxes[rows] if config.class_agnostic_nms else _apart(boxes[rows], labels, scores.shape[1], side)
        best = best * survivors(apart, best, config.nms_iou)
    score, order = F.pad(best, (0, top_k)).topk(top_k)
    found = score > 0
    chosen, label, row = (
        F.pad(part, pad)[order]
        for part, pad in ((boxes[rows], (0, 0, 0, top_k)), (labels, (0, top_k)), (rows, (0, top_k)))
    )
    return Chosen(chosen * found[:, None], score, label.where(found, -1)), row


def _apart(boxes: Float[Tensor, "m 4"], labels: Int[Tensor, " m"], num_classes: int, side: int) -> Float[Tensor, "m 4"]:
    """Boxes moved so that those of different classes do not meet: in both directions, so that float32 keeps their places."""
    columns = math.ceil(math.sqrt(num_classes))
    shift = torch.stack([labels % columns, labels // columns], dim=1).to(boxes.dtype) * (side + 1)
    return boxes + shift.repeat(1, 2)


def survivors(boxes: Float[Tensor, "m 4"], scores: Float[Tensor, " m"], iou: float) -> Float[Tensor, " m"]:
    """1 where a box survives suppression, 0 elsewhere."""
    return torch.zeros_like(scores).index_fill(0, nms(boxes, scores, iou), 1.0)
