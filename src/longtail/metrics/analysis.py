"""Analyses of a confusion matrix from MEDOE: uniform test sets, correlations, pixels that groups lose to each other."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Integer, Real
from torch import Tensor

from longtail.errors import ConfigError
from longtail.frequency import CategoryGroups
from longtail.metrics.segmentation import accuracy_per_class


def uniform_confusion(confusion: Real[Tensor, "classes classes"]) -> Float[Tensor, "classes classes"]:
    """Confusion matrix that a uniformly distributed test set would give in expectation: every row sums to 1.

    ``A_ji = C_ji / num_j``; then ``IoU_i = A_ii / (1 + Σ_{j≠i} A_ji)`` through ``iou_per_class``, while the
    accuracies stay what they are. Rows of classes absent from the truth stay 0.

    Source: MEDOE §4.1 and Table 4; SPEC §2.10.
    """
    counts = confusion.cpu().double()
    return counts / counts.sum(1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson correlation over the classes where both values are defined; NaN below two of them or without spread.

    Args:
        x: (C,) for example the share of the training pixels.
        y: (C,) for example the accuracy; NaN where undefined.

    Source: MEDOE §A.6 and Table 10.
    """
    both = np.isfinite(x) & np.isfinite(y)
    if both.sum() < 2:
        return float("nan")
    x, y = x[both] - x[both].mean(), y[both] - y[both].mean()
    norm = np.linalg.norm(x) * np.linalg.norm(y)
    return float(np.clip(x @ y / norm, -1.0, 1.0)) if norm > 0 else float("nan")


def group_confusion(
    confusion: Real[Tensor, "classes classes"], groups: CategoryGroups
) -> Real[Tensor, "groups groups"]:
    """Wrong pixels from each true group to each predicted group; the diagonal holds errors within a group.

    The entry (h, t) is both FN_ht and FP_ht of MEDOE §A.7: head pixels predicted as a tail class.
    """
    _check_groups(confusion, groups)
    wrong = confusion.cpu() - torch.diag(confusion.cpu().diagonal())
    membership = torch.from_numpy(groups.masks).to(torch.float64)
    return (membership @ wrong.double() @ membership.T).to(wrong.dtype)


def errors_by_group(confusion: Integer[Tensor, "classes classes"], groups: CategoryGroups) -> dict[str, Any]:
    """False positives and negatives by group, and where they go.

    Returns:
        ``groups``: group -> pixels, FP, FN, and ``FN_from_mAcc``, the approximation ``(1 - mAcc_g) Σ num_i`` of
        Eq. 14 (it is exact where accuracy and size are uncorrelated within the group; null for a group without truth);
        ``mass``: true group -> predicted group -> wrong pixels.

    Source: MEDOE §A.7, Eq. 12 and 14.
    """
    mass = group_confusion(confusion, groups)
    pixels, accuracy = confusion.cpu().sum(1), accuracy_per_class(confusion)
    by_group = {}
    for index, (name, members) in enumerate(zip(groups.names, groups.members, strict=True)):
        own = list(members)
        approximate = float((1 - accuracy[own].nanmean()) * pixels[own].sum())
        by_group[name] = {
            "pixels": int(pixels[own].sum()),
            "FP": int(mass[:, index].sum()),
            "FN": int(mass[index].sum()),
            "FN_from_mAcc": None if np.isnan(approximate) else approximate,
        }
    return {
        "groups": by_group,
        "mass": {
            name: dict(zip(groups.names, row, strict=True))
            for name, row in zip(groups.names, mass.tolist(), strict=True)
        },
    }


def zero_one_bias(confusion: Real[Tensor, "classes classes"]) -> Float[Tensor, "classes"]:
    """0-1 bias of every class, ``1 - Acc_j``: printed next to the squared-error bias (SPEC §2.11)."""
    return 1 - accuracy_per_class(confusion)


def top_confusions(confusion: Integer[Tensor, "classes classes"], limit: int) -> list[list[int]]:
    """The largest confusions as [true class, predicted class, pixels, pixels of the true class].

    They are ranked by their share of the true class's pixels, so that confusions of rare classes are among them.

    Args:
        confusion: Pixel counts, rows the truth.
        limit: How many to give at most.
    """
    share = uniform_confusion(confusion)
    share.fill_diagonal_(0)
    order = share.flatten().argsort(descending=True, stable=True)[:limit].tolist()
    counts = confusion.cpu()
    total = counts.sum(1)
    pairs = [divmod(index, len(counts)) for index in order]
    return [
        [truth, called, int(counts[truth, called]), int(total[truth])]
        for truth, called in pairs
        if share[truth, called]
    ]


def _check_groups(confusion: Tensor, groups: CategoryGroups) -> None:
    if groups.num_classes != len(confusion):
        raise ConfigError(
            f"groups of {groups.num_classes} classes for a confusion matrix of {len(confusion)}",
            fix="make the groups from the classes that were evaluated",
        )
