"""Average of each class over the experts that were trained on it."""

from typing import get_args

import torch
from jaxtyping import Bool
from torch import Tensor

from longtail.ensembles.average import Averaged
from longtail.ensembles.base import Ensemble
from longtail.errors import ConfigError
from longtail.settings import one_of
from longtail.shapes import ExpertFeatures, ExpertScores, Probabilities


class GroupAverage(Ensemble):
    """Class j's output averaged over the experts whose label set holds j.

    Args:
        label_sets: (K, C), whether a class is in an expert's label set; every class is in at least one.
        of: Averaged values; averaged probabilities are renormalised over the classes.

    Source: MEDOE Table 6 (3), "group average" of ACE; SPEC §2.9.
    """

    def __init__(self, label_sets: Bool[Tensor, "experts classes"], of: Averaged = "logits") -> None:
        super().__init__()
        unseen = (~label_sets.any(dim=0)).nonzero().flatten().tolist()
        if unseen:
            raise ConfigError(f"classes {unseen} are in no expert's label set", fix="give every class to an expert")
        self.of: Averaged = one_of("of", of, get_args(Averaged))
        self.register_buffer("share", label_sets.float() / label_sets.sum(dim=0), persistent=False)
        self.share: Tensor

    def forward(self, logits: ExpertScores, features: ExpertFeatures = None) -> Probabilities:
        values = logits if self.of == "logits" else logits.softmax(dim=2)
        average = torch.einsum("knc...,kc->nc...", values, self.share.to(values.dtype))
        return average.softmax(dim=1) if self.of == "logits" else average / average.sum(dim=1, keepdim=True)
