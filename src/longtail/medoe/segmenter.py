"""``Segmenter``: a trained method with all that it needs to read a picture; the thing to save, publish and load."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as v2

from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.medoe.build import build_method
from longtail.pretrained import PretrainedModel, load_weights, picture_pixels
from longtail.segmentation.encoder_decoder import EncoderDecoder
from longtail.segmentation.models import build_model
from longtail.segmentation.upsampling import Upsampling

IMAGENET_INPUT = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "short_side": None}


class Segmenter(
    PretrainedModel,
    library_name="longtail",
    tags=["semantic-segmentation", "long-tailed"],
    license="apache-2.0",
):
    """A segmentation method with its model, classes and preprocessing, rebuilt from plain JSON values.

    Args:
        model: ``{"name": …, option: …}`` for ``segmentation.models.build_model``.
        method: ``{"name": …, option: …}`` for ``medoe.build_method``.
        classes: ``{"names": [...], "palette": [[r, g, b], ...]}``.
        groups: ``{"names": [...], "members": [[class ids], ...]}``, most frequent first (lists: JSON files may sort keys).
        frequency: ``ClassFrequency.to_dict()`` of the training split.
        input: ``mean`` and ``std`` of the normalisation (of values in [0, 1]), and ``short_side``: pixels to which the
            image's shorter side is scaled before the model, None for none.
        ignore_index: Target value of pixels without a label.
        network: A model of your own instead of ``model``; pass it to ``from_pretrained`` again.
    """

    def __init__(
        self,
        model: dict[str, Any],
        method: dict[str, Any],
        classes: dict[str, Any],
        groups: dict[str, Any],
        frequency: dict[str, Any],
        input: dict[str, Any] | None = None,
        ignore_index: int = 255,
        network: EncoderDecoder | None = None,
    ) -> None:
        super().__init__()
        self.class_names: tuple[str, ...] = tuple(classes["names"])
        self.palette: list[list[int]] = [list(colour) for colour in classes["palette"]]
        self.groups = CategoryGroups(tuple(groups["names"]), tuple(map(tuple, groups["members"])))
        self.frequency = ClassFrequency.from_dict(frequency)
        self.input = IMAGENET_INPUT | dict(input or {})
        self.settings = {"model": dict(model), "method": dict(method)}
        if network is None:
            options = dict(model)
            network = build_model(options.pop("name"), len(self.class_names), **options)
        options = dict(method)
        self.method = build_method(
            options.pop("name"),
            network,
            frequency=self.frequency,
            groups=self.groups,
            ignore_index=ignore_index,
            **options,
        )

    def forward(self, image: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n classes h w"]:
        """Class probabilities of normalised images, at their size."""
        return self.method(image)

    @torch.inference_mode()
    def predict(
        self,
        image: "str | Path | Image.Image | np.ndarray | Tensor",
        *,
        window: tuple[int, int] | None = None,
        stride: tuple[int, int] | None = None,
    ) -> Tensor:
        """Label map of one picture at its own size.

        Args:
            image: A file, a PIL image, or uint8 RGB values as an (h, w, 3) array or a (3, h, w) tensor.
            window: Height and width of a sliding window over large pictures; None reads the whole picture at once.
            stride: Step of the window, two thirds of it by default.

        Returns:
            int64 (h, w) class ids.
        """
        self.eval()
        pixels = picture_pixels(image)
        size = (pixels.shape[-2], pixels.shape[-1])
        normalised = self.preprocess(pixels).unsqueeze(0)
        if window is None:
            if tuple(normalised.shape[-2:]) == size:
                return self.method.labels(normalised)[0]
            probabilities = self.method(normalised)
        else:
            from longtail.segmentation.tiling import sliding_window

            step = stride or (max(1, window[0] * 2 // 3), max(1, window[1] * 2 // 3))
            probabilities = sliding_window(self.method, normalised, window, step)
        return Upsampling(size).labels(probabilities)[0]

    def preprocess(self, pixels: Tensor) -> Float[Tensor, "3 h w"]:
        """Scale, convert and normalise uint8 (3, h, w) RGB pixels, on the model's device."""
        device = next(self.parameters()).device
        if self.input["short_side"]:
            pixels = v2.resize(pixels, [int(self.input["short_side"])], antialias=True)
        values = v2.to_dtype(pixels.to(device), torch.float32, scale=True)
        return v2.normalize(values, self.input["mean"], self.input["std"])


__all__ = ["IMAGENET_INPUT", "Segmenter", "load_weights"]
