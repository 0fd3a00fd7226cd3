"""The K experts as one module: features in, one output per expert out."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator
from operator import attrgetter
from typing import TypeVar, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from longtail.errors import ConfigError
from longtail.medoe.options import Gradient, Initialise
from longtail.segmentation.encoder_decoder import Expert, ExpertOutput, Features, decode
from longtail.settings import one_of

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class ExpertBank(nn.Module, ABC):
    """K experts on one set of features. Only the first one passes gradients on to what they share."""

    num_experts: int
    #: Modules of the first expert.
    first: tuple[str, ...]

    @abstractmethod
    def outputs(self, features: Features, begin: int = 0) -> Iterator[ExpertOutput]:
        """Outputs of the experts from index ``begin`` on, in order, each when it is asked for."""

    @abstractmethod
    def origin(self, name: str) -> str | None:
        """Name of a tensor in the single ``Expert`` that it begins with; None where it begins with random values."""

    def forward(self, features: Features) -> list[ExpertOutput]:
        """Output of every expert, in order."""
        return list(self.outputs(features))

    def logits(self, features: Features) -> Float[Tensor, "experts n classes h w"]:
        """Logits of every expert; what each one decoded is let go before the next begins."""
        return torch.stack(list(map(attrgetter("logits"), self.outputs(features))))


class ExpertDecoders(ExpertBank):
    """MED: every expert has its own context module and classifier.

    Experts 2 … K work on detached features, so the encoder is trained by the head expert alone.

    Args:
        expert: The decoder and head to have K of.
        num_experts: K.
        initialise: ``copy`` starts all from the given weights, keeping a recipe's or a trained model's own;
            ``reset`` draws new weights for experts 2 … K.

    Source: MEDOE Eq. 2 and §3.1 ("only the head expert updates the parameters of the backbone").
    """

    def __init__(self, expert: Expert, num_experts: int, initialise: Initialise = "copy") -> None:
        super().__init__()
        self.num_experts = num_experts
        self.initialise = initialise
        self.first = ("experts.0",)
        self.experts = nn.ModuleList([expert, *copies(expert, num_experts - 1, initialise)])

    def outputs(self, features: Features, begin: int = 0) -> Iterator[ExpertOutput]:
        detached = [f.detach() for f in features]
        for index in range(begin, self.num_experts):
            yield self.experts[index](detached if index else features)

    def origin(self, name: str) -> str | None:
        _, index, inside = name.split(".", 2)
        return inside if index == "0" or self.initialise == "copy" else None


class SharedDecoderHeads(ExpertBank):
    """MCN of Table 5: one encoder and one context module, K classifiers.

    Args:
        expert: The decoder, and the head to have K of.
        num_experts: K.
        initialise: As for ``ExpertDecoders``.
        gradient: Which classifiers train the shared decoder and encoder. The paper does not say; ``first`` keeps MED's
            rule.

    Source: MEDOE Table 5 and §A.2.
    """

    def __init__(
        self,
        expert: Expert,
        num_experts: int,
        initialise: Initialise = "copy",
        gradient: Gradient = "first",
    ) -> None:
        super().__init__()
        self.num_experts = num_experts
        self.initialise = initialise
        self.first = ("decoder", "heads.0")
        self.gradient: Gradient = one_of("gradient", gradient, get_args(Gradient))
        self.decoder = expert.decoder
        self.heads = nn.ModuleList([expert.head, *copies(expert.head, num_experts - 1, initialise)])

    def outputs(self, features: Features, begin: int = 0) -> Iterator[ExpertOutput]:
        decoded, auxiliary = decode(self.decoder, features)
        others: Tensor = decoded.detach() if self.gradient == "first" else decoded
        if begin == 0:
            yield ExpertOutput(self.heads[0](decoded), decoded, auxiliary)
        for head in self.heads[max(begin, 1) :]:
            yield ExpertOutput(head(others), decoded)

    def origin(self, name: str) -> str | None:
        if name.startswith("decoder."):
            return name
        _, index, inside = name.split(".", 2)
        return f"head.{inside}" if index == "0" or self.initialise == "copy" else None


def copies(module: ModuleT, count: int, initialise: Initialise) -> list[ModuleT]:
    """Independent copies of a module, with its weights or new ones."""
    one_of("initialise", initialise, get_args(Initialise))
    result = [copy.deepcopy(module) for _ in range(count)]
    if initialise == "reset":
        for part in (p for m in result for p in m.modules()):
            if callable(reset := getattr(part, "reset_parameters", None)):
                reset()
            elif any(True for _ in part.parameters(recurse=False)):
                raise ConfigError(f"{type(part).__name__} has no reset_parameters()", fix='use initialise="copy"')
    return result
