"""segmentation-models-pytorch: every architecture, split at its head's last convolution."""

from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from longtail.encoders import PRETRAINED, load_encoder_weights
from longtail.encoders.weights import published_weights
from longtail.errors import ConfigError, MissingDependencyError
from longtail.segmentation.encoder_decoder import EncoderDecoder, Features
from longtail.segmentation.models.folding import convolve_projected
from longtail.shapes import Images

ARCHITECTURES = (
    *("Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "DeepLabV3", "DeepLabV3Plus", "PAN", "UPerNet"),
    *("Segformer", "DPT"),
)


def build_smp(
    num_classes: int, *, arch: str = "Unet", weights: str | Path | None = None, **options: Any
) -> EncoderDecoder:
    """Any model of segmentation-models-pytorch.

    Args:
        num_classes: Number of classes C.
        arch: One of ``ARCHITECTURES``; upper and lower case are the same.
        weights: Of the encoder: None, a local file, or ``"pretrained"`` for the library's ImageNet weights. Those of
            MiT (SegFormer) encoders are licensed for non-commercial use only.
        options: Arguments of the architecture (``encoder_name``, ``decoder_channels`` …).

    Note:
        The library's ``PSPNet`` reads the encoder at depth 3; pass ``encoder_depth=5, output_stride=8`` for the
        published network, or build ``pspnet``. Its own ResNets dilate the first block of a stage, unlike timm's
        (``encoder_name="tu-resnet50c"``), which the published recipes use.

    Raises:
        ConfigError: No such architecture, or it cannot be built so.
        MissingDependencyError: segmentation-models-pytorch is not installed.
    """
    try:
        import segmentation_models_pytorch as library
    except ImportError as error:
        raise MissingDependencyError(
            "segmentation-models-pytorch is not installed", fix="pip install 'longtail[smp]'"
        ) from error
    name = {a.lower(): a for a in ARCHITECTURES}.get(arch.lower())
    if name is None:
        raise ConfigError(f"smp has no architecture {arch!r}", fix=f"choose one of {', '.join(ARCHITECTURES)}")
    options = {"classes": num_classes, "encoder_weights": None, **options}
    if name == "DPT":
        options = {"dynamic_img_size": True, **options}  # any size, not only the one of pretraining
    if weights == PRETRAINED:
        options["encoder_weights"] = "imagenet"
    with published_weights(f"smp's {options.get('encoder_name', 'encoder')}", wanted=weights == PRETRAINED):
        model = _construct(getattr(library, name), name, options)
    if weights is not None and weights != PRETRAINED:
        encoder = model.encoder
        load_encoder_weights(getattr(encoder, "model", encoder), weights)
    return split_smp(model)


def split_smp(model: nn.Module) -> EncoderDecoder:
    """Encoder, decoder and last convolution of a segmentation-models-pytorch model.

    The head's upsampling becomes the contract's (``align_corners=True``, as the library's); its activation is left out:
    methods need logits. An image classifier (``aux_params``) is left out too.

    Args:
        model: Any of the library's segmentation models.

    Raises:
        ConfigError: It has no encoder, decoder and segmentation head.
    """
    parts: dict[str, Any] = dict(model.named_children())
    encoder, decoder, head = (parts.get(name) for name in ("encoder", "decoder", "segmentation_head"))
    if encoder is None or decoder is None or head is None:
        raise ConfigError(
            f"{type(model).__name__} is no segmentation model of smp", fix=f"wrap one of {', '.join(ARCHITECTURES)}"
        )
    divisor = int(encoder.output_stride)
    if type(model).__name__ == "DPT":
        encoder, decoder, conv = _TokenEncoder(encoder), _TokenDecoder(decoder, head.head[:-1]), head.head[-1]
        divisor *= 2  # its coarsest level halves the token grid and doubles it again
    else:
        conv = head[0]
        if type(decoder).__name__ == "SegformerDecoder":
            decoder = _SegformerDecoder(decoder)
        if not getattr(model, "requires_divisible_input_shape", True):
            divisor = 1
    return EncoderDecoder(
        encoder, decoder, conv, num_classes=conv.out_channels, align_corners=True, size_divisor=divisor
    )


def _construct(architecture: Any, name: str, options: dict[str, Any]) -> Any:
    try:
        return architecture(**options)
    except (TypeError, ValueError, KeyError, AssertionError, NotImplementedError) as error:
        raise ConfigError(
            f"smp cannot build {name} with {options}: {error or type(error).__name__}",
            fix="see the architecture's arguments in smp's documentation",
        ) from error


class _TokenEncoder(nn.Module):
    """DPT's encoder: its maps, then its prefix tokens, in one list."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, image: Images) -> list[Tensor]:
        maps, tokens = self.encoder(image)
        return [*maps, *(t for t in tokens if t is not None)]


class _TokenDecoder(nn.Module):
    """DPT's decoder and the convolution before its classifier, on the list of ``_TokenEncoder``."""

    def __init__(self, decoder: Any, refine: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder
        self.refine = refine
        self.levels = len(decoder.reassemble_blocks)

    def forward(self, features: Features) -> Float[Tensor, "n channels h w"]:
        maps: list[Tensor] = list(features[: self.levels])
        tokens: list[Tensor | None] = list(features[self.levels :]) or [None] * self.levels
        return self.refine(self.decoder(maps, tokens))


class _SegformerDecoder(nn.Module):
    """SegFormer's decoder: each map meets its linear layer and its part of the fusion at its own resolution."""

    def __init__(self, decoder: Any) -> None:
        super().__init__()
        self.mlp_stage, self.fuse_stage = decoder.mlp_stage, decoder.fuse_stage  # the library's modules and names

    def forward(self, features: Features) -> Float[Tensor, "n channels h w"]:
        size = [side // 4 for side in features[0].shape[-2:]]
        layers: list[Any] = [stage.linear for stage in self.mlp_stage]
        maps = features[::-1][: len(layers)]  # deepest first
        conv, *rest = self.fuse_stage
        fused = convolve_projected(maps, layers, conv.weight.chunk(len(layers), dim=1), size)
        for layer in rest:
            fused = layer(fused)
        return fused
