"""Test-time augmentation: one detector looks at an image several times, flipped and at several scales."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from longtail.boxes import resize_boxes
from longtail.detection.cascade import Pyramid
from longtail.detection.cascade_rcnn import CascadeDetector
from longtail.detection.method import DetectionMethod, Detections, DetectionTarget, Readout, StageOutputs
from longtail.detection.staged import masks_in_boxes, read_detections
from longtail.errors import ConfigError
from longtail.shapes import ImageList, Losses


class _View(NamedTuple):
    scale: float
    flipped: bool


class AugmentedDetector(DetectionMethod):
    """A trained detector that sees every image in several views.

    The boxes of all views are brought into the image and compete in non-maximum suppression with the probabilities
    that their own view gave them; the mask of a chosen box is the mean over the views. Every readout of the detector
    works as before, and so does offline scoring of ``stage_outputs``.

    Args:
        detector: The detector.
        scales: Factors on the image's size in the network's input.
        flip: Also see every scale mirrored.

    Source: MEC Table 4, row 5 (TTA, without details); merging as detectron2 does.
    """

    def __init__(self, detector: CascadeDetector, scales: Sequence[float] = (1.0,), flip: bool = True) -> None:
        super().__init__(detector.num_classes, detector.has_masks)
        if not scales or min(scales) <= 0:
            raise ConfigError(f"scales {tuple(scales)}", fix="give at least one factor above 0")
        self.detector = detector
        self.unlimited_kinds = detector.unlimited_kinds
        self.views = [_View(float(s), mirrored) for s in scales for mirrored in ((False, True) if flip else (False,))]

    def losses(self, images: ImageList, targets: Sequence[DetectionTarget]) -> Losses:
        """The detector's losses, without augmentation."""
        return self.detector.losses(images, targets)

    def readouts(self) -> dict[str, Readout]:
        """The detector's readouts."""
        return self.detector.readouts()

    def stage_outputs(self, images: ImageList) -> list[StageOutputs]:
        """Stage outputs on the boxes of all views together."""
        return self._look(images)[1]

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
        seen, outputs = self._look(images)

        def masks(boxes: Sequence[Tensor], labels: Sequence[Tensor]) -> Sequence[Tensor]:
            return self._masks(seen, [o.size for o in outputs], boxes, labels)

        threshold = self.detector.postprocess.mask_threshold
        own_masks = masks_in_boxes(outputs, masks, threshold) if self.has_masks else None
        return read_detections(self.detector, outputs, original_sizes, names, own_masks, unlimited=unlimited)

    @torch.no_grad()
    def _look(self, images: Sequence[Tensor]) -> tuple[list[tuple[_View, Pyramid, list]], list[StageOutputs]]:
        """What every view saw, and the outputs of all views merged, in pixels of the images."""
        sizes = [(int(i.shape[-2]), int(i.shape[-1])) for i in images]
        seen = []
        found: list[list[StageOutputs]] = []
        for view in self.views:
            pyramid, outputs = self.detector.run_stages([_through(view, image) for image in images])
            seen.append((view, pyramid, [o.size for o in outputs]))
            back = [_back(view, o.boxes, o.size, size) for o, size in zip(outputs, sizes, strict=True)]
            found.append([o._replace(boxes=b) for o, b in zip(outputs, back, strict=True)])
        merged = [
            StageOutputs(torch.cat([v[i].logits for v in found], dim=1), torch.cat([v[i].boxes for v in found]), size)
            for i, size in enumerate(sizes)
        ]
        return seen, merged

    def _masks(
        self,
        seen: list[tuple[_View, Pyramid, list]],
        sizes: Sequence[tuple[int, int]],
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
    ) -> list[Tensor]:
        """Mean over the views of the mask probabilities."""
        total: list[Tensor] = []
        for view, pyramid, view_sizes in seen:
            moved = [_into(view, b, size, s) for b, size, s in zip(boxes, sizes, view_sizes, strict=True)]
            maps = self.detector.heads.mask_probabilities(pyramid, moved, labels)
            maps = [m.flip(-1) if view.flipped else m for m in maps]
            total = [t + m for t, m in zip(total, maps, strict=True)] if total else maps
        return [t / len(seen) for t in total]


def _through(view: _View, image: Float[Tensor, "bands h w"]) -> Float[Tensor, "bands h2 w2"]:
    """The image as a view sees it."""
    if view.scale != 1.0:
        size = [max(1, round(side * view.scale)) for side in image.shape[-2:]]
        image = F.interpolate(image[None], size, mode="bilinear", antialias=True)[0]
    return image.flip(-1) if view.flipped else image


def _into(view: _View, boxes: Tensor, size: tuple[int, int], view_size: tuple[int, int]) -> Float[Tensor, "n 4"]:
    """Boxes of the image, of ``size``, in a view, of ``view_size``."""
    return _mirrored(resize_boxes(boxes, size, view_size), view_size[1], view.flipped)


def _back(view: _View, boxes: Tensor, view_size: tuple[int, int], size: tuple[int, int]) -> Float[Tensor, "n 4"]:
    """Inverse of ``_into``."""
    return resize_boxes(_mirrored(boxes, view_size[1], view.flipped), view_size, size)


def _mirrored(boxes: Tensor, width: int, mirror: bool) -> Tensor:
    return torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1) if mirror else boxes
