"""The classification calibration head: a second classifier for a finished stage, and its sampling."""

import copy
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from longtail.detection.targets import Objects


class CalibrationHead(nn.Module):
    """A second box head with separate layers, which classifies the same boxes.

    Args:
        shared: The stage's layers between the pooled map and its classifier; they are copied.
        classifier: The second classifier.

    Source: SimCal (Wang 2020), §4.2.
    """

    def __init__(self, shared: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.shared = copy.deepcopy(shared)
        self.classifier = classifier

    def forward(self, pooled: Float[Tensor, "r c s s"]) -> Float[Tensor, "r logits"]:
        """Class logits in float32."""
        return self.classifier(self.shared(pooled)).float()


def two_level_sample(
    labels: Sequence[Int[Tensor, " _"]], objects: Sequence[Objects], background: int
) -> Int[Tensor, " s"] | None:
    """Proposals that two-level sampling learns from: of every image the foreground of the one class that it was drawn
    for, and as much background as that in all.

    Args:
        labels: Of the sampled proposals of every image.
        objects: Of every image; ``focus`` is the class that it was drawn for.
        background: Label of the background, C.

    Returns:
        Indices into the concatenated proposals; None where no image was drawn for a class.

    Source: SimCal (Wang 2020), §4.1 (bi-level sampling).
    """
    if all(image.focus is None for image in objects):
        return None
    wanted = torch.cat(
        [label == (-1 if o.focus is None else o.focus) for label, o in zip(labels, objects, strict=True)]
    )
    every = torch.cat(list(labels))
    negative = torch.where(every == background)[0]
    chosen = torch.randperm(len(negative), device=every.device)[: int(wanted.sum())]
    return torch.cat([torch.where(wanted)[0], negative[chosen]])
