import numpy as np
import pytest

from longtail.errors import DataError
from longtail.frequency import ClassFrequency
from longtail.frequency.absent_classes import absent_classes


def counted(pixels, ignored):
    pixels = np.array(pixels)
    return ClassFrequency(tuple("abc"[: len(pixels)]), pixels > 0, pixels, ignored_pixels=ignored)


def test_nothing_to_say():
    assert absent_classes(counted([5, 1], 100), 255, "x") == ""
    assert absent_classes(counted([5, 0, 3], 0), 255, "x") == ""
    assert absent_classes(counted([900, 0, 95], 5), 255, "x") == ""


def test_an_absent_class_beside_many_ignored_pixels_is_named():
    word = absent_classes(counted([50, 0, 40], 10), 255, "x")
    assert "no pixel of x is 'b', while 10 pixels (10.00%) have the ignored value 255" in word
    assert "label_map {255: 1}" in word


@pytest.mark.parametrize("ignored", [1, 1000])
def test_one_class_alone_is_refused(ignored):
    with pytest.raises(DataError, match=r"no pixel of x is 'b', while .* value 254.*\n.*label_map \{254: 1\}"):
        absent_classes(counted([1000, 0], ignored), 254, "x")
