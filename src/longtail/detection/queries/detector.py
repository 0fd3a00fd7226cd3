"""``QueryDetector``: a DETR of transformers as a detector of stages, its decoder layers."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import box_convert, clip_boxes_to_image

from longtail.boxes import resize_boxes
from longtail.detection.cascade_rcnn import pad_images
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
        outputs, layers = self.family.run(pixels, mask)
        logits = torch.stack([layer.float() for layer in layers])
        padded = pixels.shape[-2:]
        if not self.has_masks:
            boxes = outputs.pred_boxes.float()
            return [
                StageOutputs(logits[:, i], self._absolute(boxes[i], size, pixels), size) for i, size in enumerate(sizes)
            ], None
        found, maps = [], outputs.masks_queries_logits.float()
        for i, size in enumerate(sizes):
            # the part of the padded input that the image takes, in its own pixels
            whole = self._extent(size, padded)
            own = maps[i] if self.image_size else crop_masks(maps[i], size, padded)
            cell = torch.tensor([whole[1] / maps.shape[3], whole[0] / maps.shape[2]], device=maps.device)
            boxes = clip_boxes_to_image(mask_boxes(own > 0, cell), size)
            found.append(StageOutputs(logits[:, i], boxes, size, mask_quality(own)))

        def encode(pairs: Sequence[Tensor], stored: Sequence[tuple[int, int]]) -> list[list[dict[str, Any]]]:
            encoded = []
            for i, (rows, size, inside) in enumerate(zip(pairs, stored, sizes, strict=True)):
                whole = self._extent(inside, padded)
                box = maps.new_tensor([[0, 0, whole[1], whole[0]]]).expand(len(rows), 4)
                place = resize_boxes(box, inside, size)
                chosen = maps[i, rows[:, 0]].sigmoid()
                encoded.append(encode_masks(chosen, place, size, self.postprocess.mask_threshold))
            return encoded

        return found, encode

    def _batch(self, images: ImageList) -> tuple[Tensor, Tensor, list[tuple[int, int]]]:
        """Padded or stretched images, where they are not padding, and their sizes."""
        if self.image_size is None:
            pixels, sizes = pad_images(images, _DIVISOR)
            mask = torch.zeros(len(sizes), *pixels.shape[-2:], dtype=torch.long, device=pixels.device)
            for own, (height, width) in zip(mask, sizes, strict=True):
                own[:height, :width] = 1
            return pixels, mask, sizes
        sizes = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
        stretched = [F.interpolate(i[None], self.image_size, mode="bilinear", antialias=True) for i in images]
        pixels = torch.cat(stretched)
        return pixels, pixels.new_ones(len(sizes), *self.image_size, dtype=torch.long), sizes

    def _extent(self, size: tuple[int, int], padded: Sequence[int]) -> tuple[int, int]:
        """(height, width) in pixels of the image that the whole input stands for."""
        return size if self.image_size else (int(padded[0]), int(padded[1]))

    def _scale(self, size: tuple[int, int], pixels: Tensor) -> Tensor:
        """What relative boxes are multiplied with."""
        height, width = self._extent(size, pixels.shape[-2:]) if self.family.boxes_of_batch else size
        return pixels.new_tensor([width, height, width, height], dtype=torch.float32)

    def _relative(self, boxes: Tensor, size: tuple[int, int], pixels: Tensor) -> Tensor:
        return box_convert(boxes, "xyxy", "cxcywh") / self._scale(size, pixels)

    def _absolute(self, boxes: Tensor, size: tuple[int, int], pixels: Tensor) -> Tensor:
        return clip_boxes_to_image(box_convert(boxes, "cxcywh", "xyxy") * self._scale(size, pixels), size)

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
