"""Settings of the data that every task shares. This module does not import torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from longtail.datasets.open import Task, find_dataset
from longtail.errors import ConfigError, LongtailError
from longtail.settings import Chosen, Section, one_of
from longtail.training.ranges import positive


@dataclass
class ClassGroupsConfig:
    """How the classes are put into groups.

    Args:
        sizes: number of classes of each group, in their order; of by = rank
        masses: ascending shares of the whole that the most frequent classes hold, then the next; of by = mass
        members: group name to class ids; of by = explicit
    """

    ways: ClassVar[tuple[str, ...]]

    sizes: tuple[int, ...] = ()
    masses: tuple[float, ...] = (0.8, 0.95)
    members: dict[str, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        by = one_of("data.groups.by", getattr(self, "by", ""), self.ways)
        if by == "rank" and not self.sizes:
            raise ConfigError("data.groups.by is rank without sizes", fix="give data.groups.sizes, such as [4, 4, 11]")
        if by == "explicit" and not self.members:
            raise ConfigError(
                "data.groups.by is explicit without members",
                fix="give data.groups.members, such as {tail: [2], head: [0, 1]}",
            )


@dataclass
class SamplingConfig(Section):
    """Which images a pass over the training data shows, and how often.

    Args:
        name: shuffled (every image once), repeat_factor (images of rare classes more often), class_aware (every class
            equally often), two_level (first a class, then an image, of which only that class counts), rare_class (pixels:
            rare classes oftener than frequent ones, in crops that show them), or the dotted path of your own
        options: options of the sampler (`longtail info repeat_factor`)
    """

    quick: ClassVar[bool] = False

    name: str = "shuffled"
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def component(cls, values: Mapping[str, Any]) -> Chosen:
        """See ``Section``."""
        from longtail.samplers.build import SAMPLERS

        return SAMPLERS.choose(str(values["name"]))


@dataclass
class DataSection(Section):
    """Settings of the data, with the options of the data set that ``dataset`` names among them.

    Args:
        train_split: split to train on
        val_split: split that chooses the best weights; none when empty
        val_share: share of the images that is val, where the data have no splits [0.2]
        split_by: pattern that keeps images together there, such as 'video_(\\d+)': a video is never on both sides
        bands: number of bands of the photographs, or the numbers of those to take, from 0; RGB when not given
        value_range: values that become 0 and 1, for all images (`longtail count --images`); bytes when not given
        pages: whether files of several pages are refused, or their pages are bands
        frequency: file of class frequencies (`longtail count`); the training split is counted when not given
        sampling: Which images a pass over the training data shows, and how often
        limit: use only that many images of each split
    """

    key: ClassVar[str] = "dataset"
    task: ClassVar[Task]

    dataset: str = ""
    train_split: str = "train"
    val_split: str = "val"
    options: dict[str, Any] = field(default_factory=dict)
    val_share: float | None = None
    split_by: str | None = None
    bands: int | tuple[int, ...] | None = None
    value_range: tuple[float, float] | None = None
    pages: Literal["refuse", "bands"] = "refuse"
    frequency: str | None = None
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    limit: int | None = None

    def __post_init__(self) -> None:
        positive("data.limit", self.limit)

    @classmethod
    def component(cls, values: Mapping[str, Any]) -> Chosen | None:
        """See ``Section``; None where there is no such data set here: settings are also read of data that are elsewhere."""
        if not values["dataset"]:
            return Chosen(object, "data without a data set")
        try:
            return find_dataset(str(values["dataset"]), cls.task).chosen
        except LongtailError:
            return None
