"""The contract of the network under a feature pyramid, and which of its parts are trained."""

from abc import ABC, abstractmethod
from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor, nn

from longtail.errors import ConfigError
from longtail.settings import one_of

#: ``frozen``: statistics and affine weights fixed. ``fixed_statistics``: statistics fixed, weights trained (norm_eval
#: of MMDetection). ``trained``: ordinary batch norm. ``synchronised``: ordinary, over all ranks.
NormMode = Literal["frozen", "fixed_statistics", "trained", "synchronised"]
_NORMS = (nn.modules.batchnorm._BatchNorm,)


class FeatureExtractor(nn.Module, ABC):
    """An image network that gives its feature maps.

    Attributes:
        channels: Channels of every map, finest first.
        strides: Stride of every map in pixels.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]

    @abstractmethod
    def forward(self, image: Float[Tensor, "n bands h w"]) -> list[Tensor]:
        """Feature maps, finest first."""

    @abstractmethod
    def stages(self) -> list[list[nn.Module]]:
        """Modules that lead to every map, from the map before (the first: from the image)."""


def set_norm_mode(network: nn.Module, mode: NormMode) -> None:
    """Prepare the batch norms of a network, in place.

    Raises:
        ConfigError: There is no such mode.
    """
    one_of("norm", mode, get_args(NormMode))
    if mode == "synchronised":
        nn.SyncBatchNorm.convert_sync_batchnorm(network)
    if mode == "frozen":
        for norm in _norms(network):
            norm.requires_grad_(False)


def keep_norms_fixed(network: nn.Module, mode: NormMode) -> None:
    """Put the batch norms whose statistics do not change into evaluation mode; to be called after every ``train``."""
    if mode in ("frozen", "fixed_statistics"):
        for norm in _norms(network):
            norm.eval()


def frozen_modules(extractor: FeatureExtractor, frozen_stages: int) -> list[nn.Module]:
    """Modules of the first stages, without gradient from now on.

    Raises:
        ConfigError: There are not so many stages.
    """
    stages = extractor.stages()
    if not 0 <= frozen_stages <= len(stages):
        raise ConfigError(f"cannot freeze {frozen_stages} of {len(stages)} stages", fix=f"choose 0 … {len(stages)}")
    modules = [module for stage in stages[:frozen_stages] for module in stage]
    for module in modules:
        module.requires_grad_(False)
    return modules


def _norms(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, _NORMS)]
