"""A detector of several stages: its readouts, and from stage outputs to detections. Cascades and query decoders are ones."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from longtail.boxes import resize_boxes
from longtail.detection.config import PostprocessConfig
from longtail.detection.method import DetectionMethod, Detections, Readout, StageOutputs
from longtail.detection.postprocess import Selected, found_in, read_stages
from longtail.detection.run_lengths import encode_masks
from longtail.ensembles.base import Ensemble, named
from longtail.errors import ConfigError
from longtail.frequency.groups import CategoryGroups

#: Chosen rows and their labels (p_i, 2) of every image, and the sizes of the stored images -> their masks, encoded.
MaskEncoder = Callable[[Sequence[Tensor], Sequence[tuple[int, int]]], list[list[dict[str, Any]]]]
#: Boxes (n_i, 4) and labels (n_i,) of every image, in the network's input -> mask probabilities (n_i, t, t).
MaskPredictor = Callable[[Sequence[Tensor], Sequence[Tensor]], Sequence[Tensor]]


class StagedDetector(DetectionMethod):
    """A detector whose stages each classify the same boxes.

    The readouts are the named ensembles, then ``average`` (the plain ensemble), then ``stage_1`` … ``stage_N``, each
    stage's classifier alone on the final boxes. Without ensembles, the detector's own reading is ``baseline``.

    Args:
        num_classes: Number of foreground classes C.
        has_masks: Whether masks are predicted.
    """

    unlimited_kinds = ("bbox",)

    def __init__(self, num_classes: int, has_masks: bool) -> None:
        super().__init__(num_classes, has_masks)
        self.ensembles = nn.ModuleDict()
        #: (C,) foreground boxes of every class that each stage learned from in the last batch.
        self.positives: dict[int, Tensor] = {}
        self._group_names: tuple[str, ...] = ()
        self.group_members: Tensor

    @property
    @abstractmethod
    def num_stages(self) -> int:
        """Number of stages, N."""

    @property
    @abstractmethod
    def postprocess(self) -> PostprocessConfig:
        """Thresholds of inference."""

    @abstractmethod
    def logit_reading(self) -> Any:
        """Says how logits are read: the last stage's loss, or a ``Reading``."""

    @abstractmethod
    def read_stage(self, stage: int, logits: Tensor) -> Tensor:
        """Probabilities (R, C+1) of the logits of a stage."""

    @abstractmethod
    def plain_ensemble(self) -> Ensemble:
        """How the detector itself combines its stages."""

    def plain_average(self) -> Ensemble:
        """The plain average of the stages."""
        return self.plain_ensemble()

    @abstractmethod
    def set_class_losses(self, losses: Sequence[Any]) -> None:
        """Train the classifier of stage k with ``losses[k]``."""

    def set_ensembles(self, ensembles: Mapping[str, Ensemble]) -> None:
        """Read the stages through these ensembles from now on; the first is the detector's own prediction.

        Raises:
            ConfigError: A name is taken, or none that a module can have.
        """
        self.ensembles = named(ensembles, ["average", *(f"stage_{k + 1}" for k in range(self.num_stages))])

    def readouts(self) -> dict[str, Readout]:
        """See ``DetectionMethod.readouts``."""
        found = {name: self._ensemble_readout(name, ensemble) for name, ensemble in self.ensembles.items()}
        if not found:
            found["baseline"] = self._ensemble_readout("baseline", self.plain_ensemble())
        elif "baseline" not in found:
            found["average"] = self._ensemble_readout("average", self.plain_average())
        return found | {f"stage_{k + 1}": self._stage_readout(k) for k in range(self.num_stages)}

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
        return lambda outputs: self.read_stage(stage, outputs.logits[stage])

    def count_positives(self, groups: CategoryGroups) -> None:
        """From now on, count the foreground boxes of each group that the stages learn from."""
        members = torch.zeros(groups.num_classes, groups.num_groups)
        for group, classes in enumerate(groups.members):
            members[list(classes), group] = 1
        self.register_buffer("group_members", members, persistent=False)
        self._group_names = groups.names

    def counts(self) -> dict[str, Tensor]:
        """Foreground boxes of each stage and group in the last batch; nothing before ``count_positives``.

        Source: MEC §6, boxes of rare classes by stage.
        """
        if not self._group_names:
            return {}
        return {
            f"positives/stage_{stage + 1}/{name}": number
            for stage, of_class in self.positives.items()
            for name, number in zip(self._group_names, of_class @ self.group_members, strict=True)
        }


def read_detections(
    detector: StagedDetector,
    outputs: Sequence[StageOutputs],
    original_sizes: Sequence[tuple[int, int]] | None,
    names: Iterable[str] | None,
    masks: MaskEncoder | None,
    *,
    unlimited: bool = False,
) -> dict[str, list[Detections]]:
    """Detections of several readouts of the same stage outputs.

    Args:
        detector: Whose readouts and thresholds.
        outputs: Stage outputs of every image.
        original_sizes: See ``DetectionMethod.predict_readouts``.
        names: See ``DetectionMethod.predict_readouts``.
        masks: Predicts the masks of what is chosen; None for no masks.
        unlimited: See ``DetectionMethod.predict_readouts``.
    """
    readouts, settings = detector.readouts(), detector.postprocess
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
        encoded = _masks_of_all(best, sizes, masks)
    return {
        name: [
            found_in(size, o.size, c, limit, None if encoded is None else encoded[k][i], unlimited=unlimited)
            for i, (c, o, size) in enumerate(zip(images, outputs, sizes, strict=True))
        ]
        for k, (name, images) in enumerate(chosen.items())
    }


def masks_in_boxes(outputs: Sequence[StageOutputs], predict: MaskPredictor, threshold: float) -> MaskEncoder:
    """Encodes masks that are predicted inside of boxes.

    Args:
        outputs: Stage outputs of every image.
        predict: Predicts the masks.
        threshold: Pixels of at least this mask probability belong to the object.
    """

    def encode(pairs: Sequence[Tensor], sizes: Sequence[tuple[int, int]]) -> list[list[dict[str, Any]]]:
        boxes = [o.boxes[p[:, 0]] for o, p in zip(outputs, pairs, strict=True)]
        maps = predict(boxes, [p[:, 1] for p in pairs])
        return [
            encode_masks(m, resize_boxes(b, o.size, size), size, threshold)
            for m, b, o, size in zip(maps, boxes, outputs, sizes, strict=True)
        ]

    return encode


def _masks_of_all(
    chosen: Sequence[Sequence[Selected]], sizes: Sequence[tuple[int, int]], masks: MaskEncoder
) -> list[list[list[dict[str, Any]]]]:
    """Encoded masks of every readout's choice in every image.

    Readouts choose among the same boxes, and a mask depends on box and class alone: each pair is computed once.
    """
    pairs, places = [], []
    for i in range(len(sizes)):
        every = torch.cat([torch.stack([images[i].rows, images[i].labels], dim=1) for images in chosen])
        distinct, place = every.unique(dim=0, return_inverse=True)
        pairs.append(distinct)
        places.append(place.split([len(images[i].rows) for images in chosen]))
    encoded = masks(pairs, sizes)
    return [[[encoded[i][j] for j in place[k].tolist()] for i, place in enumerate(places)] for k in range(len(chosen))]
