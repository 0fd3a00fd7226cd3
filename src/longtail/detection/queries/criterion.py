"""Where transformers computes the classification loss of a layer, and how ours takes its place there.

The library's own loss functions run unchanged: matching, box losses, the losses of the encoder and of denoising queries
stay. Only the classification loss of the stages is changed, by what ``StageChange`` gives.
"""

from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import box_convert, box_iou

from longtail.detection.matches import Matches
from longtail.errors import ConfigError

#: Stage and its matches -> what is added to the stage's classification loss; None for nothing.
StageChange = Callable[[int, Matches], Tensor | None]

#: Classification losses by their names in transformers' criteria.
_CLASS_LOSSES = ("labels", "vfl", "focal", "bce", "mal")
#: Those of them that weigh a match by the overlap of its boxes.
_BY_QUALITY = ("vfl", "mal")


def change_function(function: Any, num_stages: int, sigmoids: bool, change: StageChange) -> FunctionType:
    """A loss function of transformers whose criterion lets the classification losses of the stages be changed.

    The function is the library's own code; of the names that it refers to, the criterion's class alone is another.

    Args:
        function: Such as ``RTDetrForObjectDetectionLoss``.
        num_stages: Number of stages.
        sigmoids: Whether the loss is of C sigmoids.
        change: What is added to the classification loss of a stage.

    Raises:
        ConfigError: The function has no criterion of the known form.
    """
    scope = getattr(function, "__globals__", {})
    code = getattr(function, "__code__", None)
    known = [name for name in getattr(code, "co_names", ()) if hasattr(scope.get(name), "get_loss")]
    if code is None or len(known) != 1:
        raise ConfigError(
            f"{getattr(function, '__name__', function)} keeps its classification loss where longtail does not look",
            fix="train your own loop with longtail.make_multi_expert (examples/wrap_your_detector.py)",
        )
    name = known[0]
    changed = FunctionType(
        code,
        {**scope, name: changed_criterion(scope[name], num_stages, sigmoids, change)},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    changed.__kwdefaults__ = function.__kwdefaults__
    changed.plain = function  # type: ignore[attr-defined]
    return changed


def changed_criterion(kind: Any, num_stages: int, sigmoids: bool, change: StageChange) -> type:
    """A criterion of boxes whose classification losses of the stages are changed.

    Args:
        kind: ``ImageLoss``, ``RTDetrLoss`` or a subclass.
        num_stages: Number of stages; the losses after them (of the encoder, of denoising) stay.
        sigmoids: Whether the loss is of C sigmoids.
        change: What is added to the classification loss of a stage.
    """

    class StageCriterion(kind):
        def forward(self, outputs: Any, targets: Any) -> Any:
            auxiliary = outputs.get("auxiliary_outputs", ())[: num_stages - 1]
            self.stages = {id(outputs): num_stages - 1, **{id(layer): k for k, layer in enumerate(auxiliary)}}
            return super().forward(outputs, targets)

        def get_loss(self, loss: str, outputs: Any, targets: Any, indices: Any, num_boxes: float) -> Any:
            found = super().get_loss(loss, outputs, targets, indices, num_boxes)
            stage = self.stages.get(id(outputs))
            if loss not in _CLASS_LOSSES or stage is None:
                return found

            def value(*arguments: Any) -> Tensor:
                return next(iter(super(StageCriterion, self).get_loss(loss, *arguments).values()))

            matches = _box_matches(self, value, outputs, targets, indices, num_boxes, sigmoids, loss in _BY_QUALITY)
            return _changed(found, change(stage, matches))

    return StageCriterion


def changed_mask_criterion(kind: Any, num_stages: int, first: int, change: StageChange) -> type:
    """A criterion of masks whose classification losses of the stages are changed.

    Args:
        kind: ``Mask2FormerLoss`` or ``MaskFormerLoss``.
        num_stages: Number of stages.
        first: Which of the auxiliary predictions is the first stage.
        change: What is added to the classification loss of a stage.
    """

    class StageMaskCriterion(kind):
        def forward(
            self,
            masks_queries_logits: Tensor,
            class_queries_logits: Tensor,
            mask_labels: Sequence[Tensor],
            class_labels: Sequence[Tensor],
            auxiliary_predictions: Sequence[Mapping[str, Tensor]] | None = None,
        ) -> dict[str, Tensor]:
            if auxiliary_predictions is not None:
                layers = [p["class_queries_logits"] for p in auxiliary_predictions][first:]
                if len(layers) != num_stages - 1:
                    raise ConfigError(
                        f"{len(layers) + 1} of {num_stages} decoder layers took part in a step",
                        fix="set `dropout` of its configuration to 0: it drops whole layers",
                    )
                self.stages = {id(logits): k for k, logits in enumerate([*layers, class_queries_logits])}
            return super().forward(
                masks_queries_logits, class_queries_logits, mask_labels, class_labels, auxiliary_predictions
            )

        def loss_labels(self, class_queries_logits: Tensor, class_labels: Any, indices: Any) -> dict[str, Tensor]:
            found = super().loss_labels(class_queries_logits, class_labels, indices)
            stage = self.stages.get(id(class_queries_logits))
            if stage is None:
                return found
            logits = class_queries_logits[self._get_predictions_permutation_indices(indices)]
            labels = torch.cat([target[j] for target, (_, j) in zip(class_labels, indices, strict=True)])

            def own(rows: Tensor) -> Tensor:
                order = torch.arange(len(rows))
                values = super(StageMaskCriterion, self).loss_labels(
                    logits[rows][None], [labels[rows]], [(order, order)]
                )
                return next(iter(values.values())) * len(rows)

            divisor = _softmax_divisor(class_queries_logits, len(labels), self.eos_coef)
            return _changed(found, change(stage, Matches(logits, labels, own, divisor)))

    return StageMaskCriterion


def _box_matches(
    criterion: Any,
    value: Callable[..., Tensor],
    outputs: Any,
    targets: Any,
    indices: Any,
    num_boxes: float,
    sigmoids: bool,
    by_quality: bool,
) -> Matches:
    """The matched queries of a layer; their own loss is the library's, of these queries as if they were an image."""
    place = criterion._get_source_permutation_idx(indices)
    logits, boxes = outputs["logits"][place], outputs["pred_boxes"][place]
    labels = torch.cat([t["class_labels"][j] for t, (_, j) in zip(targets, indices, strict=True)])
    objects = torch.cat([t["boxes"][j] for t, (_, j) in zip(targets, indices, strict=True)])

    def own(rows: Tensor) -> Tensor:
        order = torch.arange(len(rows))
        image = {"logits": logits[rows][None], "pred_boxes": boxes[rows][None]}
        of_rows = value(image, [{"class_labels": labels[rows], "boxes": objects[rows]}], [(order, order)], 1)
        return of_rows if sigmoids else of_rows * len(rows)  # a softmax loss is a mean, whatever the number of boxes

    divisor = num_boxes if sigmoids else _softmax_divisor(outputs["logits"], len(labels), criterion.eos_coef)
    quality = None
    if by_quality:
        corners = [box_convert(b.detach(), "cxcywh", "xyxy") for b in (boxes, objects)]
        quality = box_iou(*corners).diagonal()
    return Matches(logits, labels, own, divisor, quality)


def _softmax_divisor(logits: Tensor, matched: int, no_object_weight: float) -> float:
    """Sum of the weights of all queries, which a weighted mean divides by."""
    return matched + no_object_weight * (logits.shape[0] * logits.shape[1] - matched)


def _changed(found: dict[str, Tensor], change: Tensor | None) -> dict[str, Tensor]:
    if change is None:
        return found
    (name, value), *others = found.items()
    return {name: value + change, **dict(others)}
