import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from longtail.errors import ConfigError
from longtail.options import one_of, options_of, take, typed

Spec = str | Mapping[str, object]


@dataclass
class Inner:
    rate: float = 0.1


def target(
    data: int,
    *,
    rate: float = 1.0,
    count: int | None = None,
    on: bool | None = None,
    order: Literal["first", "last"] | Literal["any"] | None = None,
    sets: list[list[int]] | None = None,
    specs: Mapping[str, Spec] | list[str] | None = None,
    weight: Float[Tensor, " c"] | Sequence[float] | None = None,
    inner: Inner | None = None,
    own=None,
    **others: int,
) -> None:
    """Takes anything."""


KNOWN = options_of(target, ["data"])


def test_known_names():
    assert list(KNOWN) == ["rate", "count", "on", "order", "sets", "specs", "weight", "inner", "own"]
    with pytest.raises(
        ConfigError, match=r"^it has no option 'rat'\n  fix: did you mean 'rate'\? it takes rate, count"
    ):
        take("it", {"rat": 1}, KNOWN)
    with pytest.raises(ConfigError, match="it lacks data"):
        take("it", {}, options_of(target))


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"rate": "1e-3", "count": 2.0}, {"rate": 0.001, "count": 2}),
        ({"count": None, "on": False, "order": "any"}, {"count": None, "on": False, "order": "any"}),
        ({"count": np.int64(3), "sets": [(0, 1), range(2)]}, {"count": 3, "sets": [[0, 1], [0, 1]]}),
        ({"specs": ("a", "b")}, {"specs": ["a", "b"]}),
        ({"specs": {"a": "b", "c": {"name": "d"}}}, {"specs": {"a": "b", "c": {"name": "d"}}}),
        ({"weight": [1, 2]}, {"weight": [1.0, 2.0]}),
        ({"inner": {"rate": 2}, "own": object}, {"inner": Inner(2.0), "own": object}),
    ],
)
def test_values_as_they_are_wanted(options, wanted):
    assert take("it", options, KNOWN) == wanted


def test_tensors_go_through():
    weight = torch.ones(3)
    assert take("it", {"weight": weight}, KNOWN)["weight"] is weight


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": "two"}, r"it: rate is 'two'\n  fix: give a number"),
        ({"rate": None}, "rate is None"),
        ({"count": 1.5}, "a whole number"),
        ({"on": "no"}, "true or false"),
        ({"order": "lst"}, r"order is 'lst'\n  fix: did you mean 'last'\? choose one of first, last, any"),
        ({"order": ["first"]}, "order is"),
        ({"sets": "01"}, "a list"),
        ({"sets": [["a"]]}, "sets is 'a'"),
        ({"weight": ["heavy"]}, "weight is 'heavy'"),
        ({"inner": {"rat": 1}}, r"inner\.rat"),
    ],
)
def test_values_that_do_not_fit(options, message):
    with pytest.raises(ConfigError, match=message):
        take("it", options, KNOWN)


def test_one_of():
    assert one_of("word", "a", "ab") == "a"
    with pytest.raises(ConfigError, match=r"^word is 3\n  fix: choose one of 1, 2$"):
        one_of("word", 3, [1, 2])
    assert typed(object(), 3, "a kind that is no type") == 3


#: Without the tests' own check of annotations, as users call them.
DIRECT = """
import torch
from longtail.detection.backbones.extractor import set_norm_mode
from longtail.detection.config import CascadeConfig
from longtail.ensembles.average import Average
from longtail.ensembles.dynamic import DynamicEnsemble
from longtail.ensembles.group_average import GroupAverage
from longtail.ensembles.learned import LearnedEnsemble
from longtail.ensembles.softmax_threshold import SoftmaxThreshold
from longtail.ensembles.sparse import SparseEnsemble
from longtail.errors import ConfigError
from longtail.frequency import CategoryGroups
from longtail.losses.balanced_softmax import BalancedSoftmax
from longtail.losses.blv import variation_of_classes
from longtail.losses.cross_entropy import CrossEntropy
from longtail.losses.focal import FocalLoss
from longtail.mec.losses import MultiExpertLoss
from longtail.medoe.bank import SharedDecoderHeads, copies
from longtail.medoe.experts import LabelSets
from longtail.medoe.losses import ExpertLossOptions
from longtail.segmentation.encoder_decoder import Expert
from longtail.segmentation.models.segformer import MLPDecoder

groups = CategoryGroups(("a", "b"), ((0,), (1,)))
sets = torch.ones(2, 2).bool()
expert = Expert(torch.nn.Identity(), torch.nn.Identity())
wrong = [
    lambda: LabelSets.from_groups(groups, "nestd"),
    *[
        lambda option=option: ExpertLossOptions(**option)
        for option in (
            {"penalty": "cube"}, {"penalty_pixels": "experts"}, {"divergence": "pixels"}, {"softmax": "sett"},
            {"divergence_softmax": "al"}, {"prior": "rw"}, {"normalizer": "al"}, {"alpha": "high"},
        )
    ],
    *[
        lambda option=option: LearnedEnsemble(2, 3, **option)
        for option in ({"objective": "likelyhood"}, {"inputs": "prob"}, {"outer": "weights"}, {"bias": "share"})
    ],
    lambda: SoftmaxThreshold(sets, order="tail"),
    lambda: SoftmaxThreshold(sets, threshold=3),
    lambda: GroupAverage(sets, of="logit"),
    lambda: Average("logit"),
    lambda: DynamicEnsemble(groups, weigh_by="rw"),
    lambda: SparseEnsemble(groups, background="none"),
    lambda: CrossEntropy(3, normalizer="al"),
    lambda: FocalLoss(3, kind="softmx"),
    lambda: FocalLoss(3, normalizer="al"),
    lambda: BalancedSoftmax(3, counts="sen"),
    lambda: variation_of_classes(torch.ones(3), "larges"),
    lambda: MultiExpertLoss([0], 3, outside="lamda"),
    lambda: SharedDecoderHeads(expert, 2, "copy", "al"),
    lambda: copies(expert, 2, "rset"),
    lambda: set_norm_mode(expert, "frozn"),
    lambda: MLPDecoder([4, 8], 4, "con"),
    lambda: CascadeConfig(3, average="logit"),
    lambda: CascadeConfig(3, masks="all"),
]
for number, build in enumerate(wrong):
    try:
        build()
    except ConfigError as error:
        assert "fix: " in str(error)
    else:
        raise AssertionError(f"number {number} was accepted")
"""


def test_every_class_refuses_a_word_that_it_does_not_know():
    done = subprocess.run([sys.executable, "-c", DIRECT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
