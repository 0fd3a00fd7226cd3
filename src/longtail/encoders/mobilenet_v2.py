"""MobileNetV2 under torchvision's parameter names."""

from torch import Tensor, nn

from longtail.encoders.base import Encoder
from longtail.errors import ConfigError
from longtail.shapes import Images

#: Index of the last block of each stride, in torchvision's ``features``.
_STAGES = (1, 3, 6, 13, 17)


class MobileNetV2(Encoder):
    """torchvision's MobileNetV2 as a feature pyramid, without its last 1x1 convolution (320 -> 1280 channels).

    Any file with torchvision's parameter names (``features.0.0.weight`` …) fits.

    Args:
        output_stride: 8, 16 or 32. Below 32 the strides of the deepest stages become dilations; the first block of
            such a stage keeps the dilation of the stage before ("contract" dilation, as timm and mmsegmentation do).
        width: Width multiplier.
        frozen_stages: Number of stages, from the input, whose parameters take no gradient and whose batch norm keeps
            its statistics.

    Source: Sandler et al., "MobileNetV2", Table 2.
    """

    unused_weights = ("features.18.",)

    def __init__(self, output_stride: int = 32, width: float = 1.0, frozen_stages: int = 0) -> None:
        super().__init__()
        if output_stride not in (8, 16, 32):
            raise ConfigError(f"output_stride {output_stride} of MobileNetV2", fix="choose 8, 16 or 32")
        from torchvision.models import mobilenet_v2  # takes seconds

        self.features = mobilenet_v2(weights=None, width_mult=width).features[: _STAGES[-1] + 1]
        _dilate(self.features, output_stride)
        self.channels = tuple(_out_channels(self.features[index]) for index in _STAGES)
        self.reductions = tuple(min(2 ** (i + 1), output_stride) for i in range(len(_STAGES)))
        self._frozen_blocks = _STAGES[frozen_stages - 1] + 1 if frozen_stages else 0
        self.features[: self._frozen_blocks].requires_grad_(False)

    def train(self, mode: bool = True) -> "MobileNetV2":
        """Set the mode; frozen stages stay in evaluation mode."""
        super().train(mode)
        self.features[: self._frozen_blocks].eval()
        return self

    def forward(self, image: Images) -> list[Tensor]:
        """Feature maps at strides 2, 4, 8, 16, 32 (the deeper ones at ``output_stride``)."""
        maps = []
        for index, block in enumerate(self.features):
            image = block(image)
            if index in _STAGES:
                maps.append(image)
        return maps

    def load_published(self) -> None:
        """See ``Encoder``; torchvision's second ImageNet weights."""
        from torchvision.models import MobileNet_V2_Weights

        state = MobileNet_V2_Weights.IMAGENET1K_V2.get_state_dict(progress=False)
        self.load_state_dict({k: v for k, v in state.items() if k in self.state_dict()})


def _dilate(features: nn.Sequential, output_stride: int) -> None:
    from torchvision.models.mobilenetv2 import InvertedResidual

    stride, dilation = 2, 1
    for block in features:
        if not isinstance(block, InvertedResidual):
            continue
        depthwise = next(m for m in block.modules() if isinstance(m, nn.Conv2d) and m.groups > 1)
        before = dilation
        if depthwise.stride[0] == 2:
            if stride == output_stride:
                depthwise.stride = (1, 1)
                dilation *= 2
            else:
                stride *= 2
        depthwise.dilation = depthwise.padding = (before, before)


def _out_channels(block: nn.Module) -> int:
    return [m for m in block.modules() if isinstance(m, nn.Conv2d)][-1].out_channels
