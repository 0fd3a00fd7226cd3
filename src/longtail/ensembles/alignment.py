"""Group alignment; splitting logits by groups."""

from collections.abc import Callable
from itertools import accumulate
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn

from longtail.errors import ConfigError
from longtail.frequency.groups import CategoryGroups
from longtail.precision import at_least_float32
from longtail.settings import one_of
from longtail.shapes import ExpertLogits, Logits, Probabilities

#: How the background is treated; the paper does not say (SPEC §2.14):
#:
#: - ``relative``: it is in no group; alignment takes the mean of all foreground logits from it, and the result is
#:   averaged over the stages. A constant added to all logits of one stage then changes nothing.
#: - ``exclude``: as ``relative``, but its raw logit. SGD keeps the sum of a linear classifier's logits where it began, so
#:   that the two are close (SPEC §2.14); AdamW does not, and cosine and TDE classifiers never did: the aligned classes
#:   then stand against a background on another level (docs/papers/mec.md has the numbers).
#: - ``last_group``: a member of the last (most frequent) group.
#: - ``singleton``: a separate group. Alignment then makes its logit exactly 0: the worst choice in every trial.
#: - ``exempt``: its probability is the plain average's; only the foreground is aligned and ensembled.
Background = Literal["exclude", "relative", "last_group", "singleton", "exempt"]

#: Reads logits (n, logits, *grid) as probabilities (n, classes, *grid).
Activation = Callable[[Tensor], Tensor]


class GroupLayout(nn.Module):
    """Split logits into one part per group, and join them again.

    Where groups are ranges of class ids, in order, parts are views: number the classes by group to be fastest.
    Otherwise each group is gathered once and scattered once.

    Args:
        groups: Groups of the C foreground classes, which are the first C logits. The others (background;
            objectness) belong to no group unless ``background`` says so.
        background: See ``Background``.
        keep_level: Replace each group mean by the mean over stages, instead of by 0. This
            aligns the stages and keeps the absolute confidence of a box, which sigmoids and groups with "others" need.
    """

    order: Tensor

    def __init__(
        self, groups: CategoryGroups, background: Background = "relative", *, keep_level: bool = False
    ) -> None:
        super().__init__()
        self.num_classes = groups.num_classes
        self.num_groups = groups.num_groups
        self.background: Background = one_of("background", background, get_args(Background))
        self.keep_level = keep_level
        order = torch.tensor([c for members in groups.members for c in members], dtype=torch.long)
        self._ordered = bool((order == torch.arange(len(order))).all())
        ends = list(accumulate(groups.sizes))
        self._sizes = list(groups.sizes)
        self._ranges = list(zip(ends, groups.sizes, strict=True))
        self.register_buffer("order", order, persistent=False)

    def split(self, logits: ExpertLogits) -> tuple[list[Tensor], Tensor]:
        """Logits of every group, (experts, n, classes of the group, *grid), and those of no group, maybe none.

        Raises:
            ConfigError: There are fewer logits than classes, or no single background where one is needed.
        """
        count = logits.shape[2] - self.num_classes
        joins = self.background in ("last_group", "singleton", "exempt")
        if count < 0 or (joins and count != 1):
            raise ConfigError(
                f"{logits.shape[2]} logits for {self.num_classes} classes with background={self.background!r}",
                fix="give C logits and one for the background, or background='exclude'",
            )
        logits = at_least_float32(logits)
        classes, rest = logits[:, :, : self.num_classes], logits[:, :, self.num_classes :]
        if self._ordered:
            parts = [classes[:, :, end - size : end] for end, size in self._ranges]
        else:  # gather is three times faster than indexing where the classes lie last in memory
            parts = [classes.gather(2, _along(m, classes, 2)) for m in self.order.split(self._sizes)]
        if self.background == "last_group":
            parts[-1], rest = torch.cat([parts[-1], rest], dim=2), rest[:, :, :0]
        elif self.background == "singleton":
            parts, rest = [*parts, rest], rest[:, :, :0]
        return parts, rest

    def join(self, parts: list[Tensor], rest: Tensor) -> Logits:
        """Inverse of ``split``, after the experts have been combined: parts are (n, classes of the group, *grid)."""
        if self._ordered:
            return torch.cat([*parts, rest], dim=1)
        beyond = self.num_classes  # the background, where it was part of a group or a group
        if self.background == "last_group":
            parts, rest = [*parts[:-1], parts[-1][:, :-1]], parts[-1][:, -1:]
        elif self.background == "singleton":
            parts, rest = parts[:-1], parts[-1]
        joined = rest.new_empty((rest.shape[0], beyond + rest.shape[1], *rest.shape[2:]))
        for members, part in zip(self.order.split(self._sizes), parts, strict=True):
            joined.scatter_(1, _along(members, part, 1), part)
        joined[:, beyond:] = rest
        return joined

    def align(self, parts: list[Tensor], rest: Tensor) -> tuple[list[Tensor], Tensor]:
        """Group alignment of what ``split`` gave: the mean of each expert and group is taken from its logits.

        Source: MEC Eq. 3; SPEC §2.14.
        """
        aligned = [self._aligned(part) if part.shape[2] else part for part in parts]
        if self.background == "relative" and rest.shape[2]:
            total = sum(part.sum(dim=2, keepdim=True) for part in parts)
            level = cast(Tensor, total) / self.num_classes
            rest = rest - (level - level.mean(dim=0) if self.keep_level else level)
        return aligned, rest

    def _aligned(self, part: Tensor) -> Tensor:
        level = part.mean(dim=2, keepdim=True)
        return part - (level - level.mean(dim=0) if self.keep_level else level)

    def read(self, combined: Logits, logits: ExpertLogits, activation: Activation | None) -> Probabilities:
        """Probabilities of the ensemble's logits.

        Args:
            combined: Logits of the ensemble.
            logits: Raw logits of the experts: ``exempt`` takes the background from their plain average.
            activation: How the loss reads logits; None for softmax.
        """
        if self.background != "exempt":
            return combined.softmax(dim=1) if activation is None else activation(combined)
        if activation is not None:
            raise ConfigError(
                "background='exempt' reads softmax logits, but the loss brings its own probabilities",
                fix="choose background='exclude' or 'relative'",
            )
        background = at_least_float32(logits).softmax(dim=2)[:, :, self.num_classes :].mean(dim=0)
        foreground = combined[:, : self.num_classes].softmax(dim=1)
        return torch.cat([foreground * (1.0 - background), background], dim=1)


def _along(index: Tensor, values: Tensor, dim: int) -> Tensor:
    """An index of positions along ``dim``, as ``gather`` and ``scatter`` need it for all of ``values``."""
    shape = [1] * values.ndim
    shape[dim] = -1
    wanted = list(values.shape)
    wanted[dim] = len(index)
    return index.view(shape).expand(wanted)


def align_groups(logits: Logits, groups: CategoryGroups, background: Background = "relative") -> Logits:
    """Group alignment of one expert's logits: each group of classes gets the mean 0.

    Args:
        logits: C class logits and those of the background, if any.
        groups: Groups of the C classes.
        background: See ``Background``; ``exempt`` leaves it as ``exclude`` does.

    Source: MEC Eq. 3; SPEC §2.14.
    """
    layout = GroupLayout(groups, background).to(logits.device)
    parts, rest = layout.align(*layout.split(logits[None]))
    return layout.join([part[0] for part in parts], rest[0])
