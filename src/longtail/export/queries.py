"""A detector of queries as one graph."""

import torch
from torch import Tensor

from longtail.detection.queries.detector import QueryDetector
from longtail.export.detection import Chosen, DetectionGraph, fixed_detections


class QueryGraph(DetectionGraph):
    """A ``DetectionGraph`` of a DETR; masks (k, h, w) are probabilities on a grid over the whole input of the network.

    That input is the image, stretched to ``image_size`` or padded right and below to multiples of 32.
    """

    method: QueryDetector

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Boxes, scores, labels and masks."""
        image = self.normalised(image)
        size: tuple[int, int] = image.shape[-2:]  # type: ignore[assignment]
        (outputs,), maps = self.method.run_stages(*self.method.input_of(image), [size])
        probabilities = self.readout(outputs)
        if outputs.quality is not None:
            probabilities = probabilities * outputs.quality[:, None]
        real = torch.ones_like(probabilities[:, 0], dtype=torch.bool)
        chosen, rows = fixed_detections(
            probabilities, outputs.boxes, real, self.method.postprocess, self.top_k, max(*size)
        )
        if maps is None:
            return tuple(chosen)
        return (*chosen, maps[0, rows].sigmoid() * (chosen.labels >= 0)[:, None, None])

    def mask_difference(self, image: Tensor, found: Chosen, masks: Tensor) -> float:
        """See ``DetectionGraph``: from the nearest mask of any query."""
        size = (int(image.shape[-2]), int(image.shape[-1]))
        _, maps = self.method.run_stages(*self.method.input_of(image), [size])
        assert maps is not None
        own = maps[0].sigmoid()
        return max(float((own - mask).abs().amax(dim=(1, 2)).min()) for mask in masks)
