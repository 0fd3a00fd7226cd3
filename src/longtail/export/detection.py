"""A cascade detector as one graph of fixed numbers of boxes: nothing in it depends on how many were found."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchvision.ops import clip_boxes_to_image, nms

from longtail.boxes import sides_at_least
from longtail.detection.cascade_rcnn import CascadeDetector
from longtail.detection.config import PostprocessConfig
from longtail.detection.mask_head import mean_probabilities
from longtail.detection.rpn import ProposalNetwork
from longtail.errors import ExportError
from longtail.export.graph import Graph
from longtail.models.detector import Detector
from longtail.segmentation.encoder_decoder import pad_to_multiple

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
    """One image -> boxes (k, 4), scores (k,), labels (k,), and masks (k, 28, 28): probabilities on a grid over each box.

    Args:
        detector: The trained model.
        top_k: Number of detections k; where there are fewer, the last ones have score 0 and label -1.
        normalise: See ``Graph``.

    Raises:
        ExportError: The method is not one of this library's cascades.
    """

    batches = False

    def __init__(self, detector: Detector, *, top_k: int = 100, normalise: bool = False) -> None:
        super().__init__(detector.input, detector.photos.num_bands, normalise=normalise)
        if not isinstance(detector.method, CascadeDetector):
            raise ExportError(
                f"a detector of {type(detector.method).__name__} cannot be exported",
                fix="export a cascade of this library (cascade, htc), or use the exporter of your detector's library",
            )
        self.method: CascadeDetector = detector.method
        self.top_k = top_k
        self.readout = next(iter(self.method.readouts().values()))
        self.outputs = ("boxes", "scores", "labels", *(["masks"] if self.method.has_masks else []))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Boxes, scores, labels and masks."""
        method, image = self.method, self.normalised(image)
        size: tuple[int, int] = image.shape[-2:]  # type: ignore[assignment]
        pyramid = method.heads.embed(method.backbone(pad_to_multiple(image, method.config.size_divisor)))
        proposals, real = fixed_proposals(method.proposals, pyramid.levels, size)
        (outputs,) = method.heads.stage_outputs(pyramid, [proposals], [size])
        chosen = fixed_detections(
            self.readout(outputs), outputs.boxes, real, method.config.postprocess, self.top_k, max(*size)
        )
        if not method.has_masks:
            return tuple(chosen)
        every = torch.arange(self.top_k, device=image.device)
        logits = method.heads.mask_logits(pyramid, [chosen.boxes], chosen.labels.clamp(min=0), every)
        return (*chosen, mean_probabilities(logits) * (chosen.labels >= 0)[:, None, None])

    def difference(self, image: Tensor, found: Sequence[Tensor]) -> float:
        """Of scores and of boxes, as parts of the image's longer side, of 95 % of the detections; and of their masks."""
        (values,) = self.normalised(image)
        own = self.method([values])[0]
        ours, theirs = Chosen(*found[:3]), Chosen(own.boxes, own.scores, own.labels)
        there = ours.labels >= 0
        ours = Chosen(*(part[there] for part in ours))
        gap = _gap(ours, theirs, max(values.shape[-2:]))
        # whatever ties with the last one of a list may be left out of it
        cut = max(float(part.scores.min()) if len(part.scores) else 0.0 for part in (ours, theirs)) + _TIE
        rows, columns = gap[ours.scores > cut], gap[:, theirs.scores > cut]
        nearest = torch.cat([_nearest(rows, 1), _nearest(columns, 0)])
        largest = float(nearest.quantile(_AGREEING)) if len(nearest) else 0.0
        if not self.method.has_masks or not there.any():
            return largest
        pyramid, _ = self.method.run_stages([values])
        (masks,) = self.method.heads.mask_probabilities(pyramid, [ours.boxes], [ours.labels])
        return max(largest, float((masks - found[3][there]).abs().max()))


def _gap(ours: Chosen, theirs: Chosen, side: int) -> Float[Tensor, "n m"]:
    """How far two detections are apart; 1 for different classes."""
    boxes = (ours.boxes[:, None] - theirs.boxes).abs().amax(dim=2) / side
    scores = (ours.scores[:, None] - theirs.scores).abs()
    same = ours.labels[:, None] == theirs.labels
    return torch.where(same, torch.maximum(boxes, scores), torch.ones_like(boxes))


def _nearest(gap: Tensor, dim: int) -> Tensor:
    return gap.amin(dim=dim) if gap.shape[dim] else gap.new_ones(gap.shape[1 - dim])


def fixed_proposals(
    network: ProposalNetwork, levels: Sequence[Float[Tensor, "1 c _ _"]], size: tuple[int, int]
) -> tuple[Float[Tensor, "r 4"], Bool[Tensor, " r"]]:
    """As many proposals of an image as its network keeps at most, best first, and which of them are real.

    Args:
        network: In evaluation mode.
        levels: Pyramid, finest level first.
        size: Height and width of the image before padding.
    """
    candidates, kept = network.pre_nms_top_n(), network.post_nms_top_n()
    boxes, scores = [], []
    for level, (objectness, deltas) in enumerate(zip(*network.head(list(levels)), strict=True)):
        anchors = network.anchor_generator.of_level(level, objectness)
        logits = objectness[0].permute(1, 2, 0).reshape(-1)
        codes = deltas[0].unflatten(0, (-1, 4)).permute(2, 3, 0, 1).reshape(-1, 4)
        # a level may have fewer anchors than candidates
        best, index = F.pad(logits, (0, candidates), value=-math.inf).topk(candidates)
        codes, anchors = (F.pad(part, (0, 0, 0, candidates))[index] for part in (codes, anchors))
        decoded = clip_boxes_to_image(network.box_coder.decode_single(codes, anchors), size)
        score = best.sigmoid() * sides_at_least(decoded, network.min_size)
        boxes.append(decoded)
        scores.append(score * _survivors(decoded, score, network.nms_thresh))
    score, index = F.pad(torch.cat(scores), (0, kept)).topk(kept)
    return F.pad(torch.cat(boxes), (0, 0, 0, kept))[index], score > 0


def fixed_detections(
    probabilities: Float[Tensor, "r classes"],
    boxes: Float[Tensor, "r 4"],
    real: Bool[Tensor, " r"],
    config: PostprocessConfig,
    top_k: int,
    side: int,
) -> Chosen:
    """The best detections after suppression among the best pairs of box and class.

    Args:
        probabilities: Class probabilities, background last.
        boxes: One box per row, the same for all classes.
        real: Rows that count.
        config: Thresholds.
        top_k: Number of detections.
        side: Longer side of the image.
    """
    scores = probabilities[:, :-1].float()
    counts = real & sides_at_least(boxes, config.min_size)
    flat = (scores * ((scores > config.score_threshold) & counts[:, None])).reshape(-1)
    pairs = min(flat.shape[0], max(_PAIRS, _PAIRS_EACH * top_k))
    best, index = flat.topk(pairs)
    rows = index // scores.shape[1]
    labels = index - rows * scores.shape[1]
    apart = boxes[rows] if config.class_agnostic_nms else _apart(boxes[rows], labels, scores.shape[1], side)
    alive = best * _survivors(apart, best, config.nms_iou)
    score, order = F.pad(alive, (0, top_k)).topk(top_k)
    found = score > 0
    chosen, label = (F.pad(part, pad)[order] for part, pad in ((boxes[rows], (0, 0, 0, top_k)), (labels, (0, top_k))))
    return Chosen(chosen * found[:, None], score, label.where(found, -1))


def _apart(boxes: Float[Tensor, "m 4"], labels: Int[Tensor, " m"], num_classes: int, side: int) -> Float[Tensor, "m 4"]:
    """Boxes moved so that those of different classes do not meet: in both directions, so that float32 keeps their places."""
    columns = math.ceil(math.sqrt(num_classes))
    shift = torch.stack([labels % columns, labels // columns], dim=1).to(boxes.dtype) * (side + 1)
    return boxes + shift.repeat(1, 2)


def _survivors(boxes: Float[Tensor, "m 4"], scores: Float[Tensor, " m"], iou: float) -> Float[Tensor, " m"]:
    """1 where a box survives suppression, 0 elsewhere."""
    return torch.zeros_like(scores).index_fill(0, nms(boxes, scores, iou), 1.0)
