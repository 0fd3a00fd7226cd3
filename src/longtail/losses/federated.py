"""Federated loss: a batch trains its own classes and a few others."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from longtail.errors import ConfigError
from longtail.losses.base import ClassificationLoss
from longtail.losses.label_space import LabelSpace
from longtail.losses.positions import labelled_rows
from longtail.losses.sigmoid import one_hot, prior_logit, with_background
from longtail.shapes import Logits, PositionWeight, Probabilities, Scalar, Target


def sample_classes(labels: Int[Tensor, " m"], chance: Float[Tensor, " c"], number: int) -> Bool[Tensor, " c"]:
    """The classes among the labels, and others drawn without replacement until there are ``number``.

    Args:
        labels: Class ids; those beyond c (background) are no class.
        chance: Relative probability of being drawn; classes of chance 0 never are.
        number: Classes wanted; the labels' own all stay, be they more.

    Source: Probabilistic two-stage detection (Zhou 2021), App.: federated loss.
    """
    chosen = torch.zeros(len(chance) + 1, dtype=torch.bool, device=chance.device)
    chosen[labels.clamp(max=len(chance))] = True
    chosen = chosen[:-1]
    left = chance.masked_fill(chosen, 0.0)
    missing = min(number - int(chosen.sum()), int((left > 0).sum()))
    if missing > 0:
        chosen[torch.multinomial(left, missing)] = True
    return chosen


def federated_loss(
    logits: Float[Tensor, "m c"], target: Int[Tensor, " m"], classes: Bool[Tensor, " c"]
) -> Float[Tensor, " m"]:
    """Binary cross-entropy over the chosen classes, summed for each box; the other classes get no gradient.

    Source: as ``sample_classes``; PEERS part 2, 4.
    """
    columns = classes.nonzero().squeeze(1)
    wanted = one_hot(target, logits.shape[1], logits).index_select(1, columns)
    each = F.binary_cross_entropy_with_logits(logits.index_select(1, columns), wanted, reduction="none")
    return each.sum(dim=1)


class FederatedLoss(ClassificationLoss):
    """``federated_loss`` of boxes, the mean over the labelled ones; C sigmoids, no logit of the background.

    In data with federated annotations an image has no labels for most classes: only the classes of the batch and some
    drawn by their number of images are trained. Out of training mode every class takes part.

    Args:
        labels: Classes, background and ignored value of box labels, with the training counts.
        sampled: classes that take part in a step
        power: a class is drawn in proportion to this power of the images that show it; one that no image shows, as if
            one did, or it would keep its first probability for ever

    Raises:
        ConfigError: The loss is built for pixels, or no class takes part.

    Source: Probabilistic two-stage detection (Zhou 2021); PEERS part 2, 4.
    """

    chance: Tensor
    absolute_logits = True

    def __init__(self, labels: LabelSpace, *, sampled: int = 50, power: float = 0.5) -> None:
        super().__init__(labels)
        if not labels.background:
            raise ConfigError(
                "the federated loss is for boxes: every labelled pixel is a negative of all other classes",
                fix="choose another loss for segmentation, such as 'seesaw' or 'equalization'",
            )
        if sampled < 1:
            raise ConfigError(f"sampled is {sampled}", fix="let at least one class take part")
        self.sampled = sampled
        chance = torch.tensor(labels.counted().images, dtype=torch.float32).clamp(min=1) ** power
        self.register_buffer("chance", chance, persistent=False)

    @property
    def num_logits(self) -> int:
        """C."""
        return self.num_classes - 1

    @property
    def initial_bias(self) -> Float[Tensor, " logits"]:
        """Classes start at a probability of 0.01."""
        return torch.full((self.num_logits,), prior_logit(0.01))

    def forward(self, logits: Logits, target: Target, position_weight: PositionWeight = None) -> Scalar:
        rows = labelled_rows(logits, target, position_weight, self.num_classes, self.ignore_index)
        if self.training:
            classes = sample_classes(rows.target, self.chance, self.sampled)
        else:
            classes = torch.ones_like(self.chance, dtype=torch.bool)
        return rows.mean(federated_loss(rows.logits, rows.target, classes))

    def probabilities(self, logits: Logits) -> Probabilities:
        """Sigmoids, which do not sum to 1."""
        return with_background(logits.sigmoid())
