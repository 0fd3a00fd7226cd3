from pathlib import Path

import numpy as np
import pytest

from longtail import samplers
from longtail.errors import ConfigError
from longtail.samplers.build import SAMPLERS, build_sampler
from longtail.samplers.repeat_factor import RepeatFactor
from longtail.samplers.shuffled import Shuffled

LABELS = [np.array([0]), np.array([0, 1]), np.array([0]), np.zeros(0, int)]
BOXES = {"num_images": lambda: 4, "image_labels": lambda: LABELS}


def test_the_folder_is_the_list():
    files = {path.stem for path in Path(samplers.__file__).parent.glob("*.py")}
    assert set(SAMPLERS.names()) == files - {"__init__", "base", "build"}


def test_data_are_read_for_those_alone_that_ask():
    facts = {**BOXES, "image_labels": lambda: pytest.fail("shuffling needs no labels")}
    assert sorted(build_sampler("shuffled", facts).epoch_indices(0).tolist()) == [0, 1, 2, 3]


def test_options_and_own_samplers():
    built = build_sampler({"name": "repeat_factor", "threshold": 0.5}, BOXES)
    assert isinstance(built, RepeatFactor) and built.threshold == 0.5
    assert isinstance(build_sampler("longtail.samplers.shuffled.Shuffled", BOXES), Shuffled)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("repeat", "did you mean 'repeat_factor'"),
        ({"name": "repeat_factor", "temperature": 1}, "temperature is an option of rare_class"),
        ({"name": "repeat_factor", "threshold": 2.0}, "threshold is 2"),
        ("rare_class", "needs pixels"),
        ({"name": "shuffled", "num_images": 3}, "no option 'num_images'"),
    ],
)
def test_refusals(spec, message):
    with pytest.raises(ConfigError, match=message):
        build_sampler(spec, BOXES)
