"""The contract of a detector with training, evaluation and prediction."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from longtail.phases import PhasedMethod
from longtail.shapes import ImageList, Losses

#: Annotations of one training image in pixels of the network's input: ``boxes`` (n, 4) float xyxy, ``labels`` (n,)
#: ids 0 … C-1, ``masks`` (n, h, w) bool where masks are trained, ``crowd`` (n,) bool where there are crowd regions,
#: ``semantic`` (h, w) ids where a semantic branch is trained, ``focus`` the class that the image was drawn for where
#: two-level sampling drew it. A ``DetectionSample`` is one.
DetectionTarget = Mapping[str, Any]


class StageOutputs(NamedTuple):
    """Outputs of all stages for one image: the input of an ensemble and of post-processing.

    Any multi-stage detector that gives these can be used. Recorded, they let ensembles be scored offline.

    Attributes:
        logits: (stages, R, logits), outputs of every stage's classifier on its own view of the R boxes, as the losses
            read them: the C class logits first, then the background's and any other logits of the loss.
        boxes: (R, 4), final boxes, xyxy in pixels of the network's input, the same for all classes.
        size: (height, width) of the image in the network's input, before padding.
        quality: (R,) factor on the class probabilities, such as the quality of the masks; None for 1.
    """

    logits: Tensor
    boxes: Tensor
    size: tuple[int, int]
    quality: Tensor | None = None


#: A way to read the stages as one: outputs of an image -> probabilities (R, C+1), background last.
Readout = Callable[[StageOutputs], Tensor]


@dataclass(frozen=True)
class Detections:
    """Detected objects of one image, best first.

    Args:
        boxes: (n, 4), xyxy in pixels of the original image.
        scores: (n,), in [0, 1].
        labels: (n,), class ids 0 … C-1.
        size: (height, width) of the original image.
        masks: n run-length encodings in COCO's compressed form, ``{"size": [h, w], "counts": str}``; None where the
            detector has no masks.
        unlimited: All detections above the threshold, without a limit per image; without masks where these cost too
            much. None unless asked for.
    """

    boxes: Float[Tensor, "n 4"]
    scores: Float[Tensor, " n"]
    labels: Int[Tensor, " n"]
    size: tuple[int, int]
    masks: list[dict[str, Any]] | None = None
    unlimited: "Detections | None" = None

    def __len__(self) -> int:
        return len(self.scores)


class DetectionMethod(PhasedMethod, ABC):
    """A detector with the losses that train it and the readouts that use it.

    A method is trained in one or several phases, in order. ``start_phase`` freezes the parts that a phase does not train;
    ``losses`` is then what that phase minimises. Images are normalised and may differ in size.

    Args:
        num_classes: Number of foreground classes C; label C is the background.
        has_masks: Whether masks are predicted.
    """

    #: What ``predict_readouts`` gives without a limit per image where asked: ``bbox``, ``segm``. AP-fixed is scored of these.
    unlimited_kinds: tuple[str, ...] = ()

    def __init__(self, num_classes: int, has_masks: bool) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.has_masks = has_masks

    @abstractmethod
    def losses(self, images: ImageList, targets: Sequence[DetectionTarget]) -> Losses:
        """Named, already weighted losses of the current phase; minimise their sum."""

    @abstractmethod
    def stage_outputs(self, images: ImageList) -> list[StageOutputs]:
        """Logits of every stage and the final boxes of every image, without masks."""

    @abstractmethod
    def readouts(self) -> dict[str, Readout]:
        """Name -> way to read the stages; the first one is the method's own prediction."""

    @abstractmethod
    def predict_readouts(
        self,
        images: ImageList,
        original_sizes: Sequence[tuple[int, int]] | None = None,
        names: Iterable[str] | None = None,
        *,
        unlimited: bool = False,
    ) -> dict[str, list[Detections]]:
        """Detections of several readouts from one pass through the network.

        Args:
            images: Normalised images.
            original_sizes: (height, width) of each image before it was resized; detections are given in its pixels.
                None: the images were not resized.
            names: Readouts wanted; None for all.
            unlimited: Also give ``Detections.unlimited``, if the method has ``unlimited_kinds``.
        """

    def predict(self, images: ImageList, original_sizes: Sequence[tuple[int, int]] | None = None) -> list[Detections]:
        """The method's own detections; arguments as of ``predict_readouts``."""
        own = next(iter(self.readouts()))
        return self.predict_readouts(images, original_sizes, [own])[own]

    @torch.no_grad()
    def forward(self, images: ImageList) -> list[Detections]:
        """The method's own detections in pixels of the images given."""
        return self.predict(images)
