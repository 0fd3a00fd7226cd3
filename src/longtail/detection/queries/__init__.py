"""Query detectors (DETR and its descendants) of transformers: their decoder layers as stages.

Importing this package imports no model library.
"""

from typing import TYPE_CHECKING, Any

from longtail.detection.config import PostprocessConfig
from longtail.errors import ConfigError

if TYPE_CHECKING:
    from longtail.detection.queries.detector import QueryDetector


def wrap_detector(
    model: Any,
    *,
    postprocess: PostprocessConfig | None = None,
    image_size: tuple[int, int] | None = None,
    separate_classifiers: bool = False,
) -> "QueryDetector":
    """Make a detector of transformers one of stages; its outputs, losses and matching stay the same.

    ``make_multi_expert`` then makes its decoder layers experts.

    Args:
        model: RT-DETR (v1, v2), D-FINE, Deformable DETR, DETR, Conditional DETR, Mask2Former or MaskFormer of
            transformers, with losses of all layers. It is taken over, not copied.
        postprocess: Thresholds; None for the library's own reading: the best pairs of query and class, without
            suppression.
        image_size: (height, width) to which every image is stretched, as RT-DETR and D-FINE are trained; None: images
            keep their shape.
        separate_classifiers: Give every layer a copy of a classifier that all layers share (DETR, Conditional DETR,
            Mask2Former, MaskFormer), so that every expert has its own.

    Raises:
        ConfigError: The model is of another family, or lacks what stages need.
    """
    from longtail.detection.queries.detector import QueryDetector
    from longtail.detection.queries.known import FAMILIES

    kind = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
    if kind not in FAMILIES or not hasattr(type(model), "loss_function"):
        raise ConfigError(
            f"{type(model).__name__} is no detector that longtail can wrap",
            fix=f"give a detector of transformers ({', '.join(FAMILIES)}); torchvision's: `as_cascade`; your own: four "
            "members make it a MultiStageDetector (examples/wrap_your_detector.py)",
        )
    architecture, family = FAMILIES[kind]
    if type(model).__name__ != architecture:
        raise ConfigError(
            f"{type(model).__name__} has no classifiers of boxes or masks", fix=f"give a {architecture} instead"
        )
    chosen = family(model)
    if separate_classifiers:
        chosen.separate_classifiers()
    return QueryDetector(model, chosen, postprocess=postprocess, image_size=image_size)
