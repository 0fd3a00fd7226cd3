import weakref

import pytest
import torch
from torch import Tensor, nn

from longtail.medoe.bank import ExpertDecoders, SharedDecoderHeads
from longtail.segmentation.encoder_decoder import Expert

SEEN: list[weakref.ref] = []


class Doubling(nn.Module):
    """A decoder that knows how many of the maps that it made are still held."""

    def forward(self, features: list[Tensor]) -> Tensor:
        decoded = 2 * features[-1]
        SEEN.append(weakref.ref(decoded))
        self.held = sum(each() is not None for each in SEEN)
        return decoded


@pytest.mark.parametrize("kind", [ExpertDecoders, SharedDecoderHeads])
@torch.no_grad()
def test_logits_are_those_of_the_outputs_without_what_was_decoded(kind):
    SEEN.clear()
    bank = kind(Expert(Doubling(), nn.Conv2d(3, 5, 1)), 3, "reset")
    features = [torch.randn(2, 3, 4, 4)]
    logits = bank.logits(features)
    assert all(decoder.held == 1 for decoder in bank.modules() if isinstance(decoder, Doubling))
    assert torch.equal(logits, torch.stack([output.logits for output in bank(features)]))
    assert logits.std() > 0 and not torch.equal(logits[0], logits[1])
