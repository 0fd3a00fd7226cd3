"""The ``Prediction`` record of a segmentation: all scores over all classes, by group and by class."""

from typing import Any

from jaxtyping import Float, Integer
from torch import Tensor

from longtail.errors import DataError
from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.metrics import analysis
from longtail.metrics.group_means import group_means, mean
from longtail.metrics.results import Prediction, without_nan
from longtail.metrics.segmentation import accuracy_per_class, iou_per_class, overall_accuracy

#: Beyond this many classes the matrix itself stays out of ``results.json``; the largest confusions are always there.
MAX_CONFUSION_CLASSES = 255
_TOP_CONFUSIONS = 60


def segmentation_prediction(
    confusion: Integer[Tensor, "classes classes"],
    groups: CategoryGroups,
    frequency: ClassFrequency | None = None,
    *,
    bias: Float[Tensor, "classes"] | None = None,
) -> Prediction:
    """All scores of one way to predict, as ``results.json`` holds them.

    Args:
        confusion: Confusion matrix of the data set, rows the truth.
        groups: Partition of the C classes.
        frequency: Counts of the *training* split, in the order of the matrix's classes, for the correlation with
            accuracy.
        bias: Squared-error bias of every class (``ClassBias``), where probabilities were evaluated.

    Returns:
        ``overall`` mIoU, mAcc, aAcc; the two means of every group; IoU, Acc (and bias) of every class; ``extra`` with
        ``uniform``, ``pearson``, ``fp_fn_by_group``, ``top_confusions`` and, up to 255 classes, ``confusion``.
    """
    per_class = {"IoU": iou_per_class(confusion), "Acc": accuracy_per_class(confusion)}
    if bias is not None:
        per_class["bias"] = bias.cpu().double()
        per_class["bias_01"] = analysis.zero_one_bias(confusion)
    overall = _overall(per_class) | {"aAcc": overall_accuracy(confusion)}
    extra: dict[str, Any] = {
        "uniform": _uniform(confusion, groups),
        "fp_fn_by_group": analysis.errors_by_group(confusion, groups),
        "top_confusions": analysis.top_confusions(confusion, _TOP_CONFUSIONS),
    }
    if frequency is not None and frequency.pixels is not None:
        extra["pearson"] = _pearson(frequency, per_class)
    if len(confusion) <= MAX_CONFUSION_CLASSES:
        extra["confusion"] = confusion.tolist()
    scores = {"overall": overall, "groups": _by_group(per_class, groups), "per_class": _listed(per_class)}
    return Prediction(**without_nan(scores), extra=without_nan(extra))


def add_class_metric(prediction: Prediction, name: str, values: Tensor, groups: CategoryGroups) -> None:
    """Add a metric of the classes to the scores of a segmentation, and its means."""
    scores = {"overall": _overall({name: values}), "groups": _by_group({name: values}, groups)}
    scores = without_nan({**scores, "per_class": _listed({name: values})})
    prediction.overall |= scores["overall"]
    prediction.per_class |= scores["per_class"]
    for group, of in scores["groups"].items():
        prediction.groups[group] |= of


def _uniform(confusion: Tensor, groups: CategoryGroups) -> dict[str, Any]:
    weights = analysis.uniform_confusion(confusion)
    per_class = {"IoU": iou_per_class(weights), "Acc": accuracy_per_class(weights)}
    return {
        "method": "analytic",
        "overall": _overall(per_class) | {"aAcc": overall_accuracy(weights)},
        "groups": _by_group(per_class, groups),
        "per_class": _listed(per_class),
    }


def _pearson(frequency: ClassFrequency, per_class: dict[str, Tensor]) -> dict[str, float]:
    if frequency.num_classes != len(per_class["Acc"]):
        raise DataError(
            f"the frequency counts {frequency.num_classes} classes, {len(per_class['Acc'])} were evaluated",
            fix="give the counts of the training split of the same data set",
        )
    share = frequency.share("pixels")
    return {name: analysis.pearson(share, per_class[name].numpy()) for name in ("Acc", "IoU")}


def _by_group(per_class: dict[str, Tensor], groups: CategoryGroups) -> dict[str, dict[str, float]]:
    means = {_MEAN_OF.get(name, name): group_means(values.numpy(), groups) for name, values in per_class.items()}
    return {group: {name: value[group] for name, value in means.items()} for group in groups.names}


_MEAN_OF = {"IoU": "mIoU", "Acc": "mAcc", "boundary_IoU": "boundary_mIoU"}


def _overall(per_class: dict[str, Tensor]) -> dict[str, float]:
    return {_MEAN_OF.get(name, name): mean(values.numpy()) for name, values in per_class.items()}


def _listed(per_class: dict[str, Tensor]) -> dict[str, list[float]]:
    return {name: values.tolist() for name, values in per_class.items()}
