"""A whole cascade detector: backbone, proposals, stages, post-processing."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from longtail.boxes import resize_boxes
from longtail.detection.calibration_head import CalibrationHead
from longtail.detection.cascade import Cascade, Pyramid
from longtail.detection.method import DetectionMethod, Detections, DetectionTarget, Readout, StageOutputs
from longtail.detection.postprocess import Selected, found_in, read_stages
from longtail.detection.rpn import ProposalNetwork
from longtail.detection.run_lengths import encode_masks
from longtail.detection.stage import StageLoss, StageLosses
from longtail.detection.targets import clean_objects
from longtail.ensembles.average import Average
from longtail.ensembles.base import Ensemble, named
from longtail.errors import ConfigError
from longtail.frequency.groups import CategoryGroups
from longtail.phases import CLASSIFIER_PHASE
from longtail.shapes import ImageList, Losses


class CascadeDetector(DetectionMethod):
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

    unlimited_kinds = ("bbox",)

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
        self._average = Average(heads.config.average, activation=self._read_last)
        self._group_names: tuple[str, ...] = ()
        self.group_members: Tensor

    @property
    def num_stages(self) -> int:
        """Number of stages, N."""
        return self.config.num_stages

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

    def set_ensembles(self, ensembles: Mapping[str, Ensemble]) -> None:
        """Read the stages through these ensembles from now on; the first is the detector's own prediction.

        Raises:
            ConfigError: A name is taken, or none that a module can have.
        """
        taken = ["average", *(f"stage_{k + 1}" for k in range(self.config.num_stages))]
        self.ensembles = named(ensembles, taken)

    def count_positives(self, groups: CategoryGroups) -> None:
        """From now on, count the foreground boxes of each group that the stages learn from."""
        members = torch.zeros(groups.num_classes, groups.num_groups)
        for group, classes in enumerate(groups.members):
            members[list(classes), group] = 1
        self.register_buffer("group_members", members, persistent=False)
        self._group_names = groups.names

    def counts(self) -> dict[str, Tensor]:
        """Sampled foreground boxes of each stage and group in the last batch; nothing before ``count_positives``.

        Source: MEC §6, boxes of rare classes by stage.
        """
        if not self._group_names:
            return {}
        return {
            f"positives/stage_{stage + 1}/{name}": number
            for stage, of_class in self.heads.positives.items()
            for name, number in zip(self._group_names, of_class @ self.group_members, strict=True)
        }

    def add_calibration_heads(self, heads: Sequence[CalibrationHead], losses: StageLosses) -> None:
        """Give every stage a second classifier, which alone is trained from now on.

        Args:
            heads: One a stage.
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

    def readouts(self) -> dict[str, Readout]:
        """See ``DetectionMethod.readouts``."""
        ensembles = dict(self.ensembles.items())
        if "baseline" not in ensembles:  # where it is, it is the plain average
            ensembles["average" if ensembles else "baseline"] = self._average
        stages = {f"stage_{k + 1}": self._stage_readout(k) for k in range(self.config.num_stages)}
        return {name: self._ensemble_readout(name, ensemble) for name, ensemble in ensembles.items()} | stages

    def _read_last(self, logits: Tensor) -> Tensor:
        return self.heads.class_losses.probabilities(self.config.num_stages - 1, logits)

    def _ensemble_readout(self, name: str, ensemble: nn.Module) -> Readout:
        def read(outputs: StageOutputs) -> Tensor:
            probabilities = ensemble(outputs.logits)
            if probabilities.shape[1] != self.num_classes + 1:
                raise ConfigError(
                    f"ensemble {name!r} gives {probabilities.shape[1]} probabilities for {self.num_classes} classes "
                    "and the background",
                    fix="tell it how the loss reads its logits: activation=loss.probabilities",
                )
            return probabilities

        return read

    def _stage_readout(self, stage: int) -> Readout:
        return lambda outputs: self.heads.class_losses.probabilities(stage, outputs.logits[stage])

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
        masks = partial(self.heads.mask_probabilities, pyramid) if self.has_masks else None
        return read_detections(self, outputs, original_sizes, names, masks, unlimited=unlimited)


#: Boxes (n_i, 4) and labels (n_i,) of every image, in the network's input -> mask probabilities (n_i, t, t).
MaskPredictor = Callable[[Sequence[Tensor], Sequence[Tensor]], Sequence[Tensor]]


def read_detections(
    detector: CascadeDetector,
    outputs: Sequence[StageOutputs],
    original_sizes: Sequence[tuple[int, int]] | None,
    names: Iterable[str] | None,
    masks: MaskPredictor | None,
    *,
    unlimited: bool = False,
) -> dict[str, list[Detections]]:
    """Detections of several readouts of the same stage outputs.

    Args:
        detector: Whose readouts and thresholds.
        outputs: Stage outputs of every image.
        original_sizes: See ``DetectionMethod.predict_readouts``.
        names: See ``DetectionMethod.predict_readouts``.
        masks: Predicts the masks of the boxes chosen; None for no masks.
        unlimited: See ``DetectionMethod.predict_readouts``.
    """
    readouts, settings = detector.readouts(), detector.config.postprocess
    sizes = [o.size for o in outputs] if original_sizes is None else [(int(h), int(w)) for h, w in original_sizes]
    chosen: dict[str, list[Selected]] = {}
    for name in list(readouts if names is None else names):
        if name not in readouts:
            raise ConfigError(f"there is no readout {name!r}", fix=f"choose among {list(readouts)}")
        chosen[name] = [read_stages(o, readouts[name], settings, unlimited=unlimited) for o in outputs]
    limit = settings.max_detections
    encoded = None
    if masks is not None:
        best = [[selected.best(limit) for selected in images] for images in chosen.values()]
        encoded = _masks_of_all(best, outputs, sizes, masks, settings.mask_threshold)
    return {
        name: [
            found_in(size, o.size, c, limit, None if encoded is None else encoded[k][i], unlimited=unlimited)
            for i, (c, o, size) in enumerate(zip(images, outputs, sizes, strict=True))
        ]
        for k, (name, images) in enumerate(chosen.items())
    }


def _masks_of_all(
    chosen: Sequence[Sequence[Selected]],
    outputs: Sequence[StageOutputs],
    sizes: Sequence[tuple[int, int]],
    masks: MaskPredictor,
    threshold: float,
) -> list[list[list[dict[str, Any]]]]:
    """Encoded masks of every readout's choice in every image.

    Readouts choose among the same boxes, and a mask depends on box and class alone: each pair is computed once.
    """
    pairs, places = [], []
    for i in range(len(outputs)):
        every = torch.cat([torch.stack([images[i].rows, images[i].labels], dim=1) for images in chosen])
        distinct, place = every.unique(dim=0, return_inverse=True)
        pairs.append(distinct)
        places.append(place.split([len(images[i].rows) for images in chosen]))
    boxes = [o.boxes[p[:, 0]] for o, p in zip(outputs, pairs, strict=True)]
    maps = masks(boxes, [p[:, 1] for p in pairs])
    encoded = [
        encode_masks(m, resize_boxes(b, o.size, size), size, threshold)
        for m, b, o, size in zip(maps, boxes, outputs, sizes, strict=True)
    ]
    return [[[encoded[i][j] for j in place[k].tolist()] for i, place in enumerate(places)] for k in range(len(chosen))]


def pad_images(images: ImageList, divisor: int) -> tuple[Float[Tensor, "n bands h w"], list[tuple[int, int]]]:
    """One batch of images of different sizes: padded right and below with zeros, the mean colour, to the largest
    height and width, rounded up to a multiple of ``divisor``; and the size of each before."""
    sizes = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
    height, width = (max(s[axis] for s in sizes) for axis in (0, 1))
    height, width = height + -height % divisor, width + -width % divisor
    padded = [F.pad(image, (0, width - w, 0, height - h)) for image, (h, w) in zip(images, sizes, strict=True)]
    return torch.stack(padded), sizes
