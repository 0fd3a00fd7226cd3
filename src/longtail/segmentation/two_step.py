"""A segmentor whose classifier is trained anew on finished features: decoupled training, for pixels."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from longtail.ensembles.base import Ensemble
from longtail.losses.base import ClassificationLoss
from longtail.losses.positions import check_labels
from longtail.pixels import loss_of_upsampled
from longtail.segmentation.baseline import Baseline
from longtail.segmentation.classifier import fit_classifier
from longtail.segmentation.encoder_decoder import EncoderDecoder, decode


class TwoStep(Baseline):
    """The baseline, and after it a second head that alone is trained while everything else stands still.

    Phase ``train`` is the baseline's; phase ``classifier`` begins with a copy of its head. Unless a phase is started
    (a saved model is used as it is), predictions are the second head's.

    Args:
        model: See ``Baseline``.
        loss: Loss of the first phase.
        head: The second head; it is given what its loss wants.
        second: Loss of the second head, which says how its logits are read.
        ignore_index: Target value of pixels without a label.
        further: See ``Baseline``; they read the second head.
        reset: Begin the second phase with the head's own weights, not with those of the first.

    Source: Decoupling (Kang 2020) §4, cRT; with ``balanced_group_softmax``, BAGS (Li 2020); PEERS part 2 §4.
    """

    phases = ("train", "classifier")

    def __init__(
        self,
        model: EncoderDecoder,
        loss: ClassificationLoss,
        head: nn.Module,
        second: ClassificationLoss,
        ignore_index: int = 255,
        further: Mapping[str, Ensemble] | None = None,
        reset: bool = False,
    ) -> None:
        super().__init__(model, loss, ignore_index, further)
        self.second_head = fit_classifier(head, model.num_classes, second)
        self.second_loss = second
        self.reset = reset
        self._in_second = True
        # what the caller had frozen stays frozen
        self._trained_first = {n for n, p in self.named_parameters() if p.requires_grad and not _is_second(n)}

    @property
    def current_loss(self) -> ClassificationLoss:
        """That of the head in use."""
        return self.second_loss if self._in_second else self.loss

    def start_phase(self, phase: str) -> None:
        super().start_phase(phase)
        self._in_second = phase == "classifier"
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(_is_second(name) if self._in_second else name in self._trained_first)
        if self._in_second and not self.reset:
            self._take_over()
        self.train(self.training)

    @torch.no_grad()
    def _take_over(self) -> None:
        """The first head's weights, except where the second loss wants other logits."""
        old, new = self.model.expert.head.state_dict(), self.second_head.state_dict()
        self.second_head.load_state_dict(
            {k: old[k] if k in old and old[k].shape == new[k].shape else new[k] for k in new}
        )

    def train(self, mode: bool = True) -> "TwoStep":
        super().train(mode)
        if self.phase == "classifier":
            self.model.eval()
        return self

    def losses(
        self, image: Float[Tensor, "n bands h w"], target: Integer[Tensor, "n h w"]
    ) -> dict[str, Float[Tensor, ""]]:
        if not self._in_second:
            return super().losses(image, target)
        check_labels(target, self.num_classes, self.ignore_index)
        with torch.no_grad():
            decoded = self._decoded(image)
        return {"class": loss_of_upsampled(self.second_loss, self.second_head(decoded), target, self.upsampling(image))}

    def low_logits(self, image: Float[Tensor, "n bands H W"]) -> Float[Tensor, "n logits h w"]:
        if not self._in_second:
            return super().low_logits(image)
        return self.second_head(self._decoded(image))

    def _decoded(self, image: Tensor) -> Tensor:
        """What both heads read."""
        return decode(self.model.expert.decoder, self.model.encode(image))[0]


def _is_second(name: str) -> bool:
    return name.startswith(("second_head.", "second_loss."))
