"""``Detector``: a trained detection method with its classes and preprocessing; save and load this."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from longtail.detection.augmented import AugmentedDetector
from longtail.detection.cascade_rcnn import CascadeDetector
from longtail.detection.method import DetectionMethod, Detections
from longtail.encoders import adapt_bands
from longtail.errors import CheckpointError, ConfigError
from longtail.models.detection_methods import build_detection_method
from longtail.models.pretrained import PretrainedModel, picture_pixels
from longtail.shapes import ImageList
from longtail.transforms import IMAGENET_MEAN, IMAGENET_STD, detection_eval

#: Preparation of pictures where ``input`` does not set it.
DETECTION_INPUT: dict[str, Any] = {
    "mean": list(IMAGENET_MEAN),
    "std": list(IMAGENET_STD),
    "short_side": 800,
    "max_side": 1333,
}


class Detector(
    PretrainedModel,
    library_name="longtail",
    tags=["object-detection", "instance-segmentation", "long-tailed"],
    license="apache-2.0",
):
    """A detection method with its classes and preprocessing, rebuilt from plain JSON values.

    Args:
        model: ``{"name": "cascade" | "htc", option: …}`` for ``detection.build_detector``, without ``num_classes``.
        method: ``{"name": "baseline" | "mec", option: …}`` for ``models.build_detection_method``.
        classes: ``{"names": [...], "palette": [[r, g, b], ...], "ids": [category ids]}``.
        groups: ``{"names": [...], "members": [[class ids], ...]}``, rarest first (lists: JSON files may sort keys).
        frequency: ``ClassFrequency.to_dict()`` of the training split.
        input: ``mean`` and ``std`` of the normalisation (of values in [0, 1]), ``short_side`` and ``max_side``: pixels
            to which the image is scaled before the network; ``bands``, ``value_range`` and ``pages`` of
            ``PhotoFormat`` where pictures are no RGB bytes.
        task: Tells this configuration from a segmenter's.
        network: A trained ``DetectionMethod`` instead of ``model`` and ``method``; pass it to
            ``from_pretrained`` again.
    """

    task = "detection"

    def __init__(
        self,
        model: dict[str, Any],
        method: dict[str, Any],
        classes: dict[str, Any],
        groups: dict[str, Any],
        frequency: dict[str, Any],
        input: dict[str, Any] | None = None,
        task: str = "detection",
        network: DetectionMethod | None = None,
    ) -> None:
        super().__init__()
        if task != "detection":
            raise CheckpointError(f"the configuration is of task {task!r}", fix="load it with the class of that task")
        self._take_facts(classes, groups, frequency, DETECTION_INPUT, input or {})
        self.category_ids = np.asarray(classes.get("ids", range(len(self.class_names))), dtype=np.int64)
        self.settings = {"model": dict(model), "method": dict(method)}
        if network is None:
            network = build_detection_method(
                dict(method), groups=self.groups, frequency=self.frequency, detector=dict(model)
            )
            adapt_bands(network, self.photos.num_bands)
        self.method = network
        self._resize = detection_eval(
            self.input["short_side"], self.input["max_side"], mean=self.input["mean"], std=self.input["std"]
        )

    def forward(self, images: ImageList) -> list[Detections]:
        """Detections in normalised images, in their pixels."""
        return self.method(images)

    @torch.inference_mode()
    def predict(
        self,
        image: "str | Path | Image.Image | np.ndarray | Tensor",
        *,
        scales: Sequence[float] | None = None,
        flip: bool = False,
    ) -> Detections:
        """Objects in one picture, in its pixels, best first.

        Args:
            image: A file, a PIL image, or uint8 RGB values as an (h, w, 3) array or a (3, h, w) tensor;
                of other bands see ``picture_pixels``.
            scales: Look at the picture at several sizes, factors on the input's (test-time augmentation).
            flip: Also look at it mirrored.

        Raises:
            ConfigError: No picture, or your own method is to be augmented.
        """
        self.eval()
        pixels = picture_pixels(image, self.photos)
        size = (int(pixels.shape[-2]), int(pixels.shape[-1]))
        method = self.method if scales is None and not flip else augmented(self.method, scales or (1.0,), flip)
        return method.predict([self.preprocess(pixels)], [size])[0]

    @classmethod
    def without_initial_weights(cls, model: Mapping[str, Any]) -> dict[str, Any]:
        """See ``PretrainedModel``; the weights are the whole detector's or the backbone's here."""
        kept = super().without_initial_weights(model)
        if isinstance(kept.get("backbone"), Mapping):
            kept["backbone"] = super().without_initial_weights(kept["backbone"])
        return kept


def augmented(method: DetectionMethod, scales: Sequence[float], flip: bool) -> AugmentedDetector:
    """A detector that looks at every picture several times.

    Raises:
        ConfigError: The method is not one of this library's cascades.
    """
    if not isinstance(method, CascadeDetector):
        raise ConfigError(
            f"{type(method).__name__} cannot be augmented", fix="leave scales and flip out, or use a CascadeDetector"
        )
    return AugmentedDetector(method, scales, flip).eval()
