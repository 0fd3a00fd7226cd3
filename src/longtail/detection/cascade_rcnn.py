"""A whole cascade detector: backbone, proposals, stages, post-processing."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from longtail.detection.calibration_head import CalibrationHead
from longtail.detection.cascade import Cascade, Pyramid
from longtail.detection.config import PostprocessConfig
from longtail.detection.method import Detections, DetectionTarget, StageOutputs
from longtail.detection.rpn import ProposalNetwork
from longtail.detection.stage import StageLoss, StageLosses
from longtail.detection.staged import StagedDetector, masks_in_boxes, read_detections
from longtail.detection.targets import clean_objects
from longtail.ensembles.average import Average
from longtail.ensembles.base import Ensemble
from longtail.errors import ConfigError
from longtail.phases import CLASSIFIER_PHASE
from longtail.shapes import ImageList, Losses


class CascadeDetector(StagedDetector):
    """A cascade detector of ready parts.

    The readouts are the named ensembles, then ``average`` (the plain ensemble that the configuration names), then
    ``stage_1`` … ``stage_N``, each stage's classifier alone on the final boxes.

    Args:
        backbone: Padded batch (n, bands, h, w) -> feature pyramid, finest level first, one level more than is pooled.
        proposals: Region proposal network.
        heads: The stages.
        ensembles: Name -> ensemble of the stages' logits; the first is the method's own prediction. None: the plain
            average, under the name ``baseline``.
    """

    def __init__(
        self,
        backbone: nn.Module,
        proposals: ProposalNetwork,
        heads: Cascade,
        ensembles: Mapping[str, Ensemble] | None = None,
    ) -> None:
        super().__init__(heads.config.num_classes, heads.config.masks != "none")
        self.config = heads.config
        self.backbone = backbone
        self.proposals = proposals
        self.heads = heads
        self.set_ensembles(ensembles or {})

    @property
    def num_stages(self) -> int:
        """Number of stages, N."""
        return self.config.num_stages

    @property
    def postprocess(self) -> PostprocessConfig:
        """See ``StagedDetector.postprocess``."""
        return self.config.postprocess

    def logit_reading(self) -> StageLoss:
        """See ``StagedDetector.logit_reading``."""
        return self.heads.class_losses.loss(self.num_stages - 1)

    def read_stage(self, stage: int, logits: Tensor) -> Tensor:
        """See ``StagedDetector.read_stage``."""
        return self.heads.class_losses.probabilities(stage, logits)

    def plain_ensemble(self) -> Average:
        """See ``StagedDetector.plain_ensemble``."""
        return Average(self.config.average, activation=partial(self.read_stage, self.num_stages - 1))

    def set_class_losses(self, losses: Sequence[StageLoss]) -> None:
        """From now on, train stage k with ``losses[k]``.

        Args:
            losses: One loss per stage.

        Raises:
            ConfigError: The number of losses is not that of stages, or they need other logits than the classifiers give.
        """
        chosen = StageLosses(losses, self.num_stages, self.num_classes)
        if chosen.num_logits != self.heads.class_losses.num_logits:
            raise ConfigError(
                f"the losses need {chosen.num_logits} logits, the classifiers give "
                f"{self.heads.class_losses.num_logits}",
                fix="build the detector with these losses",
            )
        self.heads.class_losses = chosen

    def add_calibration_heads(self, heads: Sequence[CalibrationHead], losses: StageLosses) -> None:
        """Give every stage a second classifier, which alone is trained from now on.

        Args:
            heads: One for each stage.
            losses: They read the logits of both classifiers, and train the second.
        """
        for stage, head in zip(self.heads.box_stages, heads, strict=True):
            stage.calibration = head
        self.heads.class_losses = losses
        self.train_classifier_alone()

    def classifiers(self) -> dict[str, str]:
        """See ``PhasedMethod``."""
        stages = [f"heads.stages.{k}" for k in range(self.num_stages)]
        if self.heads.box_stages[0].calibration is None:
            return {f"{stage}.classifier": f"{stage}.classifier" for stage in stages}
        return {f"{s}.calibration.{part}": f"{s}.{part}" for s in stages for part in ("shared", "classifier")}

    def train(self, mode: bool = True) -> "CascadeDetector":
        """Switch the mode; a backbone that the phase does not train keeps its running statistics."""
        super().train(mode)
        if self.phase == CLASSIFIER_PHASE:
            self.backbone.eval()
        return self

    def losses(self, images: ImageList, targets: Sequence[DetectionTarget]) -> Losses:
        """See ``DetectionMethod.losses``."""
        batch, sizes = pad_images(images, self.config.size_divisor)
        objects = [
            clean_objects(target, size, self.num_classes, batch.device)
            for target, size in zip(targets, sizes, strict=True)
        ]
        pyramid = self.heads.embed(self.backbone(batch))
        proposals, losses = self.proposals.propose(batch, sizes, pyramid.levels, objects)
        alone = self.phase == CLASSIFIER_PHASE
        losses |= self.heads.losses(pyramid, proposals, objects, sizes, with_masks=not alone)
        self.positives = self.heads.positives
        if alone:
            return {name: value for name, value in losses.items() if name.endswith("_class")}
        return losses

    def stage_outputs(self, images: ImageList) -> list[StageOutputs]:
        """See ``DetectionMethod.stage_outputs``."""
        return self.run_stages(images)[1]

    @torch.no_grad()
    def run_stages(self, images: ImageList) -> tuple[Pyramid, list[StageOutputs]]:
        """Features of the padded batch, and the stage outputs of every image.

        Raises:
            ConfigError: The detector is in training mode.
        """
        if self.training:
            raise ConfigError("the detector is in training mode", fix="call .eval() before predicting")
        batch, sizes = pad_images(images, self.config.size_divisor)
        pyramid = self.heads.embed(self.backbone(batch))
        proposals, _ = self.proposals.propose(batch, sizes, pyramid.levels)
        return pyramid, self.heads.stage_outputs(pyramid, proposals, sizes)

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
        pyramid, outputs = self.run_stages(images)
        masks = None
        if self.has_masks:
            predict = partial(self.heads.mask_probabilities, pyramid)
            masks = masks_in_boxes(outputs, predict, self.postprocess.mask_threshold)
        return read_detections(self, outputs, original_sizes, names, masks, unlimited=unlimited)


def pad_images(images: ImageList, divisor: int) -> tuple[Float[Tensor, "n bands h w"], list[tuple[int, int]]]:
    """One batch of images of different sizes: padded right and below with zeros, the mean colour, to the largest
    height and width, rounded up to a multiple of ``divisor``; and the size of each before."""
    sizes = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
    height, width = (max(s[axis] for s in sizes) for axis in (0, 1))
    height, width = height + -height % divisor, width + -width % divisor
    padded = [F.pad(image, (0, width - w, 0, height - h)) for image, (h, w) in zip(images, sizes, strict=True)]
    return torch.stack(padded), sizes
