import pytest

from longtail.detection.method import DetectionMethod
from longtail.errors import ConfigError
from longtail.phases import PhasedMethod
from longtail.segmentation.method import SegmentationMethod


class TwoPhases(PhasedMethod):
    phases = ("first", "second")


def test_a_method_begins_with_its_first_phase_and_knows_no_others():
    method = TwoPhases()
    assert method.phase == "first"
    method.start_phase("second")
    assert method.phase == "second"
    with pytest.raises(ConfigError, match="TwoPhases has no training phase 'third'"):
        method.start_phase("third")
    assert issubclass(SegmentationMethod, PhasedMethod) and issubclass(DetectionMethod, PhasedMethod)
