"""A segmentation method as one graph."""

from collections.abc import Sequence

from torch import Tensor

from longtail.export.graph import Graph
from longtail.models.segmenter import Segmenter


class SegmentationGraph(Graph):
    """Images -> class probabilities (n, classes, h, w), or labels (n, h, w), at the images' size.

    Args:
        segmenter: The trained model.
        labels_only: Whether labels come out; what moves no label is then not computed.
        normalise: See ``Graph``.
    """

    batches = True

    def __init__(self, segmenter: Segmenter, *, labels_only: bool = False, normalise: bool = False) -> None:
        super().__init__(segmenter.input, segmenter.photos.num_bands, normalise=normalise)
        self.method = segmenter.method
        self.outputs = ("labels",) if labels_only else ("probabilities",)

    def forward(self, image: Tensor) -> Tensor:
        """Labels or probabilities."""
        image = self.normalised(image)
        return self.method.scores(image).argmax(dim=1) if self.outputs == ("labels",) else self.method(image)

    def difference(self, image: Tensor, found: Sequence[Tensor]) -> float:
        """Of probabilities; of labels, by how much the model's own are more probable."""
        expected: Tensor = self.method(self.normalised(image))
        (values,) = found
        if self.outputs == ("labels",):
            lost = expected.amax(dim=1) - expected.gather(1, values.unsqueeze(1)).squeeze(1)
            return float(lost.max())
        return float((expected - values).abs().max())
