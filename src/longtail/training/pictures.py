"""The images of an evaluation that show most of the rarest classes, whatever rank looks at them."""

import copy
import heapq
import re
from typing import Any, Generic, NamedTuple, TypeVar

from longtail.datasets.base import Samples
from longtail.distributed import all_gather_objects

Content = TypeVar("Content")


class Candidate(NamedTuple):
    """An image, by how telling it is.

    Attributes:
        rank: Number of rare classes, of what they have in the image, minus its index.
        name: Its name.
        classes: Its classes, where they matter.
    """

    rank: tuple[int, int, int]
    name: str
    classes: tuple[int, ...] = ()


class TellingImages(Generic[Content]):
    """Keeps what is to be shown of the best candidates.

    Args:
        size: How many.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.kept: list[tuple[Candidate, Content]] = []

    def wants(self, candidate: Candidate) -> bool:
        """Whether a candidate is among the best of this rank so far."""
        return len(self.kept) < self.size or candidate.rank > self.kept[0][0].rank

    def keep(self, candidate: Candidate, content: Content) -> None:
        """Keep a candidate, and drop the worst if there is no place."""
        (heapq.heappush if len(self.kept) < self.size else heapq.heappushpop)(self.kept, (candidate, content))

    def best(self) -> list[Candidate]:
        """The best candidates of all ranks, the best first."""
        everyone = all_gather_objects([candidate for candidate, _ in self.kept])
        return sorted((candidate for part in everyone for candidate in part), reverse=True)[: self.size]


def stored(dataset: Samples, candidate: Candidate) -> Any:
    """The sample of a candidate as it is stored, untransformed."""
    untouched: Any = copy.copy(dataset)
    untouched.transform = None
    return untouched[-candidate.rank[-1]]


def file_name(name: str) -> str:
    """A sample's name as a file name."""
    return re.sub(r"[^\w.-]+", "_", name)
