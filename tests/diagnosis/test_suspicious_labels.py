"""Labels that all models agree against, by hand."""

import numpy as np
import pytest

from longtail.diagnosis.suspicious_labels import suspicion_rows, suspicious_objects, suspicious_regions
from longtail.errors import ConfigError
from metrics.test_detection_errors import found, truth_of

BOX, FAR = (0.0, 0.0, 10.0, 10.0), (100.0, 100.0, 10.0, 10.0)
TRUTH = truth_of([(1, 0, BOX, 0), (1, 1, FAR, 0)], classes=3, images=2)


def test_an_object_that_both_call_the_same_other_class():
    models = [found([(1, 1, 0.9, BOX), (1, 0, 0.2, BOX)]), found([(1, 1, 0.6, BOX), (1, 2, 0.55, BOX)])]
    (only,) = suspicious_objects(TRUTH, models, rare={0})
    assert (only.annotation, only.label, only.suggested, only.confidence) == (1, 0, 1, 0.6)
    (row,) = suspicion_rows([only], ("a", "b", "c"), {1: "1.jpg"})
    assert (row["file"], row["label"], row["suggested"], row["right"]) == ("1.jpg", "a", "b", 10.0)


@pytest.mark.parametrize(
    "second",
    [
        [(1, 2, 0.9, BOX)],  # calls it yet another class
        [(1, 0, 0.9, BOX)],  # agrees with the label
        [(1, 1, 0.4, BOX)],  # is not sure
        [(1, 1, 0.9, FAR)],  # looks elsewhere
        [(1, 1, 0.9, BOX), (1, 0, 0.95, BOX)],  # is surer of the label
    ],
)
def test_no_agreement_no_doubt(second):
    assert not suspicious_objects(TRUTH, [found([(1, 1, 0.9, BOX)]), found(second)], rare={0})


def test_frequent_classes_are_left_alone_and_missing_objects_are_found():
    models = [found([(1, 1, 0.9, BOX), (2, 2, 0.8, FAR)]), found([(1, 1, 0.9, BOX), (2, 2, 0.7, (101, 100, 10, 10))])]
    assert not suspicious_objects(TRUTH, models, rare={1})
    (missing,) = suspicious_objects(TRUTH, models, rare={2})
    assert (missing.image, missing.label, missing.suggested, missing.confidence) == (2, None, 2, 0.7)
    federated = truth_of([(1, 0, BOX, 0)], classes=3, images=2, neg_category_ids=[], not_exhaustive_category_ids=[])
    assert not suspicious_objects(federated, models, rare={2})


def test_regions_by_hand():
    truth = np.zeros((20, 20), dtype=np.uint8)
    truth[:10, :10] = 1
    first = np.where(truth == 1, 2, truth)
    second = first.copy()
    second[0, :10] = 1  # 10 of 100 pixels: they agree on 90
    (only,) = suspicious_regions(truth, [first, second], {1}, "a")
    assert (only.label, only.suggested, only.confidence, only.box) == (1, 2, 0.9, (0, 0, 10, 10))
    second[1, 0] = 1
    assert not list(suspicious_regions(truth, [first, second], {1}, "a"))
    assert not list(suspicious_regions(truth, [first, first], {0}, "a"))


def test_one_model_is_refused():
    with pytest.raises(ConfigError, match="one model alone"):
        suspicious_objects(TRUTH, [found([(1, 1, 0.9, BOX)])], rare={0})
