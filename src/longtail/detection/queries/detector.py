"""``QueryDetector``: a DETR of transformers as a detector of stages, its decoder layers."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import box_convert, clip_boxes_to_image

from longtail.detection.config import PostprocessConfig
from longtail.detection.matches import Matches, Reading
from longtail.detection.method import Detections, DetectionTarget, StageOutputs
from longtail.detection.queries.families import Family
from longtail.detection.queries.mask_families import crop_masks, mask_boxes, mask_quality
from longtail.detection.run_lengths import encode_masks
from longtail.detection.staged import MaskEncoder, StagedDetector, read_detections
from longtail.detection.targets import Objects, clean_objects
from longtail.ensembles.average import Average
from longtail.ensembles.base import Ensemble
from longtail.errors import ConfigError, TrainingError
from longtail.shapes import ExpertFeatures, ExpertLogits, ImageList, Losses, Probabilities

#: Batches are padded to multiples of this.
_DIVISOR = 32


class LastStage(Ensemble):
    """The last stage alone: how a DETR reads its layers.

    Args:
        reading: How its logits become probabilities.
    """

    def __init__(self, reading: Reading) -> None:
        super().__init__()
        self.reading = reading

    def forward(self, logits: ExpertLogits, features: ExpertFeatures = None) -> Probabilities:
        """Class probabilities; ``features`` are not read."""
        return self.reading.probabilities(logits[-1].float())


class QueryDetector(StagedDetector):
    """A detector of transformers whose decoder layers are stages.

    The model's outputs, losses and matching are its own. With ``set_class_losses`` the classification losses of the
    stages change by what the stages' losses give. All stages are read on the last layer's boxes: these are the
    detector's prediction, and a query stands for one object in all layers.

    Args:
        model: The model.
        family: What is particular to it.
        postprocess: Thresholds; None for the library's own reading.
        image_size: (height, width) to which every image is stretched, as RT-DETR and D-FINE are trained; None: images
            keep their shape and are padded to the largest of the batch.
    """

    def __init__(
        self,
        model: Any,
        family: Family,
        *,
        postprocess: PostprocessConfig | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(int(model.config.num_labels), family.has_masks)
        self.model: nn.Module = model
        self.family = family
        self.reading = Reading(self.num_classes, family.sigmoids)
        self.image_size = image_size
        self._postprocess = postprocess or family.postprocess()
        self.class_losses = nn.ModuleList()

    @property
    def num_stages(self) -> int:
        """Number of decoder layers, N."""
        return self.family.num_stages

    @property
    def postprocess(self) -> PostprocessConfig:
        """See ``StagedDetector.postprocess``."""
        return self._postprocess

    def set_postprocess(self, config: PostprocessConfig) -> None:
        """Read detections with other thresholds."""
        self._postprocess = config

    def logit_reading(self) -> Reading:
        """See ``StagedDetector.logit_reading``."""
        return self.reading

    def read_stage(self, stage: int, logits: Tensor) -> Tensor:
        """See ``StagedDetector.read_stage``."""
        return self.reading.probabilities(logits.float())

    def plain_ensemble(self) -> LastStage:
        """See ``StagedDetector.plain_ensemble``."""
        return LastStage(self.reading)

    def plain_average(self) -> Average:
        """Mean of the layers' logits."""
        return Average("logits", activation=self.reading.probabilities)

    def set_class_losses(self, losses: Sequence[Any]) -> None:
        """From now on, change the classification loss of stage k by ``losses[k]``.

        Args:
            losses: One per stage: ``(Matches) -> scalar or None``.

        Raises:
            ConfigError: The number of losses is not that of stages.
        """
        if len(losses) != self.num_stages:
            raise ConfigError(
                f"{len(losses)} losses for {self.num_stages} decoder layers", fix="give one for each layer"
            )
        self.class_losses = nn.ModuleList(losses)
        self.family.change_losses(self._change)

    def _change(self, stage: int, matches: Matches) -> Tensor | None:
        return self.class_losses[stage](matches)

    def losses(self, images: ImageList, targets: Sequence[DetectionTarget]) -> Losses:
        """The model's losses, summed over layers by kind.

        Raises:
            TrainingError: The model predicts boxes that are no numbers.
        """
        pixels, mask, sizes = self._batch(images)
        pairs = zip(targets, sizes, strict=True)
        objects = [clean_objects(target, size, self.num_classes, pixels.device) for target, size in pairs]
        if self.has_masks:
            labelled = self._mask_labels(objects, pixels)
            # MaskFormer has losses of its layers only where it gives their states
            outputs = self.model(pixel_values=pixels, pixel_mask=mask, output_hidden_states=True, **labelled)
            return {"loss": outputs.loss}
        labels = [
            {"class_labels": image.labels, "boxes": self._relative(image.boxes, size, pixels)}
            for image, size in zip(objects, sizes, strict=True)
        ]
        try:
            outputs = self.model(pixel_values=pixels, pixel_mask=mask, labels=labels)
        except ValueError as error:
            if "corner" not in str(error):
                raise
            raise TrainingError(
                "the detector predicts boxes that are no numbers", fix="lower the learning rate, or clip gradients"
            ) from error
        totals: dict[str, Tensor] = {}
        for name, value in self.family.weigh(outputs.loss_dict).items():
            kind = name.removeprefix("loss_").split("_")[0]
            totals[kind] = totals[kind] + value if kind in totals else value
        return totals

    @torch.no_grad()
    def stage_outputs(self, images: ImageList) -> list[StageOutputs]:
        """See ``DetectionMethod.stage_outputs``."""
        return self._look(images)[0]

    @torch.no_grad()
    def predict_readouts(
        self,
        images: ImageList,
        original_sizes: Sequence[tuple[int, int]] | None = None,
        names: Iterable[str] | None = None,
        *,
        unlimited: bool = False,
    ) -> dict[str, list[Detections]]:
        """See ``DetectionMethod.predict_readouts``."""
        outputs, masks = self._look(images)
        return read_detections(self, outputs, original_sizes, names, masks, unlimited=unlimited)

    def _look(self, images: ImageList) -> tuple[list[StageOutputs], MaskEncoder | None]:
        """Stage outputs of every image, and what encodes masks of them."""
        if self.training:
            raise ConfigError("the detector is in training mode", fix="call .eval() before predicting")
        pixels, mask, sizes = self._batch(images)
        found, maps = self.run_stages(pixels, mask, sizes)
        if maps is None:
            return found, None

        def encode(pairs: Sequence[Tensor], stored: Sequence[tuple[int, int]]) -> list[list[dict[str, Any]]]:
            threshold = float(torch.logit(torch.tensor(self.postprocess.mask_threshold)))
            # as the library, logits are interpolated, and those at the edge go on beyond it
            wide = F.pad(maps, (1, 1, 1, 1), mode="replicate")
            encoded = []
            for own, rows, size, inside in zip(wide, pairs, stored, sizes, strict=True):
                height, width = (
                    whole * to / of for whole, to, of in zip(self._extent(inside, pixels), size, inside, strict=True)
                )
                down, right = height / maps.shape[2], width / maps.shape[3]
                place = maps.new_tensor([-right, -down, width + right, height + down])
                encoded.append(encode_masks(own[rows[:, 0]], place.expand(len(rows), 4), size, threshold))
            return encoded

        return found, encode

    def run_stages(
        self, pixels: Tensor, mask: Tensor, sizes: Sequence[tuple[int, int]]
    ) -> tuple[list[StageOutputs], Tensor | None]:
        """Stage outputs of every image of a batch, and the mask logits (n, queries, h, w) of the whole batch.

        Args:
            pixels: (n, bands, h, w), padded or stretched.
            mask: (n, h, w), 1 where an image is and 0 where its padding is.
            sizes: (height, width) of every image before.
        """
        outputs, layers = self.family.run(pixels, mask)
        logits = torch.stack([layer.float() for layer in layers])
        if not self.has_masks:
            boxes = outputs.pred_boxes.float()
            found = [self._absolute(own, size, pixels) for own, size in zip(boxes, sizes, strict=True)]
            return [StageOutputs(logits[:, i], found[i], size) for i, size in enumerate(sizes)], None
        stages, maps = [], outputs.masks_queries_logits.float()
        for i, (own, size) in enumerate(zip(maps, sizes, strict=True)):
            # the part of the input that the image takes, in its own pixels
            height, width = self._extent(size, pixels)
            part = own if self.image_size else crop_masks(own, size, pixels.shape[-2:])
            boxes = mask_boxes(part > 0, (height / own.shape[1], width / own.shape[2]))
            stages.append(StageOutputs(logits[:, i], clip_boxes_to_image(boxes, size), size, mask_quality(part)))
        return stages, maps

    def _batch(self, images: ImageList) -> tuple[Tensor, Tensor, list[tuple[int, int]]]:
        """Padded or stretched images, where they are not padding, and their sizes."""
        sizes = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
        inputs = [self.input_of(image[None]) for image in images]
        height, width = (max(pixels.shape[axis] for pixels, _ in inputs) for axis in (2, 3))
        pixels, mask = (
            torch.cat([F.pad(part, (0, width - part.shape[-1], 0, height - part.shape[-2])) for part in parts])
            for parts in zip(*inputs, strict=True)
        )
        return pixels, mask, sizes

    def input_of(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """What the model reads of one image: (1, bands, h, w), stretched or padded, and where it is not padding.

        Args:
            image: (1, bands, height, width).
        """
        if self.image_size is None:
            height, width = image.shape[-2:]
            # the exporters do not understand -height % divisor
            border = (0, _rounded(width) - width, 0, _rounded(height) - height)
            return F.pad(image, border), F.pad(torch.ones_like(image[:, 0], dtype=torch.long), border)
        stretched = F.interpolate(image, self.image_size, mode="bilinear", antialias=True)
        return stretched, torch.ones_like(stretched[:, 0], dtype=torch.long)

    def _extent(self, size: tuple[int, int], pixels: Tensor) -> tuple[int, int]:
        """(height, width) in pixels of the image that the whole input stands for."""
        return size if self.image_size else (pixels.shape[-2], pixels.shape[-1])

    def _unit(self, size: tuple[int, int], pixels: Tensor) -> tuple[int, int]:
        """(height, width) that relative boxes are parts of."""
        return self._extent(size, pixels) if self.family.boxes_of_batch else size

    def _relative(self, boxes: Tensor, size: tuple[int, int], pixels: Tensor) -> Tensor:
        height, width = self._unit(size, pixels)
        return box_convert(boxes, "xyxy", "cxcywh") / boxes.new_tensor([width, height, width, height])

    def _absolute(self, boxes: Tensor, size: tuple[int, int], pixels: Tensor) -> Tensor:
        height, width = self._unit(size, pixels)
        left, top, right, bottom = box_convert(boxes, "cxcywh", "xyxy").unbind(1)
        return clip_boxes_to_image(torch.stack([left * width, top * height, right * width, bottom * height], 1), size)

    def _mask_labels(self, objects: Sequence[Objects], pixels: Tensor) -> Mapping[str, list[Tensor]]:
        """Masks of every image in its padded or stretched shape, and their classes.

        Raises:
            ConfigError: Objects without masks.
        """
        masks = []
        for image in objects:
            if image.masks is None and len(image.labels):
                raise ConfigError(
                    f"{type(self.model).__name__} learns from masks, but the objects have boxes alone",
                    fix="give annotations with masks, or a detector of boxes",
                )
            own = pixels.new_zeros(0, *pixels.shape[-2:]) if image.masks is None else image.masks.to(pixels)
            if self.image_size:
                own = F.interpolate(own[None], self.image_size, mode="nearest")[0] if len(own) else own
            else:
                own = F.pad(own, (0, pixels.shape[-1] - own.shape[-1], 0, pixels.shape[-2] - own.shape[-2]))
            masks.append(own)
        return {"mask_labels": masks, "class_labels": [image.labels for image in objects]}


def _rounded(length: int) -> int:
    """The next multiple of the divisor."""
    return (length + _DIVISOR - 1) // _DIVISOR * _DIVISOR
