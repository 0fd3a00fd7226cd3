"""Plain average of the experts: of MEDOE's decoders, or of the stages of a cascade."""

from typing import Literal, get_args

import torch
from torch import Tensor

from longtail.ensembles.alignment import Activation, Background, GroupLayout
from longtail.ensembles.base import Ensemble
from longtail.errors import ConfigError
from longtail.frequency.groups import CategoryGroups
from longtail.precision import at_least_float32
from longtail.settings import one_of
from longtail.shapes import ExpertFeatures, ExpertLogits, Probabilities

Averaged = Literal["probabilities", "logits"]


class Average(Ensemble):
    """Mean of the experts' probabilities (the papers, detectron2), or softmax of their mean logits (mmdetection).

    With ``align`` identical stages do not give back the stage, since alignment changes its logits.

    Args:
        average: ``probabilities`` or ``logits``.
        align: Align the groups of every stage first (Table 2c, row 5).
        groups: Groups of the foreground classes; only for ``align``.
        background: What alignment does with the background.
        keep_level: See ``alignment.GroupLayout``: for losses with ``absolute_logits``.
        activation: How the loss reads logits; None for softmax.

    Source: MEC §3.1; SPEC §2.15.
    """

    def __init__(
        self,
        average: Averaged = "probabilities",
        *,
        align: bool = False,
        groups: CategoryGroups | None = None,
        background: Background = "relative",
        keep_level: bool = False,
        activation: Activation | None = None,
    ) -> None:
        super().__init__()
        if align and groups is None:
            raise ConfigError("group alignment needs groups", fix="pass groups=CategoryGroups…, or align=False")
        self.average: Averaged = one_of("average", average, get_args(Averaged))
        self.layout = GroupLayout(groups, background, keep_level=keep_level) if align and groups is not None else None
        self.activation = activation

    def forward(self, logits: ExpertLogits, features: ExpertFeatures = None) -> Probabilities:
        """Class probabilities; ``features`` are not read."""
        logits = at_least_float32(logits)
        if self.layout is None:
            if self.average == "logits":
                return self._activate(logits.mean(dim=0))
            return torch.stack([self._activate(stage) for stage in logits]).mean(dim=0)
        parts, rest = self.layout.align(*self.layout.split(logits))
        if self.average == "logits":
            combined = self.layout.join([part.mean(dim=0) for part in parts], rest.mean(dim=0))
            return self.layout.read(combined, logits, self.activation)
        stages = (self.layout.join([part[k] for part in parts], rest[k]) for k in range(len(logits)))
        return torch.stack([self.layout.read(stage, logits, self.activation) for stage in stages]).mean(dim=0)

    def _activate(self, logits: Tensor) -> Tensor:
        return logits.softmax(dim=1) if self.activation is None else self.activation(logits)
