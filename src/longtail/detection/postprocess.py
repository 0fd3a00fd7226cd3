"""From class probabilities and boxes to the detections of an image: threshold, exact lazy suppression, best k."""

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchvision.ops import nms

from longtail.boxes import resize_boxes, sides_at_least
from longtail.detection.config import PostprocessConfig
from longtail.detection.method import Detections, Readout, StageOutputs

#: Candidates of the first attempt of lazy suppression, and the factor by which each later attempt has more.
_FIRST_CANDIDATES = 1024
_GROWTH = 4
_COMPARED = 2**15  # boxes that a GPU compares with each other in one call: 128 MB


class Selected(NamedTuple):
    """Chosen detections of an image, best first, in pixels of the network's input.

    Attributes:
        boxes: (n, 4).
        scores: (n,).
        labels: (n,), 0 … C-1.
        rows: (n,), which of the R boxes each is.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    rows: Tensor

    def best(self, count: int) -> "Selected":
        """The first ``count``; all where it is 0."""
        return Selected(*(values[: count or None] for values in self))


def select_detections(
    probabilities: Float[Tensor, "r classes"], boxes: Float[Tensor, "r 4"], config: PostprocessConfig
) -> Selected:
    """The best detections of an image after non-maximum suppression.

    Args:
        probabilities: Class probabilities, background last.
        boxes: One box per row, the same for all classes.
        config: Thresholds.
    """
    large = sides_at_least(boxes, config.min_size).nonzero()[:, 0]
    scores = probabilities[large, :-1].float()
    if config.best_class_only:
        best = scores.max(dim=1, keepdim=True)
        scores = torch.zeros_like(scores).scatter(1, best.indices, best.values)
    row, label, score = lazy_nms(
        boxes[large],
        scores,
        config.score_threshold,
        config.nms_iou,
        config.max_detections,
        class_agnostic=config.class_agnostic_nms,
    )
    rows = large[row]
    return Selected(boxes[rows], score, label, rows)


def read_stages(
    outputs: StageOutputs, readout: Readout, config: PostprocessConfig, *, unlimited: bool = False
) -> Selected:
    """Detections of an image by one readout, in pixels of the network's input; all of them if ``unlimited``."""
    if unlimited:
        config = replace(config, max_detections=0)
    if len(outputs.boxes) == 0:
        nothing = outputs.boxes.new_zeros(0)
        return Selected(outputs.boxes, nothing, nothing.to(torch.int64), nothing.to(torch.int64))
    probabilities = readout(outputs)
    if outputs.quality is not None:
        probabilities = probabilities * outputs.quality[:, None]
    return select_detections(probabilities, outputs.boxes, config)


def score_offline(
    outputs: StageOutputs,
    readout: Readout,
    config: PostprocessConfig,
    original_size: tuple[int, int] | None = None,
    *,
    unlimited: bool = False,
) -> Detections:
    """Boxes of an image from recorded stage outputs, without running a detector: ensembles can be compared, and
    their settings searched, in seconds.

    Args:
        outputs: What ``DetectionMethod.stage_outputs`` gave, or a user's own detector.
        readout: Stage outputs -> probabilities (R, C+1); for an ensemble, ``lambda o: ensemble(o.logits)``.
        config: Thresholds.
        original_size: (height, width) of the image before it was resized; None if it was not.
        unlimited: Also give all detections above the threshold, as ``Detections.unlimited``.
    """
    selected = read_stages(outputs, readout, config, unlimited=unlimited)
    size = original_size or outputs.size
    return found_in(size, outputs.size, selected, config.max_detections, unlimited=unlimited)


def found_in(
    size: tuple[int, int],
    input_size: tuple[int, int],
    selected: Selected,
    limit: int,
    masks: list[dict[str, Any]] | None = None,
    *,
    unlimited: bool,
) -> Detections:
    """The selected detections in pixels of the stored image.

    Args:
        size: (height, width) of the stored image.
        input_size: The same in the network's input.
        selected: All detections where ``unlimited``, else the best of the image.
        limit: Number of the best of the image; 0 for all.
        masks: Of the best.
        unlimited: Whether to give all detections besides the best.
    """
    boxes = resize_boxes(selected.boxes, input_size, size)
    every = Detections(boxes, selected.scores, selected.labels, size) if unlimited else None
    best = selected._replace(boxes=boxes).best(limit)
    return Detections(best.boxes, best.scores, best.labels, size, masks, every)


def lazy_nms(
    boxes: Float[Tensor, "r 4"],
    scores: Float[Tensor, "r c"],
    threshold: float,
    iou: float,
    limit: int,
    *,
    class_agnostic: bool = False,
) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"], Float[Tensor, " n"]]:
    """The first ``limit`` survivors of greedy suppression over all (box, class) pairs: row, class, score.

    Greedy suppression takes pairs by descending score, and a pair can only be suppressed by one before it. So the
    survivors among the best m pairs are the first survivors of all; where they are fewer than ``limit``, m grows.
    Gives the same pairs in the same order as suppression of everything class by class, ties included.

    Args:
        boxes: Boxes, shared by all classes.
        scores: Score of every box for every foreground class.
        threshold: Only scores above it are candidates.
        iou: Overlap above which the later of two pairs of one class is suppressed.
        limit: Number of survivors wanted; 0 for all.
        class_agnostic: Let pairs of different classes suppress each other.
    """
    flat = scores.reshape(-1)
    count = min(_FIRST_CANDIDATES, flat.numel()) if limit else flat.numel()
    while True:
        best, complete = _best_pairs(flat, threshold, count)
        row = torch.div(best, max(scores.shape[1], 1), rounding_mode="floor")
        label = best - row * scores.shape[1]
        kept = _suppress(boxes[row], flat[best], torch.zeros_like(label) if class_agnostic else label, iou)
        if complete or len(kept) >= limit > 0:
            kept = kept[: limit or None]
            return row[kept], label[kept], flat[best[kept]]
        count = min(count * _GROWTH, flat.numel())


def _best_pairs(flat: Float[Tensor, " p"], threshold: float, count: int) -> tuple[Int[Tensor, " m"], bool]:
    """Indices of the best pairs above the threshold, by descending score, ties by index; and whether these are all.

    All pairs that tie with the last one are taken, so that the prefix does not depend on how a tie is cut.
    """
    if count == 0:
        return flat.new_zeros(0, dtype=torch.int64), True
    last = flat.topk(count, sorted=False).values.min()
    complete = count == flat.numel() or bool(last <= threshold)
    candidates = flat > threshold if complete else flat >= last
    index = candidates.nonzero()[:, 0]
    return index[flat[index].argsort(descending=True, stable=True)], complete


def _suppress(
    boxes: Float[Tensor, "m 4"], scores: Float[Tensor, " m"], labels: Int[Tensor, " m"], iou: float
) -> Int[Tensor, " n"]:
    """Greedy suppression within each label; boxes are sorted by descending score, so are the survivors.

    One call for each label that occurs more than once: adding label offsets to the boxes would round them and could
    change which of two boxes at the limit survives. On a GPU, one call with offsets in float64, since hundreds of
    launches would cost more than the work; not of so many boxes that the comparison of all pairs takes gigabytes.
    """
    if boxes.is_cuda and len(boxes) <= _COMPARED:
        return nms(_apart(boxes, labels), scores.double(), iou)
    order = labels.argsort(stable=True)
    counts = torch.unique_consecutive(labels[order], return_counts=True)[1]
    alone = torch.repeat_interleave(counts == 1, counts)
    kept = [order[alone]]
    for members in order[~alone].split(counts[counts > 1].tolist()):
        kept.append(members[nms(boxes[members], scores[members], iou)])
    return torch.cat(kept).sort().values


def _apart(boxes: Float[Tensor, "m 4"], labels: Int[Tensor, " m"]) -> Float[Tensor, "m 4"]:
    """Boxes moved so that those of different labels do not meet; in float64 the shift costs no precision."""
    wide = boxes.double()
    span = wide.max() - wide.min() + 1 if len(boxes) else 1
    return wide + (labels * span)[:, None]
