"""ME of Table 5: independent networks whose outputs are averaged."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from longtail.ensembles.average import Average
from longtail.segmentation.encoder_decoder import Features
from longtail.segmentation.method import ExpertMaps, Readout, SegmentationMethod, read_probabilities
from longtail.shapes import ClassMaps, Images, LabelMaps, Losses


class ModelEnsemble(SegmentationMethod):
    """Independently trained segmentors, their probabilities averaged.

    Train them here side by side (each is minimised by itself: no gradient crosses), or pass trained ones.

    Args:
        members: Segmentation methods of one expert each, such as ``Baseline``, whose logits are read alike.

    Source: MEDOE Table 5 and §A.2.
    """

    def __init__(self, members: Sequence[SegmentationMethod]) -> None:
        super().__init__(members[0].num_classes, members[0].ignore_index)
        self.members = nn.ModuleList(members)
        self._methods = tuple(members)  # the same objects, with their type
        self.ensemble = Average(activation=members[0].probabilities)

    @property
    def num_logits(self) -> int:
        """The members'."""
        return self._methods[0].num_logits

    def probabilities(self, logits: Float[Tensor, "n logits h w"]) -> ClassMaps:
        """The members' reading of the logits."""
        return self._methods[0].probabilities(logits)

    def own_probabilities(self, logits: Float[Tensor, "experts n logits h w"]) -> ClassMaps:
        return self.ensemble(logits)

    def sources(self, name: str) -> tuple[str, ...]:
        """A tensor in a single baseline, with which every member begins."""
        words = name.split(".", 2)
        return (words[2],) if words[0] == "members" else ()

    def losses(self, image: Images | Features, target: LabelMaps) -> Losses:
        return {
            f"model_{index + 1}.{term}": value
            for index, member in enumerate(self._methods)
            for term, value in member.losses(image, target).items()
        }

    def expert_maps(self, image: Images) -> ExpertMaps:
        return ExpertMaps(torch.cat([member.expert_maps(image).logits for member in self._methods]))

    def readouts(self) -> dict[str, Readout]:
        def of_member(index: int) -> Readout:
            return read_probabilities(lambda logits, _: self.probabilities(logits[index]))

        readouts = {"model_ensemble": read_probabilities(lambda logits, _: self.own_probabilities(logits))}
        return readouts | {f"expert_{i + 1}": of_member(i) for i in range(len(self.members))}

    def forward(self, image: Images) -> ClassMaps:
        return self.own_probabilities(self.expert_maps(image).logits)
