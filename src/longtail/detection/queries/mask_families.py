"""Mask2Former and MaskFormer: queries that predict masks."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from longtail.detection.config import PostprocessConfig
from longtail.detection.queries.classifiers import StageClassifiers
from longtail.detection.queries.criterion import StageChange, changed_mask_criterion
from longtail.detection.queries.families import Family
from longtail.errors import ConfigError


class MaskFamily(Family):
    """Queries with a softmax, "no object" as its last class, and one classifier for all layers; boxes are those of the masks.

    Args:
        model: A detector of the family.

    Raises:
        ConfigError: See ``Family``.
    """

    sigmoids = False
    has_masks = True
    #: Index of the first stage's prediction: the one before it is made before any layer has seen the image.
    first = 1

    def __init__(self, model: Any) -> None:
        self.model = model
        if not getattr(model.config, "use_auxiliary_loss", False):
            raise ConfigError(
                f"the {type(model).__name__} has no losses between its layers, so that its last layer alone is trained",
                fix="set model.config.use_auxiliary_loss = True (`use_auxiliary_loss: true` in its configuration)",
            )
        self.num_stages = self.count_layers()

    def count_layers(self) -> int:
        """Number of decoder layers."""
        return int(self.model.config.decoder_layers) - 1  # the library counts the prediction before the first layer

    def change_losses(self, change: StageChange) -> None:
        criterion = self.model.criterion
        plain = getattr(type(criterion), "plain", type(criterion))
        kind = changed_mask_criterion(plain, self.num_stages, self.first, change)
        kind.plain = plain  # type: ignore[attr-defined]
        criterion.__class__ = kind

    def run(self, pixels: Tensor, mask: Tensor) -> tuple[Any, list[Tensor]]:
        outputs = self.model(
            pixel_values=pixels, pixel_mask=mask, output_hidden_states=True, output_auxiliary_logits=True
        )
        return outputs, [*self.stage_logits(outputs), outputs.class_queries_logits]

    def stage_logits(self, outputs: Any) -> list[Tensor]:
        return [layer["class_queries_logits"] for layer in outputs.auxiliary_logits][self.first :]

    def postprocess(self) -> PostprocessConfig:
        """The best pairs of query and class, as many as there are queries."""
        return PostprocessConfig(nms_iou=1.0, max_detections=int(self.count_queries()))

    def count_queries(self) -> int:
        """Number of queries."""
        return self.model.config.num_queries

    def separate_classifiers(self) -> None:
        """See ``Family``; a prediction before the first layer has the first stage's."""
        calls = self.num_stages + self.first
        StageClassifiers.replace(self.model, "class_predictor", self.num_stages, calls)


class MaskFormer(MaskFamily):
    """MaskFormer: DETR's decoder."""

    def count_layers(self) -> int:
        return int(self.model.config.decoder_config.decoder_layers)

    def count_queries(self) -> int:
        return self.model.config.decoder_config.num_queries


def crop_masks(
    logits: Float[Tensor, "q h w"], size: tuple[int, int], padded: Sequence[int]
) -> Float[Tensor, "q height width"]:
    """The part of mask logits that lies in the image, without the batch's padding.

    Args:
        logits: Of the padded image, at any resolution.
        size: (height, width) of the image.
        padded: (height, width) of the padded image.
    """
    height, width = (-(-s * cells // p) for s, p, cells in zip(size, padded, logits.shape[1:], strict=True))
    return logits[:, :height, :width]


def mask_boxes(inside: Tensor, cell: tuple[float, float]) -> Float[Tensor, "q 4"]:
    """Boxes around masks, xyxy; without extent where a mask is empty.

    Args:
        inside: (q, h, w) bool.
        cell: Height and width of a pixel of the masks.
    """
    edges = []
    for axis, length in ((1, inside.shape[2]), (2, inside.shape[1])):
        taken = inside.any(dim=axis)
        places = torch.arange(length, device=inside.device)
        low = places.where(taken, length).amin(dim=1)
        high = places.where(taken, -1).amax(dim=1) + 1
        edges.append((low.minimum(high), high))
    (left, right), (top, bottom) = edges
    height, width = cell
    return torch.stack([left * width, top * height, right * width, bottom * height], dim=1)


def mask_quality(logits: Float[Tensor, "q h w"]) -> Float[Tensor, " q"]:
    """Mean probability of a mask's own pixels, by which the library weighs the class; 0 for an empty mask.

    Source: Mask2Former (Cheng 2022), inference of instances.
    """
    inside = (logits > 0).flatten(1).float()
    return (logits.sigmoid().flatten(1) * inside).sum(dim=1) / (inside.sum(dim=1) + 1e-6)
