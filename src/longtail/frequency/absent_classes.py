"""Classes without a single pixel where many pixels have the ignored value: masks of 0 and 255 taken for class ids."""

import numpy as np

from longtail.errors import DataError
from longtail.frequency.counts import ClassFrequency

_PLENTIFUL = 0.01  # share of all pixels


def absent_classes(frequency: ClassFrequency, ignore_index: int, source: object) -> str:
    """A warning of classes without a pixel; empty where every class has some, or hardly a pixel is ignored.

    Args:
        frequency: Counts of the labels.
        ignore_index: The value of pixels without class.
        source: Names the labels.

    Raises:
        DataError: One class alone has pixels, and the ignored value is all else: nothing can be learned or scored.
    """
    pixels, ignored, class_names = frequency.counts("pixels"), frequency.ignored_pixels, frequency.class_names
    absent = [int(c) for c in np.flatnonzero(pixels == 0)]
    if not absent or not ignored:
        return ""
    share = ignored / (ignored + int(pixels.sum()))
    names = ", ".join(repr(class_names[c]) for c in absent[:5]) + (" …" if len(absent) > 5 else "")
    problem = (
        f"no pixel of {source} is {names}, while {ignored} pixels ({share:.2%}) have the ignored value {ignore_index}"
    )
    way = f"label_map {{{ignore_index}: {absent[0]}}} (--data.label_map; --label_map of `score segmentation`)"
    fix = f"if {ignore_index} stands for a class in these masks: {way}"
    if len(absent) == len(class_names) - 1:
        raise DataError(problem, fix=fix)
    return f"{problem}; {fix}" if share >= _PLENTIFUL else ""
