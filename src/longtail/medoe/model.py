"""MEDOE: one shared encoder, K experts, an ensemble of their outputs."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from longtail.ensembles.base import Ensemble, TrainableEnsemble, named
from longtail.errors import ConfigError
from longtail.losses.positions import check_labels
from longtail.medoe.bank import ExpertBank
from longtail.medoe.experts import LabelSets, mask_labels
from longtail.medoe.losses import ExpertLoss, ExpertLossOptions
from longtail.medoe.oracle import oracle_probabilities
from longtail.pixels import Upsampling, ensemble_labels, ensemble_loss, upsampled_cross_entropy
from longtail.segmentation.encoder_decoder import EncoderDecoder, ExpertOutput, Features
from longtail.segmentation.method import ExpertMaps, Readout, SegmentationMethod, read_ensemble, read_probabilities
from longtail.shapes import ClassMaps, ExpertLogits, Images, LabelMaps, Losses

_ENSEMBLES = ("ensemble.", "comparisons.")


class Medoe(SegmentationMethod):
    """Multi-expert decoder (MED), and multi-expert output ensemble (MOE) where the ensemble is trainable.

    Phase ``experts`` trains encoder and experts, all experts jointly; the encoder gets its gradient from the first
    expert alone. Phase ``ensemble`` trains the ensemble on the frozen experts, which stay in evaluation mode. An ensemble
    without parameters has no such phase.

    Args:
        model: Supplies encoder, auxiliary head and geometry; its decoder and head must be those in ``experts``.
        experts: The K experts.
        label_sets: S_i of every expert.
        prior: (C,) share of each class in the training data, F(j).
        ensemble: How the experts' outputs become the prediction.
        loss: How Eq. 3-5 are read.
        comparisons: Other ensembles of the same experts; trainable ones are fitted side by side, in the
            same phase.
        restrict_oracle: Whether the oracle's softmax runs over the expert's label set alone.
        name: Name of the method's own prediction.
        ignore_index: Target value of pixels without a label.

    Source: MEDOE §3.
    """

    def __init__(
        self,
        model: EncoderDecoder,
        experts: ExpertBank,
        label_sets: LabelSets,
        prior: Float[Tensor, " classes"],
        ensemble: Ensemble,
        *,
        loss: ExpertLossOptions | None = None,
        comparisons: Mapping[str, Ensemble] | None = None,
        restrict_oracle: bool = False,
        name: str = "medoe",
        ignore_index: int = 255,
    ) -> None:
        if not experts.num_experts == label_sets.num_experts:
            raise ConfigError(
                f"{experts.num_experts} experts for {label_sets.num_experts} label sets",
                fix="give every expert one set",
            )
        if not model.num_classes == label_sets.num_classes == len(prior):
            raise ConfigError(
                f"the model predicts {model.num_classes} classes, the label sets {label_sets.num_classes}, "
                f"the prior {len(prior)}",
                fix="count and group the classes that the model predicts",
            )
        self.phases = ("experts", "ensemble") if _any_trainable(ensemble, comparisons) else ("experts",)
        super().__init__(model.num_classes, ignore_index)
        self.name = name
        self.encoder = model.encoder
        self.auxiliary_head = model.auxiliary_head
        self.auxiliary_weight = model.auxiliary_weight
        self.align_corners = model.align_corners
        self.size_divisor = model.size_divisor
        self.experts = experts
        self.ensemble = ensemble
        own = [name, "oracle", *(f"expert_{i + 1}" for i in range(experts.num_experts))]
        self.comparisons = named(comparisons, taken=own)
        self.restrict_oracle = restrict_oracle
        self.criteria = nn.ModuleList(
            ExpertLoss(label_set, prior, loss, ignore_index) for label_set in label_sets.masks
        )
        self.register_buffer("label_sets", label_sets.masks, persistent=False)
        self.register_buffer("expert_of", label_sets.expert_of, persistent=False)
        self.label_sets: Tensor
        self.expert_of: Tensor
        self.frozen_parameters = {name for name, p in self.named_parameters() if not p.requires_grad}
        self.start_phase("experts")

    def start_phase(self, phase: str) -> None:
        super().start_phase(phase)
        for name, parameter in self.named_parameters():
            of_ensemble = name.startswith(_ENSEMBLES)
            parameter.requires_grad_(name not in self.frozen_parameters and of_ensemble == (phase == "ensemble"))
        self.train(self.training)

    def train(self, mode: bool = True) -> "Medoe":
        super().train(mode)
        if self.phase == "ensemble":
            for name, child in self.named_children():
                child.train(mode and f"{name}." in _ENSEMBLES)
        return self

    def freezable(self) -> dict[str, tuple[str, ...]]:
        """The encoder, whose auxiliary head then has nothing to train, and the first expert with it."""
        encoder = ("encoder", *(() if self.auxiliary_head is None else ("auxiliary_head",)))
        return {"encoder": encoder, "encoder+expert_1": (*encoder, *(f"experts.{name}" for name in self.experts.first))}

    def sources(self, name: str) -> tuple[str, ...]:
        """A tensor in a baseline and in the plain network: a single decoder becomes every expert."""
        if name.startswith(_ENSEMBLES):
            return ()
        inside = name
        if name.startswith("experts."):
            origin = self.experts.origin(name.removeprefix("experts."))
            if origin is None:
                return ()
            inside = f"expert.{origin}"
        return (f"model.{inside}", inside)

    def own_probabilities(self, logits: Float[Tensor, "experts n logits h w"]) -> ClassMaps:
        return self.ensemble(logits)

    def losses(self, image: Images | Features, target: LabelMaps) -> Losses:
        if self.phase == "ensemble":
            return self._ensemble_losses(image, target)
        features = self.features(image)
        upsampling = self._upsampling(target)
        terms: dict[str, Tensor] = {}
        begin = int(f"experts.{self.experts.first[0]}" in self.frozen)
        for index, output in enumerate(self.experts.outputs(features, begin), start=begin):
            prefix = f"expert_{index + 1}"
            own = self.criteria[index](output.logits, target, upsampling)
            terms |= {f"{prefix}.{term}": value for term, value in own.items()}
            for logits in output.auxiliary:
                terms[f"{prefix}.auxiliary"] = self._auxiliary_loss(logits, target, index, upsampling)
        if self.auxiliary_head is not None and "auxiliary_head" not in self.frozen:
            # the first expert's, as the encoder's gradient is
            terms["auxiliary"] = self._auxiliary_loss(self.auxiliary_head(features), target, 0, upsampling)
        return terms

    def _auxiliary_loss(self, logits: Tensor, target: Tensor, index: int, upsampling: Upsampling) -> Tensor:
        """Cross-entropy of an auxiliary head of expert ``index``."""
        masked = mask_labels(target, self.label_sets[index], self.ignore_index)
        value = upsampled_cross_entropy(logits, masked, upsampling, ignore_index=self.ignore_index)
        return self.auxiliary_weight * value

    @torch.no_grad()
    def _frozen_outputs(self, image: Tensor | Features) -> list[ExpertOutput]:
        return list(self.experts(self.features(image)))

    def _ensemble_losses(self, image: Tensor | Features, target: Tensor) -> dict[str, Tensor]:
        """Losses of the trainable ensembles on the frozen experts; maps are made for ensembles that read features alone."""
        check_labels(target, self.num_classes, self.ignore_index)  # with the experts, their masks do
        outputs, upsampling = self._frozen_outputs(image), self._upsampling(target)
        logits = torch.stack([output.logits for output in outputs])
        terms = {}
        for name, ensemble in self._all_ensembles().items():
            if not isinstance(ensemble, TrainableEnsemble):
                continue
            if ensemble.needs_features:
                maps = self._maps(outputs, upsampling)
                value = ensemble.loss(maps.logits, target, maps.features, ignore_index=self.ignore_index)
            else:
                value = ensemble_loss(ensemble, logits, target, upsampling, ignore_index=self.ignore_index)
            terms[f"ensemble.{name}"] = value
        return terms

    def features(self, image: Images | Features) -> Features:
        return self.encode(self.encoder, image, self.size_divisor)

    def first_logits(self, features: Features) -> Tensor:
        return next(self.experts.outputs(features)).logits

    def expert_maps(self, image: Images) -> ExpertMaps:
        outputs = self.experts(self.features(image))
        return self._maps(outputs, self._upsampling(image))

    def low_maps(self, image: Images) -> tuple[ExpertLogits, Upsampling]:
        """Logits at the heads' own resolution.

        Raises:
            ConfigError: An ensemble reads features as well.
        """
        if any(ensemble.needs_features for ensemble in self._all_ensembles().values()):
            raise ConfigError("an ensemble reads features, which are not recorded", fix="choose other ensembles")
        return self.experts.logits(self.features(image)), self._upsampling(image)

    def read_with(self, ensemble: Ensemble) -> None:
        self.ensemble = ensemble

    def _maps(self, outputs: Sequence[ExpertOutput], upsampling: Upsampling) -> ExpertMaps:
        logits = torch.stack([upsampling(output.logits) for output in outputs])
        wanted = any(e.needs_features for e in self._all_ensembles().values())
        features = torch.stack([output.decoded for output in outputs]) if wanted else None
        return ExpertMaps(logits, features)

    def forward(self, image: Images) -> ClassMaps:
        return self.ensemble(*self.expert_maps(image))

    def scores(self, image: Images) -> ClassMaps:
        return self.ensemble.scores(*self.expert_maps(image))

    @torch.no_grad()
    def labels(self, image: Images) -> LabelMaps:
        if self.ensemble.needs_features:
            return super().labels(image)
        logits = self.experts.logits(self.features(image))
        return ensemble_labels(self.ensemble, logits, self._upsampling(image))

    def readouts(self) -> dict[str, Readout]:
        def by_oracle(logits: Tensor, target: Tensor | None) -> Tensor:
            if target is None:
                raise ConfigError("the oracle reads the true labels", fix="evaluate it; it cannot predict")
            sets = self.label_sets if self.restrict_oracle else None
            return oracle_probabilities(
                logits, target, self.expert_of, restrict_to=sets, ignore_index=self.ignore_index
            )

        def by_expert(index: int) -> Readout:
            return read_probabilities(lambda logits, _: logits[index])

        readouts = {self.name: read_ensemble(self.ensemble), "oracle": read_probabilities(by_oracle)}
        readouts |= {f"expert_{i + 1}": by_expert(i) for i in range(len(self.criteria))}
        return readouts | {
            name: read_ensemble(ensemble) for name, ensemble in self._all_ensembles().items() if name != self.name
        }

    def _all_ensembles(self) -> dict[str, Ensemble]:
        return {self.name: self.ensemble, **self.comparisons}  # type: ignore[dict-item]

    def _upsampling(self, image: Tensor) -> Upsampling:
        return Upsampling((image.shape[-2], image.shape[-1]), self.size_divisor, self.align_corners)


def _any_trainable(ensemble: Ensemble, comparisons: Mapping[str, Ensemble] | None) -> bool:
    return any(isinstance(e, TrainableEnsemble) for e in (ensemble, *(comparisons or {}).values()))
