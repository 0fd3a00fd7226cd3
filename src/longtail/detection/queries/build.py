"""Query detectors from plain settings: a model type, a folder or a name of the Hub."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longtail.components import Spec, split
from longtail.detection.config import PostprocessConfig
from longtail.detection.queries import wrap_detector
from longtail.detection.queries.backbone import own_backbone, replace_backbone
from longtail.detection.queries.detector import QueryDetector
from longtail.detection.queries.known import FAMILIES
from longtail.encoders import PRETRAINED, read_state_dict
from longtail.encoders.mit import quiet_transformers
from longtail.encoders.weights import published_weights
from longtail.errors import CheckpointError, ConfigError, MissingDependencyError
from longtail.settings import from_dict, nearest, to_dict

#: Fields of a configuration that say nothing of the network.
_NO_FIELDS = ("architectures", "transformers_version", "model_type", "id2label", "label2id", "num_labels", "dtype")
#: Fields that configurations read without keeping them.
_OLDER_FIELDS = ("backbone", "backbone_kwargs", "use_timm_backbone", "use_pretrained_backbone", "dilation")
#: Arguments of ``build_query_detector`` that are no fields.
_OURS = ("postprocess", "image_size", "separate_classifiers")
#: Parameters that depend on the classes, by parts of their names: they may be new.
_OF_CLASSES = ("class_embed", "class_labels_classifier", "class_predictor", "enc_score_head", "empty_weight")


def build_query_detector(
    source: str,
    num_classes: int,
    *,
    weights: str | Path | None = None,
    backbone: Spec | None = None,
    postprocess: Mapping[str, Any] | None = None,
    image_size: tuple[int, int] | list[int] | None = None,
    separate_classifiers: bool = False,
    **fields: Any,
) -> QueryDetector:
    """A detector of transformers by name.

    Args:
        source: Model type (``rt_detr``, ``deformable_detr`` …) for its default configuration, or a folder with a
            ``config.json``, or a name of the Hub.
        num_classes: Number of classes C.
        weights: Of the whole detector but its classifiers: None, a local file, a folder or a name of the Hub, or
            ``"pretrained"`` for those of ``source``.
        backbone: Name of another image network, see ``detection.backbones.pyramid.build_extractor``, or with options as
            ``{"name": "resnet50", "weights": FILE, "norm": "frozen"}``; None for the configuration's.
        postprocess: Fields of ``PostprocessConfig`` that differ from the library's reading.
        image_size: See ``wrap_detector``.
        separate_classifiers: See ``wrap_detector``.
        fields: Fields of the configuration (``num_queries=100``, ``decoder_layers=3``).

    Raises:
        ConfigError: There is no such detector, or it has no such configuration.
        CheckpointError: The weights cannot be had, or do not fit.
        MissingDependencyError: transformers or scipy is not installed.
    """
    library = _library()
    settings, own = _settings(library, source, num_classes, fields, backbone)
    architecture = getattr(library, FAMILIES[settings.model_type][0])
    model = _construct(architecture, settings) if weights is None else _load(architecture, settings, source, weights)
    if own is not None:
        replace_backbone(model, own)
    detector = wrap_detector(
        model,
        image_size=None if image_size is None else (int(image_size[0]), int(image_size[1])),
        separate_classifiers=separate_classifiers,
    )
    if postprocess:
        changed = from_dict(PostprocessConfig, {**to_dict(detector.postprocess), **postprocess})
        detector.set_postprocess(changed)
    return detector


def source_settings(
    source: str,
    num_classes: int,
    options: Mapping[str, Any],
    weights: str | None = None,
    backbone: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Settings that build a detector, and build it again without the folder or the Hub.

    Args:
        source: See ``build_query_detector``.
        num_classes: Number of classes C.
        options: Its other arguments.
        weights: Of the whole detector.
        backbone: Name and options of another backbone; None for the configuration's.
    """
    given: dict[str, Any] = {} if weights is None else {"weights": weights}
    given |= {} if backbone is None else {"backbone": backbone}
    if source in FAMILIES:
        return {"name": f"transformers:{source}", **given, **options}
    ours = {name: value for name, value in options.items() if name in _OURS}
    fields = {name: value for name, value in options.items() if name not in _OURS}
    plain = _settings(_library(), source, num_classes, fields, None)[0].to_diff_dict()
    kept = {name: value for name, value in plain.items() if name not in _NO_FIELDS}
    if given.get("weights") == PRETRAINED:
        given["weights"] = source  # by name it would be the model type's
    return {"name": f"transformers:{plain['model_type']}", **given, **kept, **ours}


def _settings(
    library: Any,
    source: str,
    num_classes: int,
    fields: Mapping[str, Any],
    backbone: Spec | None,
) -> tuple[Any, Any]:
    """The configuration, and another backbone or None."""
    stored = None if source in FAMILIES else _stored(library, source)
    kind = source if stored is None else stored["model_type"]
    if kind not in FAMILIES:
        raise ConfigError(
            f"{source} is a {kind} model, no detector that longtail can wrap",
            fix=f"{nearest(str(kind), list(FAMILIES))}choose one of {', '.join(FAMILIES)}",
        )
    chosen = {**(stored or {}), **_with_layer_losses(kind), **fields, "num_labels": num_classes}
    for name in ("model_type", "id2label", "label2id"):
        chosen.pop(name, None)
    own = None
    if backbone is not None:
        name, options = split(backbone)
        own, place = own_backbone(kind, chosen, name, **options)
        chosen |= place
    try:
        settings = library.AutoConfig.for_model(kind, **chosen)
    except Exception as error:  # its checks raise errors of several kinds
        raise ConfigError(
            f"{kind} cannot have the configuration {dict(fields)}: {str(error).strip().splitlines()[-1]}",
            fix="see the fields of its configuration class in transformers' documentation",
        ) from error
    known = {*type(settings)().to_dict(), *type(settings).attribute_map, *_OLDER_FIELDS}
    if unknown := sorted(set(fields) - known):
        raise ConfigError(
            f"{kind} has no setting {unknown[0]!r}", fix=f"{nearest(unknown[0], sorted(known))}see its documentation"
        )
    return settings, own


def _stored(library: Any, source: str) -> dict[str, Any]:
    """The configuration of a folder or of the Hub, as plain values."""
    if Path(source).is_dir() and not (Path(source) / "config.json").is_file():
        raise ConfigError(f"{source} has no config.json", fix="give a folder of save_pretrained")
    if not Path(source).is_dir() and "/" not in source:
        raise ConfigError(
            f"there is no detector transformers:{source}",
            fix=f"{nearest(source, list(FAMILIES))}choose one of {', '.join(FAMILIES)}, a folder with a config.json, or "
            "a name of the Hub such as owner/name",
        )
    with published_weights(source):
        return library.AutoConfig.from_pretrained(source).to_dict()


def _with_layer_losses(kind: str) -> dict[str, Any]:
    """Losses of all layers, without which there are no stages."""
    return {"use_auxiliary_loss" if "former" in kind else "auxiliary_loss": True}


def _construct(architecture: Any, settings: Any) -> Any:
    try:
        return architecture(settings)
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        raise ConfigError(
            f"transformers cannot build {settings.model_type}: {error}", fix="check the fields of its configuration"
        ) from error


def _load(architecture: Any, settings: Any, source: str, weights: str | Path) -> Any:
    """The model with weights; parameters that depend on the classes may be missing, as in fine-tuning."""
    options: dict[str, Any] = {"config": settings, "output_loading_info": True, "ignore_mismatched_sizes": True}
    if weights == PRETRAINED and source in FAMILIES:
        raise ConfigError(
            f"weights='pretrained' of transformers:{source}, which is a type of models",
            fix="name the model: transformers:FOLDER or transformers:owner/name",
        )
    origin = source if weights == PRETRAINED else str(weights)
    with quiet_transformers():
        if Path(origin).is_file():
            model, report = architecture.from_pretrained(None, state_dict=read_state_dict(origin), **options)
        else:
            with published_weights(origin):
                model, report = architecture.from_pretrained(origin, **options)
    names = [k if isinstance(k, str) else k[0] for k in (*report["missing_keys"], *report["mismatched_keys"])]
    wrong = sorted(name for name in names if not any(part in name for part in _OF_CLASSES))
    if wrong:
        raise CheckpointError(
            f"{origin} does not fit the detector: {len(wrong)} parameters missing "
            f"or of another shape ({', '.join(wrong[:4])} …)",
            fix="give weights of exactly this architecture and configuration",
        )
    return model


def _library() -> Any:
    try:
        import scipy  # noqa: F401 - transformers' matching needs it
        import transformers
    except ImportError as error:
        raise MissingDependencyError(
            f"{error.name} is not installed", fix="pip install 'longtail[transformers]'"
        ) from error
    return transformers
