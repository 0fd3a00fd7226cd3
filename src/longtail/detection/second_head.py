"""A second classifier of every stage; its phase trains nothing else."""

import copy
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from longtail.detection.targets import Objects


class SecondHead(nn.Module):
    """Second classifier of a stage, on the stage's shared features or on its own copy of the shared layers.

    Args:
        shared: The stage's layers between the pooled map and its classifier.
        classifier: The second classifier.
        whole: Whether the head copies the shared layers and trains the copy.
        beside: Whether the first classifier's logits stay in front of its own.
    """

    def __init__(self, shared: nn.Module, classifier: nn.Module, *, whole: bool = False, beside: bool = False) -> None:
        super().__init__()
        self.shared = copy.deepcopy(shared) if whole else None
        self.classifier = classifier
        self.beside = beside

    def forward(
        self,
        pooled: Float[Tensor, "r c s s"],
        shared: Float[Tensor, "r f"],
        first: Callable[[Float[Tensor, "r f"]], Float[Tensor, "r _"]],
    ) -> Float[Tensor, "r logits"]:
        """Class logits in float32.

        Args:
            pooled: Features of the boxes.
            shared: The stage's shared features of them.
            first: The stage's first classifier.
        """
        logits = self.classifier(shared if self.shared is None else self.shared(pooled)).float()
        return torch.cat([first(shared).float(), logits], dim=1) if self.beside else logits

    @torch.no_grad()
    def begin(self, shared: nn.Module, classifier: nn.Module, *, reset: bool) -> None:
        """Copy the trained weights; the classifier's are left out with ``reset``.

        A classifier with fewer outputs takes the rows of the classes, which come first, and keeps its own bias: a loss
        without a logit of the background (focal) starts its sigmoids from another bias. A classifier with more outputs
        (balanced group softmax) keeps its initial weights.
        """
        if self.shared is not None:
            self.shared.load_state_dict(shared.state_dict())
        if reset:
            return
        old, new = classifier.state_dict(), self.classifier.state_dict()
        if {k: v.shape for k, v in old.items()} == {k: v.shape for k, v in new.items()}:
            self.classifier.load_state_dict(old)
        elif old["weight"].shape[1:] == new["weight"].shape[1:] and len(new["weight"]) < len(old["weight"]):
            self.classifier.load_state_dict({**new, "weight": old["weight"][: len(new["weight"])]})


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
