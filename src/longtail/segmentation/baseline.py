"""The plain segmentor: the baseline of every table."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from longtail.ensembles.base import Ensemble, named
from longtail.losses.base import ClassificationLoss
from longtail.losses.cross_entropy import CrossEntropy
from longtail.losses.label_space import LabelSpace
from longtail.losses.positions import check_labels
from longtail.phases import CLASSIFIER_PHASE
from longtail.pixels import (
    Upsampling,
    ensemble_labels,
    loss_of_upsampled,
    map_labels,
    upsampled_cross_entropy,
    upsampled_labels,
)
from longtail.segmentation.classifier import fit_classifier
from longtail.segmentation.encoder_decoder import EncoderDecoder, Features
from longtail.segmentation.method import ExpertMaps, Readout, SegmentationMethod, read_ensemble, read_probabilities
from longtail.shapes import ClassMaps, ExpertLogits, Images, LabelMaps, Losses


class Baseline(SegmentationMethod):
    """One encoder, one decoder, one loss; the recipe's auxiliary heads included, which have cross-entropy.

    Args:
        model: Any encoder-decoder; its classifier is given the outputs and the bias that the loss wants.
        loss: Loss of the main head; cross-entropy over the labelled pixels where None.
        ignore_index: Target value of pixels without a label.
        comparisons: Other ways to read the logits, by name: ensembles of this one expert, such as a calibration.
    """

    def __init__(
        self,
        model: EncoderDecoder,
        loss: ClassificationLoss | None = None,
        ignore_index: int = 255,
        comparisons: Mapping[str, Ensemble] | None = None,
    ) -> None:
        super().__init__(model.num_classes, ignore_index)
        self.model = model
        self.loss = loss or CrossEntropy(LabelSpace(model.num_classes, ignore_index=ignore_index))
        model.expert.head = fit_classifier(model.expert.head, model.num_classes, self.loss)
        self.comparisons = named(comparisons, taken=["baseline"])
        self.reading: Ensemble | None = None

    def freezable(self) -> dict[str, tuple[str, ...]]:
        auxiliary = () if self.model.auxiliary_head is None else ("model.auxiliary_head",)
        return {"encoder": ("model.encoder", *auxiliary)}

    def sources(self, name: str) -> tuple[str, ...]:
        """A tensor in the plain network, and in the first expert of MEDOE or MCN."""
        inside = name.removeprefix("model.")
        part = inside.removeprefix("expert.")
        experts = (f"experts.experts.0.{part}", f"experts.{part}", f"experts.heads.0.{part.removeprefix('head.')}")
        return (inside, *(experts if part != inside else ()))

    def classifiers(self) -> dict[str, str]:
        return {"model.expert.head": "model.expert.head"}

    def train(self, mode: bool = True) -> "Baseline":
        super().train(mode)
        if self.phase == CLASSIFIER_PHASE:
            self.model.eval()
            self.model.expert.head.train(mode)
        return self

    @property
    def num_logits(self) -> int:
        """The loss's."""
        return self.loss.num_logits

    def probabilities(self, logits: Float[Tensor, "n logits h w"]) -> ClassMaps:
        """The loss's reading of the logits."""
        return self.loss.probabilities(logits)

    def low_logits(self, image: Float[Tensor, "n bands H W"]) -> Float[Tensor, "n logits h w"]:
        """Logits at the head's own resolution."""
        return self.model.expert(self.model.encode(image)).logits

    def upsampling(self, image: Tensor) -> Upsampling:
        """From there to the size of an image or target."""
        return Upsampling((image.shape[-2], image.shape[-1]), self.model.size_divisor, self.model.align_corners)

    def logits(self, image: Images) -> Float[Tensor, "n logits h w"]:
        """Logits at the image's size."""
        return self.upsampling(image)(self.low_logits(image))

    @property
    def _softmax(self) -> bool:
        """Whether logits are read by a softmax, which keeps their order."""
        return type(self.loss).probabilities is ClassificationLoss.probabilities

    def scores(self, image: Images) -> ClassMaps:
        logits = self.logits(image)
        if self.reading is not None:
            return self.reading.scores(logits.unsqueeze(0))
        return logits if self._softmax else self.probabilities(logits)

    @torch.no_grad()
    def labels(self, image: Images) -> LabelMaps:
        low, upsampling = self.low_logits(image), self.upsampling(image)
        if self.reading is not None:
            return ensemble_labels(self.reading, low.unsqueeze(0), upsampling)
        if self._softmax:
            return map_labels(low, upsampling)
        return upsampled_labels(self.probabilities, low, upsampling)

    def losses(self, image: Images | Features, target: LabelMaps) -> Losses:
        check_labels(target, self.num_classes, self.ignore_index)
        model = self.model
        features = self.features(image)
        output = model.expert(features)
        auxiliary = list(output.auxiliary)
        if model.auxiliary_head is not None and "model.auxiliary_head" not in self.frozen:
            auxiliary.append(model.auxiliary_head(features))
        if self.phase == CLASSIFIER_PHASE:
            auxiliary = []
        name = "ce" if isinstance(self.loss, CrossEntropy) else "class"
        upsampling = self.upsampling(target)
        terms = {name: loss_of_upsampled(self.loss, output.logits, target, upsampling)}
        for index, logits in enumerate(auxiliary):
            value = upsampled_cross_entropy(logits, target, upsampling, ignore_index=self.ignore_index)
            terms[f"auxiliary_{index + 1}"] = model.auxiliary_weight * value
        return terms

    def features(self, image: Images | Features) -> Features:
        return self.encode(self.model.encoder, image, self.model.size_divisor)

    def first_logits(self, features: Features) -> Tensor:
        return self.model.expert(features).logits

    def expert_maps(self, image: Images) -> ExpertMaps:
        return ExpertMaps(self.logits(image).unsqueeze(0))

    def low_maps(self, image: Images) -> tuple[ExpertLogits, Upsampling]:
        return self.low_logits(image).unsqueeze(0), self.upsampling(image)

    def read_with(self, ensemble: Ensemble) -> None:
        self.reading = ensemble

    def own_probabilities(self, logits: ExpertLogits) -> ClassMaps:
        return self.probabilities(logits[0]) if self.reading is None else self.reading(logits)

    def readouts(self) -> dict[str, Readout]:
        own = read_probabilities(lambda logits, _: self.own_probabilities(logits))
        return {"baseline": own} | {name: read_ensemble(ensemble) for name, ensemble in self.comparisons.items()}  # type: ignore[arg-type]

    def forward(self, image: Images) -> ClassMaps:
        return self.own_probabilities(self.logits(image).unsqueeze(0))
