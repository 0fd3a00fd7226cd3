"""The confusion matrix of a data set and its scores, as mmsegmentation defines them.

Everything is summed over the whole data set before any ratio is taken. A class that is absent from the truth but
predicted somewhere has IoU 0, which counts in the mean, and no accuracy (NaN, left out of the mean); a class that is
absent from both has neither.

Source: mmsegmentation's ``IoUMetric``; MEDOE Eq. 10 and 11.
"""

import numpy as np
import torch
from jaxtyping import Float, Int, Integer, Real
from torch import Tensor

from longtail.errors import DataError

_BYTE = 256
_BLOCK = 2**18  # pixels counted together on a CPU: what stays in its cache


def confusion_matrix(
    prediction: Integer[Tensor, "..."],
    target: Integer[Tensor, "..."],
    num_classes: int,
    ignore_index: int = 255,
) -> Int[Tensor, "classes classes"]:
    """Number of pixels of every (true class, predicted class).

    Positions whose target is ``ignore_index`` count nowhere, whatever was predicted there. Up to 256 classes this is
    one ``bincount`` over byte pairs without a mask: ignored pixels fall into a row that is dropped. ``uint8`` inputs
    are fastest, since they need no range check.

    Args:
        prediction: Class ids 0 … C-1, any shape and integer dtype.
        target: Class ids 0 … C-1 and ``ignore_index``, of the same shape.
        num_classes: Number of classes C.
        ignore_index: Target value of positions without a label; it may lie inside 0 … C-1 to leave that class out.

    Returns:
        int64 (C, C): rows are the truth, columns the prediction.

    Raises:
        DataError: The shapes differ, or a labelled position holds a value that is no class.
    """
    if prediction.shape != target.shape:
        raise DataError(
            f"prediction of shape {tuple(prediction.shape)} for labels of shape {tuple(target.shape)}",
            fix="resize the prediction to the labels' size with nearest-neighbour interpolation",
        )
    table = _count_bytes(prediction, target) if num_classes <= _BYTE else None
    if table is not None:
        return _matrix_of_classes(table, target.numel(), num_classes, ignore_index)
    prediction, target = prediction.long(), target.long()
    labelled = target != ignore_index
    prediction, target = prediction[labelled], target[labelled]
    for name, values in (("target", target), ("prediction", prediction)):
        stray = (values < 0) | (values >= num_classes)
        if stray.any():
            raise out_of_range(name, int(values[stray][0]), num_classes, ignore_index)
    return torch.bincount(target * num_classes + prediction, minlength=num_classes**2).view(num_classes, num_classes)


def _fits_byte(values: Tensor) -> bool:
    if values.dtype == torch.uint8 or values.numel() == 0:
        return True
    if values.dtype not in (torch.int8, torch.int16, torch.int32, torch.int64):
        values = values.long()  # the wider unsigned dtypes have few operations
    if values.dtype == torch.int64 and values.device.type == "cpu":
        # without its sign, a negative value is a large one; numpy takes a third of the time of aminmax
        return bool(values.numpy().view(np.uint64).max() < _BYTE)
    low, high = torch.aminmax(values)
    return bool((low >= 0) & (high < _BYTE))


def _count_bytes(prediction: Tensor, target: Tensor) -> Tensor | None:
    """Number of every pair of byte values, int64 (256, 256); None if a value is no byte."""
    pieces = [(prediction.flatten(), target.flatten())]
    if prediction.numel() > _BLOCK and prediction.device.type == "cpu":
        pieces = list(zip(*(whole.split(_BLOCK) for whole in pieces[0]), strict=True))
    table: Tensor | None = None
    for ours, true in pieces:
        if not (_fits_byte(ours) and _fits_byte(true)):
            return None
        pairs = ours.to(torch.int32, copy=True).add_(true.to(torch.int32), alpha=_BYTE)
        counts = torch.bincount(pairs, minlength=_BYTE**2)
        table = counts if table is None else table.add_(counts)
    assert table is not None
    return table.view(_BYTE, _BYTE)


def _matrix_of_classes(table: Tensor, positions: int, num_classes: int, ignore_index: int) -> Tensor:
    """Class rows and columns; raises if a pixel fell outside them."""
    if 0 <= ignore_index < _BYTE:
        positions -= int(table[ignore_index].sum())
        table[ignore_index] = 0
    matrix = table[:num_classes, :num_classes].clone()  # a view would keep the whole table alive
    if matrix.sum() != positions:
        rows, columns = table.nonzero(as_tuple=True)
        for name, values in (("target", rows), ("prediction", columns)):
            if (values >= num_classes).any():
                raise out_of_range(name, int(values[values >= num_classes][0]), num_classes, ignore_index)
    return matrix


def out_of_range(name: str, value: int, num_classes: int, ignore_index: int) -> DataError:
    """The error for a label that is no class; ``name`` is target or prediction."""
    exception = f" nor ignore_index {ignore_index}" if name == "target" else ""
    return DataError(
        f"{name} holds the value {value}, which is no class 0 … {num_classes - 1}{exception}",
        fix="check num_classes, ignore_index and how class ids are stored (reduce_zero_label shifts them by one)",
    )


def iou_per_class(confusion: Real[Tensor, "classes classes"]) -> Float[Tensor, "classes"]:
    """Intersection over union of every class: ``TP / (TP + FN + FP)``.

    Args:
        confusion: Pixel counts, or any non-negative weights; rows are the truth.

    Returns:
        float64 (C,) on the CPU; NaN for a class in neither truth nor prediction.

    Source: MEDOE Eq. 10.
    """
    counts = confusion.cpu().double()
    hits = counts.diagonal()
    return hits / (counts.sum(1) + counts.sum(0) - hits)


def accuracy_per_class(confusion: Real[Tensor, "classes classes"]) -> Float[Tensor, "classes"]:
    """Accuracy (recall) of every class: ``TP / (TP + FN)``; float64 (C,), NaN for a class absent from the truth.

    Source: MEDOE Eq. 10.
    """
    counts = confusion.cpu().double()
    return counts.diagonal() / counts.sum(1)


def overall_accuracy(confusion: Real[Tensor, "classes classes"]) -> float:
    """Share of the labelled pixels that are right (aAcc); NaN where nothing is labelled."""
    counts = confusion.cpu().double()
    return float(counts.trace() / counts.sum())
