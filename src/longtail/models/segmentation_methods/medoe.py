"""MEDOE: one shared encoder, an expert for each group of classes, an ensemble of their outputs."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar

from longtail.components import Spec
from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.medoe.options import ExpertLossOptions, Initialise, Overlap
from longtail.models.segmentation_methods.base import SegmentationMethodConfig

if TYPE_CHECKING:
    from longtail.ensembles.build import Experts
    from longtail.medoe.bank import ExpertBank
    from longtail.medoe.experts import LabelSets
    from longtail.medoe.model import Medoe
    from longtail.segmentation.encoder_decoder import EncoderDecoder, Expert

#: Ensembles of the paper's Table 6 and the plain average: read after the method's own unless others are given.
TABLE_6: dict[str, Spec] = {
    "mean": "average",
    "argmax": "argmax",
    "softmax_threshold": "softmax_threshold",
    "group_average": "group_average",
}


@dataclass(frozen=True)
class MedoeConfig(SegmentationMethodConfig, ExpertLossOptions):
    """MEDOE; with an ensemble without parameters, its experts (MED) alone.

    Args:
        overlap: how the experts' label sets follow from the groups: nested (Eq. 1: each expert its group and all rarer
            ones), disjoint_tail (the first all classes, the others their own group) or fully_disjoint (every expert its
            own group)
        label_sets: the label sets themselves, as lists of class ids, instead of overlap
        initialise: weights of experts 2 … K: copy (those of the first) or reset (random)
        ensemble: how the experts' outputs become the prediction: learned (MOE), average, argmax, softmax_threshold,
            group_average, nested_chain …, or such as {name: learned, bias: shared}
        comparisons: other ensembles to evaluate, by name, or a list of names; those of Table 6 and the nested chain when
            not given
        restrict_oracle: whether the oracle's softmax runs over the expert's label set alone

    Source: MEDOE §3.
    """

    overlap: Overlap = "nested"
    label_sets: list[list[int]] | None = None
    initialise: Initialise = "copy"
    ensemble: Spec = "learned"
    comparisons: Mapping[str, Spec] | list[str] | None = None
    restrict_oracle: bool = False

    #: Name of the method's own prediction.
    readout: ClassVar[str] = "medoe"

    def __post_init__(self) -> None:
        ExpertLossOptions.__post_init__(self)

    def build(
        self, model: "EncoderDecoder", frequency: ClassFrequency, groups: CategoryGroups, ignore_index: int
    ) -> "Medoe":
        """MEDOE around the model."""
        import torch

        from longtail.ensembles.build import build_ensemble, check_reading
        from longtail.medoe.model import Medoe

        sets, experts = self._sets(groups), self.experts(groups, frequency, ignore_index)
        bank = self._bank(model.expert, sets.num_experts)
        chosen = self._default_comparisons() if self.comparisons is None else self.comparisons
        specs = chosen if isinstance(chosen, Mapping) else {name: name for name in chosen}
        ensemble = build_ensemble(self.ensemble, experts)
        comparisons = {name: build_ensemble(spec, experts) for name, spec in specs.items()}
        blank = torch.zeros(sets.num_experts, 1, sets.num_classes, 1, 1)
        check_reading({self.readout: ensemble, **comparisons}, blank, sets.num_classes)
        return Medoe(
            model,
            bank,
            sets,
            experts.share,
            ensemble,
            loss=ExpertLossOptions(**{f.name: getattr(self, f.name) for f in fields(ExpertLossOptions)}),
            comparisons=comparisons,
            restrict_oracle=self.restrict_oracle,
            name=self.readout,
            ignore_index=ignore_index,
        )

    def experts(self, groups: CategoryGroups, frequency: ClassFrequency, ignore_index: int) -> "Experts":
        """Label sets and shares of the experts."""
        import torch

        from longtail.ensembles.build import Experts

        sets = self._sets(groups)
        return Experts(
            num_experts=sets.num_experts,
            num_classes=sets.num_classes,
            groups=groups,
            label_sets=sets.masks,
            own_classes=sets.dominated,
            share=torch.from_numpy(frequency.share("pixels")).float(),
            frequency=frequency,
        )

    def _sets(self, groups: CategoryGroups) -> "LabelSets":
        from longtail.medoe.experts import LabelSets

        if self.label_sets is None:
            return LabelSets.from_groups(groups, self.overlap)
        return LabelSets.explicit(self.label_sets, groups.num_classes)

    def _default_comparisons(self) -> dict[str, Spec]:
        """Table 6, and the nested chain where the label sets are nested."""
        nested = self.overlap == "nested" and self.label_sets is None and self.ensemble != "nested_chain"
        return {**TABLE_6, **({"nested_chain": "nested_chain"} if nested else {})}

    def _bank(self, expert: "Expert", num_experts: int) -> "ExpertBank":
        from longtail.medoe.bank import ExpertDecoders

        return ExpertDecoders(expert, num_experts, self.initialise)
