"""A cascade as one graph."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torchvision.ops import clip_boxes_to_image

from longtail.boxes import sides_at_least
from longtail.detection.cascade_rcnn import CascadeDetector
from longtail.detection.mask_head import mean_probabilities
from longtail.detection.rpn import ProposalNetwork
from longtail.export.detection import Chosen, DetectionGraph, fixed_detections, survivors
from longtail.segmentation.encoder_decoder import pad_to_multiple


class CascadeGraph(DetectionGraph):
    """A ``DetectionGraph`` of a cascade; masks (k, 28, 28) are probabilities on a grid over each box."""

    method: CascadeDetector

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Boxes, scores, labels and masks."""
        method, image = self.method, self.normalised(image)
        size: tuple[int, int] = image.shape[-2:]  # type: ignore[assignment]
        pyramid = method.heads.embed(method.backbone(pad_to_multiple(image, method.config.size_divisor)))
        proposals, real = fixed_proposals(method.proposals, pyramid.levels, size)
        (outputs,) = method.heads.stage_outputs(pyramid, [proposals], [size])
        chosen, _ = fixed_detections(
            self.readout(outputs), outputs.boxes, real, method.config.postprocess, self.top_k, max(*size)
        )
        if not method.has_masks:
            return tuple(chosen)
        every = torch.arange(self.top_k, device=image.device)
        logits = method.heads.mask_logits(pyramid, [chosen.boxes], chosen.labels.clamp(min=0), every)
        return (*chosen, mean_probabilities(logits) * (chosen.labels >= 0)[:, None, None])

    def mask_difference(self, image: Tensor, found: Chosen, masks: Tensor) -> float:
        """See ``DetectionGraph``."""
        pyramid, _ = self.method.run_stages([image[0]])
        (own,) = self.method.heads.mask_probabilities(pyramid, [found.boxes], [found.labels])
        return float((own - masks).abs().max())


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
        scores.append(score * survivors(decoded, score, network.nms_thresh))
    score, index = F.pad(torch.cat(scores), (0, kept)).topk(kept)
    return F.pad(torch.cat(boxes), (0, 0, 0, kept))[index], score > 0
