"""The families of query detectors in transformers: where their layers, losses and conventions are."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from torch import Tensor, nn

from longtail.detection.config import PostprocessConfig
from longtail.detection.queries.classifiers import StageClassifiers
from longtail.detection.queries.criterion import StageChange, change_function
from longtail.errors import ConfigError


class Family(ABC):
    """What differs between query detectors.

    Args:
        model: A detector of the family.

    Raises:
        ConfigError: It lacks what stages need; says what.
    """

    #: Whether the classifiers are C sigmoids; otherwise a softmax with "no object" as the last class.
    sigmoids: ClassVar[bool] = True
    #: Whether boxes are relative to the padded batch; otherwise to the image itself.
    boxes_of_batch: ClassVar[bool] = False
    has_masks: ClassVar[bool] = False

    def __init__(self, model: Any) -> None:
        self.model = model
        if not getattr(model.config, "auxiliary_loss", False):
            raise ConfigError(
                f"the {type(model).__name__} has no losses between its layers, so that its last layer alone is trained",
                fix="set model.config.auxiliary_loss = True (`auxiliary_loss: true` in its configuration)",
            )
        self.num_stages = int(model.config.decoder_layers)

    def change_losses(self, change: StageChange) -> None:
        """Let the classification losses of the stages be changed from now on."""
        own = getattr(self.model.loss_function, "plain", self.model.loss_function)
        self.model.loss_function = change_function(own, self.num_stages, self.sigmoids, change)

    def run(self, pixels: Tensor, mask: Tensor) -> tuple[Any, list[Tensor]]:
        """The model's output, and the class logits (n, queries, logits) of every stage; the last are the output's."""
        outputs = self.model(pixel_values=pixels, pixel_mask=mask)
        return outputs, [*self.stage_logits(outputs)[: self.num_stages - 1], outputs.logits]

    @abstractmethod
    def stage_logits(self, outputs: Any) -> list[Tensor]:
        """Class logits (n, queries, logits) of every stage; those of the last are not read."""

    def postprocess(self) -> PostprocessConfig:
        """As the library reads the detector, but for its threshold: the best 100 pairs of query and class."""
        return PostprocessConfig(nms_iou=1.0, max_detections=100)

    def weigh(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """The named losses of the output as the library weighs them in their sum."""
        config = self.model.config
        weights = {"loss_ce": 1, "loss_bbox": config.bbox_loss_coefficient, "loss_giou": config.giou_loss_coefficient}
        kinds = {name: name.rstrip("0123456789").rstrip("_") for name in losses}
        return {name: value * weights[kinds[name]] for name, value in losses.items() if kinds[name] in weights}

    def separate_classifiers(self) -> None:
        """Give every stage a classifier of its own, a copy of the shared one; nothing where they are separate."""
        StageClassifiers.replace(self.model, "class_labels_classifier", self.num_stages)


class RtDetr(Family):
    """RT-DETR, versions 1 and 2: encoder and denoising losses, varifocal loss."""

    boxes_of_batch = True

    def stage_logits(self, outputs: Any) -> list[Tensor]:
        return list(outputs.intermediate_logits.unbind(1))

    def postprocess(self) -> PostprocessConfig:
        """The best pairs of query and class, as many as there are queries."""
        return PostprocessConfig(nms_iou=1.0, max_detections=self.model.config.num_queries)

    def weigh(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        return losses  # weighted already

    def separate_classifiers(self) -> None:
        untie(self.model.model.decoder.class_embed)


class DFine(RtDetr):
    """D-FINE: RT-DETR with distributions of the boxes' edges.

    While training, the library has one more output than layers: the first layer's before its boxes are refined comes
    first, and the loss leaves out the last but one. Stages are what the loss trains.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        if model.config.eval_idx not in (-1, self.num_stages - 1):
            raise ConfigError(
                f"the D-FINE model predicts with layer {model.config.eval_idx} of {self.num_stages}",
                fix="set eval_idx to -1 in its configuration: stages are all layers",
            )

    def run(self, pixels: Tensor, mask: Tensor) -> tuple[Any, list[Tensor]]:
        with _all_layers(self.model.model.decoder):
            return super().run(pixels, mask)


class DeformableDetr(Family):
    """Deformable DETR in all its variants: focal loss."""

    def stage_logits(self, outputs: Any) -> list[Tensor]:
        states = outputs.intermediate_hidden_states
        return [self.model.class_embed[k](states[:, k]) for k in range(self.num_stages - 1)]

    def separate_classifiers(self) -> None:
        untie(self.model.class_embed)
        decoder = self.model.model.decoder
        if getattr(decoder, "class_embed", None) is not None:  # the two-stage variant refers to the same ones
            decoder.class_embed = self.model.class_embed


class Detr(Family):
    """DETR: one softmax with "no object", one classifier for all layers."""

    sigmoids = False

    def stage_logits(self, outputs: Any) -> list[Tensor]:
        return list(self.model.class_labels_classifier(outputs.intermediate_hidden_states).unbind(0))

    def run(self, pixels: Tensor, mask: Tensor) -> tuple[Any, list[Tensor]]:
        with _output_of(self.model.model) as inner:
            outputs = self.model(pixel_values=pixels, pixel_mask=mask)
        return outputs, [*self.stage_logits(inner[0])[: self.num_stages - 1], outputs.logits]

    def postprocess(self) -> PostprocessConfig:
        """Every query with its best class."""
        queries = self.model.config.num_queries
        return PostprocessConfig(nms_iou=1.0, max_detections=queries, best_class_only=not self.sigmoids)


class ConditionalDetr(Detr):
    """Conditional DETR: DETR with focal loss."""

    sigmoids = True

    def postprocess(self) -> PostprocessConfig:
        return Family.postprocess(self)


def untie(layers: nn.ModuleList) -> None:
    """Give modules that share their parameters copies of their own."""
    seen: set[int] = set()
    for index, layer in enumerate(layers):
        parameters = {id(p) for p in layer.parameters()}
        if parameters & seen:
            layers[index] = StageClassifiers.copy(layer)
        seen |= {id(p) for p in layers[index].parameters()}


@contextmanager
def _output_of(module: nn.Module) -> Iterator[list[Any]]:
    """A list that holds what the module gave within this block."""
    found: list[Any] = []
    hook = module.register_forward_hook(lambda _module, _arguments, output: found.append(output))
    try:
        yield found
    finally:
        hook.remove()


@contextmanager
def _all_layers(decoder: nn.Module) -> Iterator[None]:
    """Let D-FINE's decoder classify after every layer, which it does while training; its parts stay in their mode."""
    mode = decoder.training
    decoder.training = True
    try:
        yield
    finally:
        decoder.training = mode
