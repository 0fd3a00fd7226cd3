"""Label spaces of made-up counts."""

import numpy as np

from longtail.frequency import ClassFrequency
from longtail.losses.label_space import LabelSpace


def counted(num_classes: int, **counts) -> ClassFrequency | None:
    """Counts such as ``images=[1, 2]``; None where there are none."""
    if not counts:
        return None
    number = counts.pop("num_images", 0)
    arrays = {unit: np.array(values) for unit, values in counts.items()}
    images = arrays.pop("images", np.ones(num_classes, dtype=np.int64))
    return ClassFrequency(tuple(f"class {c}" for c in range(num_classes)), images, num_images=number, **arrays)


def boxes(num_classes: int, **counts) -> LabelSpace:
    """Labels of boxes: so many classes and the background."""
    return LabelSpace(num_classes + 1, True, -100, counted(num_classes, **counts))


def pixels(num_classes: int, **counts) -> LabelSpace:
    """Labels of pixels."""
    return LabelSpace(num_classes, frequency=counted(num_classes, **counts))
