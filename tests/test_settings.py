import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pytest

from longtail.errors import ConfigError
from longtail.settings import from_dict, one_of, read

Spec = str | Mapping[str, object]


@dataclass
class Inner:
    """A group.

    Args:
        rate: how fast it learns, its learning speed
    """

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
    weight: Sequence[float] | None = None,
    inner: Inner | None = None,
    pair: tuple[int, int] = (1, 2),
) -> None:
    """Takes anything."""


def take(options):
    return read(target, options, subject="it", given=["data"])


def test_known_names():
    with pytest.raises(
        ConfigError, match=r"^it has no option 'rat'\n  fix: did you mean 'rate'\? it takes rate, count"
    ):
        take({"rat": 1})
    with pytest.raises(ConfigError, match="it lacks data"):
        read(target, {}, subject="it")
    with pytest.raises(ConfigError, match="no option 'data'"):
        take({"data": 1})
    with pytest.raises(
        ConfigError, match=r"^a\.yaml: unknown setting x\.learning_speed\n  fix: did you mean x\.rate\?"
    ):
        from_dict(Inner, {"learning_speed": 1}, "x", "a.yaml")


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"rate": "1e-3", "count": 2}, {"rate": 0.001, "count": 2}),
        ({"count": None, "on": False, "order": "any"}, {"count": None, "on": False, "order": "any"}),
        ({"specs": ["a", "b"], "pair": [3, 4]}, {"specs": ["a", "b"], "pair": (3, 4)}),
        ({"specs": {"a": "b", "c": {"name": "d"}}}, {"specs": {"a": "b", "c": {"name": "d"}}}),
        ({"weight": [1, 2]}, {"weight": [1.0, 2.0]}),
        ({"inner": {"rate": 2}}, {"inner": Inner(2.0)}),
    ],
)
def test_values_as_they_are_wanted(options, wanted):
    assert take(options) == wanted


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": "two"}, r"it: rate is 'two'\n  fix: give a number"),
        ({"count": 1.5}, "a whole number"),
        ({"count": True}, "count is True"),
        ({"on": "never"}, "true or false"),
        ({"order": "lst"}, r"order is 'lst'\n  fix: did you mean 'last'\? choose one of first, last, any"),
        ({"order": ["first"]}, "order is"),
        ({"sets": "01"}, "a list"),
        ({"sets": [["a"]]}, "sets is"),
        ({"weight": ["heavy"]}, "weight is"),
        ({"inner": {"rat": 1}}, r"inner\.rat"),
        ({"inner": 3}, "inner is 3"),
        ({"pair": [1]}, "a list of 2"),
    ],
)
def test_values_that_do_not_fit(options, message):
    with pytest.raises(ConfigError, match=message):
        take(options)


def test_whatever_is_not_listed_passes_where_a_signature_is_open():
    def open_ended(*, depth: int = 1, **others) -> None:
        """Takes more."""

    assert read(open_ended, {"depth": 2, "width": [1]}) == {"depth": 2, "width": [1]}
    with pytest.raises(ConfigError, match="depth is 'x'"):
        read(open_ended, {"depth": "x"})


def test_one_of():
    assert one_of("word", "a", "ab") == "a"
    with pytest.raises(ConfigError, match=r"^word is 3\n  fix: choose one of 1, 2$"):
        one_of("word", 3, [1, 2])


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


def test_options_without_a_name_are_of_the_default_component():
    from longtail.training.detection_config import DetectorConfig

    found = DetectorConfig.of({"samples": 32, "backbone": {"channels": 8}})
    assert (found.name, found.options, found.backbone.options) == ("cascade", {"samples": 32}, {"channels": 8})
    with pytest.raises(ConfigError, match=r"detector 'cascade' has no option 'smaples'\n.*did you mean 'samples'"):
        DetectorConfig.of({"smaples": 32})
    with pytest.raises(ConfigError, match=r"did you mean 'dialect'"):
        DetectorConfig.of({"dialekt": "detectron2"})
