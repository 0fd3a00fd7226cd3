"""transformers: its semantic segmentation models, split at their last convolution."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from longtail.encoders import PRETRAINED, read_state_dict
from longtail.encoders.mit import quiet_transformers
from longtail.encoders.weights import published_weights
from longtail.errors import CheckpointError, ConfigError, MissingDependencyError
from longtail.segmentation.encoder_decoder import EncoderDecoder, Features
from longtail.segmentation.models.folding import convolve_projected, convolve_resized
from longtail.segmentation.models.resampling import resize
from longtail.shapes import Images

_HEADS = ("decode_head", "segmentation_head")


def build_transformers(
    num_classes: int,
    *,
    architecture: str = "segformer",
    config: str | None = None,
    weights: str | Path | None = None,
    **fields: Any,
) -> EncoderDecoder:
    """Any semantic segmentation model of transformers with a per-pixel classifier.

    Args:
        num_classes: Number of classes C.
        architecture: transformers' model type: ``segformer``, ``upernet``, ``beit``, ``data2vec-vision``, ``dpt``,
            ``mobilevit``, ``mobilevitv2``, ``mobilenet_v2`` …
        config: A folder or hub id whose ``config.json`` to start from, instead of ``architecture``'s defaults.
        weights: Of the whole model but its classifier: None, a local file or folder, or ``"pretrained"`` for those of
            ``config``. Mind their licences: NVIDIA's SegFormer weights are for non-commercial use only.
        fields: Fields of the model's configuration (``depths=[…]``, ``backbone_config={…}``).

    Raises:
        ConfigError: No such architecture, or it cannot be built so.
        CheckpointError: The weights cannot be had, or do not fit.
        MissingDependencyError: transformers is not installed.
    """
    library = _library()
    settings = _settings(library, architecture, config, dict(fields), num_classes)
    automatic = library.AutoModelForSemanticSegmentation
    if weights is None:
        return split_transformers(_construct(automatic, settings))
    if weights == PRETRAINED:
        if config is None:
            raise ConfigError("weights='pretrained' without a config", fix="name the hub's model: config='org/name'")
        with published_weights(config):
            model, report = _load(automatic, config, settings)
    else:
        path = Path(weights)
        state = read_state_dict(path / "model.safetensors" if path.is_dir() else path)
        model, report = _load(type(_construct(automatic, settings)), None, settings, state_dict=state)
    _check(report, str(weights if config is None else config))
    return split_transformers(model)


def resolve_config(options: Mapping[str, Any], num_classes: int) -> dict[str, Any]:
    """Options that build the same model without the hub: the fields of ``config`` written out.

    Args:
        options: Options of ``build_transformers``.
        num_classes: Number of classes C.
    """
    fields = dict(options)
    config, architecture = fields.pop("config", None), fields.pop("architecture", "segformer")
    if config is None:
        return dict(options)
    plain = _settings(_library(), architecture, config, fields, num_classes).to_diff_dict()
    dropped = ("architectures", "transformers_version", "model_type", "id2label", "label2id", "num_labels", "dtype")
    return {"architecture": plain["model_type"], **{k: v for k, v in plain.items() if k not in dropped}}


def split_transformers(model: nn.Module) -> EncoderDecoder:
    """Encoder, decoder and classifier of a transformers model; the model itself stays usable and shares its parameters.

    Args:
        model: Any ``…ForSemanticSegmentation``; an auxiliary head is taken over with its weight.

    Raises:
        ConfigError: The model classifies masks and not pixels, or its parts are not where they are expected.
    """
    parts: dict[str, Any] = dict(model.named_children())
    config: Any = model.config
    name = type(model).__name__
    if getattr(config, "model_type", "") in ("mask2former", "maskformer", "oneformer"):
        raise ConfigError(
            f"{name} has no decoder that experts can be made of: its decoder predicts a set of masks with one class each, "
            "trained by matching them with regions, and pixels have no logits that an expert's loss could be taken of",
            fix="make its layers experts: longtail.wrap_detector (--model.name transformers:… of `train detection`, on masks "
            "of objects); for MEDOE choose a …ForSemanticSegmentation model: segformer, upernet, beit, dpt, …",
        )
    if "ForSemanticSegmentation" not in name:
        raise ConfigError(
            f"{name} has no per-pixel classifier that experts could share out (it classifies masks, or whole images)",
            fix="use a …ForSemanticSegmentation model: segformer, upernet, beit, data2vec-vision, dpt, mobilevit, …",
        )
    if "neck" in parts and "head" in parts:
        return _split_dpt(model, parts, config)
    head_name = next((n for n in _HEADS if n in parts), None)
    if head_name is None or "classifier" not in dict(parts[head_name].named_children()):
        raise ConfigError(
            f"{name} keeps its classifier where longtail does not look",
            fix="pass the parts: EncoderDecoder(encoder, decoder, head, num_classes=...)",
        )
    decoder, classifier = _without_classifier(parts[head_name])
    auxiliary = parts.get("auxiliary_head")
    return EncoderDecoder(
        _encoder(model, parts, head_name),
        decoder,
        classifier,
        num_classes=config.num_labels,
        auxiliary_head=auxiliary,
        auxiliary_weight=getattr(config, "auxiliary_loss_weight", 0.4),
        size_divisor=_patch_size(config),
    )


def _encoder(model: nn.Module, parts: Mapping[str, Any], head_name: str) -> nn.Module:
    if "fpn" in parts or "fpn1" in parts:
        return _PlainTransformer(model, parts)
    if "backbone" in parts:
        return _Backbone(parts["backbone"])
    return _Headless(model, head_name)


def _split_dpt(model: nn.Module, parts: Mapping[str, Any], config: Any) -> EncoderDecoder:
    layers = dict(parts["head"].named_children()).get("head")
    if not isinstance(layers, nn.Sequential) or not isinstance(layers[-2], nn.Conv2d):
        raise ConfigError(
            f"{type(model).__name__} keeps its classifier where longtail does not look",
            fix="pass the parts: EncoderDecoder(encoder, decoder, head, num_classes=...)",
        )
    index = config.head_in_index
    return EncoderDecoder(
        _TokenEncoder(model, config.patch_size),
        _TokenDecoder(parts["neck"], layers[:-2], index, parts.get("auxiliary_head")),
        layers[-2],
        num_classes=config.num_labels,
        auxiliary_weight=getattr(config, "auxiliary_loss_weight", 0.4),
        align_corners=True,
        size_divisor=2 * config.patch_size,  # its coarsest level halves the token grid and doubles it again
    )


def _without_classifier(head: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The head as a decoder, and its bare classifier."""
    classifier = head._modules["classifier"]
    convs = [m for m in classifier.modules() if isinstance(m, nn.Conv2d)] if classifier is not None else []
    layers = [m for m in classifier.modules() if not list(m.children())] if classifier is not None else []
    bare = convs[0] if len(convs) == len(layers) == 1 else classifier
    assert bare is not None
    return _decoder_kind(head)(_replace(head, classifier=nn.Identity())), bare


def _decoder_kind(head: Any) -> type["_Decoder"]:
    """Heads that convolve upsampled maps have a cheaper form, with the library's own modules."""
    name = type(head).__name__
    if name == "SegformerDecodeHead" and getattr(head.config, "reshape_last_stage", True):
        return _SegformerDecoder
    return _UperDecoder if name in ("UperNetHead", "BeitUperHead", "Data2VecVisionUperHead") else _Decoder


def _replace(module: nn.Module, **children: nn.Module | None) -> nn.Module:
    """The same module, parameters shared, with other children."""
    twin = copy.copy(module)
    twin._modules = {**module._modules, **children}
    return twin


def _patch_size(config: Any) -> int:
    """Divisor of the sides of an image: the patch of a plain vision transformer, else 1."""
    backbone = getattr(config, "backbone_config", None) or config
    plain = (
        hasattr(backbone, "patch_size") and not hasattr(backbone, "depths") and hasattr(backbone, "num_hidden_layers")
    )
    if not plain or hasattr(backbone, "neck_hidden_sizes"):  # MobileViT cuts its maps, not the image, into patches
        return 1
    patch = backbone.patch_size
    return int(patch if isinstance(patch, int) else max(patch))


class _PassThrough(nn.Module):
    """Replaces a head: returns the head's input."""

    def forward(self, features: Any) -> Any:
        return features


class _Headless(nn.Module):
    """A model whose head returns its input, so that the library computes everything before the head."""

    def __init__(self, model: nn.Module, head_name: str) -> None:
        super().__init__()
        self.model = _replace(model, **{head_name: _PassThrough()})

    def forward(self, image: Images) -> list[Tensor]:
        features = self.model(image).logits
        return [features] if isinstance(features, Tensor) else list(features)


class _Decoder(nn.Module):
    """A head without its classifier; heads that read one map are given that map."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: Features) -> Tensor:
        return self.head(features[0] if len(features) == 1 else features)


class _SegformerDecoder(_Decoder):
    """SegFormer's head: each map meets its linear layer and its part of the fusion at its own resolution."""

    def forward(self, features: Features) -> Float[Tensor, "n channels h w"]:
        head: Any = self.head
        layers = [mlp.proj for mlp in head.linear_projections]
        weights = head.linear_fuse.weight.chunk(len(layers), dim=1)[::-1]  # the library concatenates deepest first
        fused = convolve_projected(features, layers, weights, features[0].shape[-2:])
        return head.dropout(head.activation(head.batch_norm(fused)))


class _UperDecoder(_Decoder):
    """UPerNet's head: the pooled cells and the deeper levels meet the 3x3 fusions at their own resolution."""

    def forward(self, features: Features) -> Float[Tensor, "n channels h w"]:
        head: Any = self.head
        bottleneck = head.bottleneck if hasattr(head, "bottleneck") else head.psp_bottleneck
        pooled = [conv(pool(features[-1])) for pool, conv in (block.children() for block in head.psp_modules.blocks)]
        laterals = [layer(m) for layer, m in zip(head.lateral_convs, features[:-1], strict=True)]
        levels = [_fuse(bottleneck, [features[-1], *pooled])]
        for lateral in laterals[::-1]:
            levels.insert(0, lateral + resize(levels[0], lateral.shape[-2:]))
        refined = [layer(level) for layer, level in zip(head.fpn_convs, levels[:-1], strict=True)]
        return _fuse(head.fpn_bottleneck, [*refined, levels[-1]])


def _fuse(layer: nn.Module, maps: Features) -> Tensor:
    """Convolution, norm and activation of maps brought to the size of the first."""
    parts: list[Any] = list(layer.children())
    conv, norm, activation = parts
    weights = conv.weight.split([m.shape[1] for m in maps], dim=1)
    return activation(norm(convolve_resized(maps, weights, maps[0].shape[-2:], conv.bias)))


class _Backbone(nn.Module):
    """A backbone of transformers or timm, its maps as a list."""

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, image: Images) -> list[Tensor]:
        return list(self.backbone(image).feature_maps)


class _PlainTransformer(nn.Module):
    """BEiT or Data2Vec with the layers that make a pyramid of its maps, for images of any size."""

    def __init__(self, model: Any, parts: Mapping[str, Any]) -> None:
        super().__init__()
        self.body = parts[model.base_model_prefix]
        self.pyramid = parts["fpn"] if "fpn" in parts else nn.ModuleList(parts[f"fpn{i}"] for i in range(1, 5))
        self.indices = tuple(model.config.out_indices)
        self.patch, self.size = model.config.patch_size, model.config.image_size

    def forward(self, image: Images) -> list[Tensor]:
        height, width = image.shape[-2:]
        size = (self.size, self.size) if isinstance(self.size, int) else tuple(self.size)
        states = self.body(
            image, output_hidden_states=True, interpolate_pos_encoding=(height, width) != size
        ).hidden_states
        grid = (height // self.patch, width // self.patch)
        # Indices count the patch embedding as 1; the first token stands for the whole image.
        maps = [states[i - 1][:, 1:].transpose(1, 2).unflatten(2, grid) for i in self.indices]
        if isinstance(self.pyramid, nn.ModuleList):
            return [layer(m) for layer, m in zip(self.pyramid, maps, strict=True)]
        return list(self.pyramid(tuple(maps)))


class _TokenEncoder(nn.Module):
    """DPT up to its neck: the tokens of each level, then an empty map that has the shape of the patch grid."""

    def __init__(self, model: nn.Module, patch: int) -> None:
        super().__init__()
        self.model = _replace(model, neck=_Neck(), head=_PassThrough(), auxiliary_head=None)
        self.patch = patch

    def forward(self, image: Images) -> list[Tensor]:
        height, width = image.shape[-2:]
        grid = image.new_empty(image.shape[0], 0, height // self.patch, width // self.patch)
        return [*self.model(image).logits, grid]


class _Neck(nn.Module):
    """Replaces DPT's neck: returns the neck's input."""

    def forward(self, hidden_states: Any, patch_height: int | None = None, patch_width: int | None = None) -> Any:
        return hidden_states


class _TokenDecoder(nn.Module):
    """DPT's neck and the layers before its classifier; while training, also its auxiliary head."""

    def __init__(self, neck: nn.Module, refine: nn.Module, index: int, auxiliary: nn.Module | None) -> None:
        super().__init__()
        self.neck, self.refine, self.index, self.auxiliary = neck, refine, index, auxiliary

    def forward(self, features: Features) -> tuple[Tensor, tuple[Tensor, ...]]:
        *tokens, grid = features
        maps = self.neck(list(tokens), *grid.shape[-2:])
        auxiliary = (self.auxiliary(maps[-1]),) if self.auxiliary is not None and self.training else ()
        return self.refine(maps[self.index]), auxiliary


def _library() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise MissingDependencyError(
            "transformers is not installed", fix="pip install 'longtail[transformers]'"
        ) from error
    return transformers


def _settings(library: Any, architecture: str, config: str | None, fields: dict[str, Any], num_classes: int) -> Any:
    fields = {**fields, "num_labels": num_classes}
    if config is not None:
        with published_weights(config):
            return library.AutoConfig.from_pretrained(config, **fields)
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES as known

    if architecture not in known:
        raise ConfigError(
            f"transformers has no semantic segmentation model {architecture!r} with a per-pixel classifier",
            fix=f"choose one of {', '.join(known)}",
        )
    try:
        return library.AutoConfig.for_model(architecture, **fields)
    except (TypeError, ValueError, KeyError) as error:
        raise ConfigError(
            f"{architecture} cannot have the configuration {fields}: {error}",
            fix="see the fields of its configuration class in transformers' documentation",
        ) from error


def _construct(automatic: Any, settings: Any) -> nn.Module:
    try:
        return automatic.from_config(settings)
    except (TypeError, ValueError, KeyError) as error:
        raise ConfigError(
            f"transformers cannot build {settings.model_type}: {error}", fix="check its configuration"
        ) from error


def _load(kind: Any, source: str | None, settings: Any, **options: Any) -> tuple[nn.Module, dict[str, Any]]:
    with quiet_transformers():
        return kind.from_pretrained(
            source, config=settings, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )


def _check(report: Mapping[str, Any], source: str) -> None:
    """Allow only a classifier to be missing or of another shape, as in fine-tuning."""
    names = [k if isinstance(k, str) else k[0] for k in (*report["missing_keys"], *report["mismatched_keys"])]
    wrong = sorted(n for n in names if "classifier" not in n and not _is_last_layer(n))
    if wrong:
        raise CheckpointError(
            f"{source} does not fit the model: {len(wrong)} parameters missing or of another shape "
            f"({', '.join(wrong[:4])} …)",
            fix="give weights of exactly this architecture and configuration",
        )


def _is_last_layer(name: str) -> bool:
    """Whether it is DPT's classifier, which has a number for a name."""
    return name.startswith(("head.head.4.", "auxiliary_head.head.4."))
