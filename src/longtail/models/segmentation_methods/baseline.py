"""The plain segmentor."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from longtail.components import Spec
from longtail.errors import ConfigError
from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.models.segmentation_methods.base import SegmentationMethodConfig

if TYPE_CHECKING:
    from longtail.ensembles.base import Ensemble
    from longtail.ensembles.build import Experts
    from longtail.losses.base import ClassificationLoss
    from longtail.segmentation.encoder_decoder import EncoderDecoder
    from longtail.segmentation.method import SegmentationMethod


@dataclass(frozen=True)
class BaselineConfig(SegmentationMethodConfig):
    """The plain segmentor with any loss.

    Args:
        loss: loss of the main head, by name or as {name: focal, gamma: 1}; cross-entropy when not given
        normalizer: what cross-entropy's sum is divided by: valid (labelled pixels), all (pixels) or sum (1); without a
            loss of its own
        comparisons: other readings of the logits, by name, such as {adjusted: {name: logit_adjustment, tau: 0.5}}

    Raises:
        ConfigError: A ``normalizer`` and a loss.
    """

    loss: Spec | None = None
    normalizer: Literal["valid", "all", "sum"] = "valid"
    comparisons: Mapping[str, Spec] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loss is not None and self.normalizer != "valid":
            raise ConfigError(
                f"the baseline has normalizer={self.normalizer!r} and a loss",
                fix="give it to the loss: {name: …, normalizer: …}",
            )

    def build(
        self, model: "EncoderDecoder", frequency: ClassFrequency, groups: CategoryGroups, ignore_index: int
    ) -> "SegmentationMethod":
        """The baseline."""
        from longtail.segmentation.baseline import Baseline

        loss = self._loss(frequency, ignore_index)
        experts = self.experts(groups, frequency, ignore_index) if self.comparisons else None
        return Baseline(model, loss, ignore_index, {} if experts is None else self._comparisons(loss, experts))

    def _loss(self, frequency: ClassFrequency, ignore_index: int) -> "ClassificationLoss":
        from longtail.losses.build import build_loss
        from longtail.losses.cross_entropy import CrossEntropy
        from longtail.losses.label_space import LabelSpace

        labels = LabelSpace.of_pixels(frequency, ignore_index)
        return CrossEntropy(labels, normalizer=self.normalizer) if self.loss is None else build_loss(self.loss, labels)

    def _comparisons(self, loss: "ClassificationLoss", experts: "Experts") -> "dict[str, Ensemble]":
        """Other readings of the logits, as ensembles of a single expert."""
        import torch

        from longtail.ensembles.build import build_ensemble, check_reading

        found = {name: build_ensemble(spec, experts) for name, spec in (self.comparisons or {}).items()}
        check_reading(found, torch.zeros(1, 1, loss.num_logits, 1, 1), loss.num_classes)
        return found

    def experts(self, groups: CategoryGroups, frequency: ClassFrequency, ignore_index: int) -> "Experts":
        """A single expert, which knows every class."""
        import torch

        from longtail.ensembles.build import Experts
        from longtail.losses.label_space import LabelSpace

        labels, loss = LabelSpace.of_pixels(frequency, ignore_index), self._loss(frequency, ignore_index)
        everything = torch.ones(1, loss.num_classes, dtype=torch.bool)
        return Experts(
            num_experts=1,
            num_classes=loss.num_classes,
            groups=groups,
            label_sets=everything,
            own_classes=everything,
            share=torch.from_numpy(labels.counted().share("pixels")).float(),
            frequency=labels.frequency,
            activation=loss.probabilities,
            absolute_logits=loss.absolute_logits,
        )
