"""Plan of a synthetic scene: kinds of objects, their long-tailed draw, and places that fit their context."""

import math
from dataclasses import dataclass

import numpy as np

SURROUNDINGS = ("grass", "water", "sand", "rock")
SHAPES = ("disc", "star", "clover", "leaf", "ring", "flower", "cross", "shield")
SLOTS = 6  # objects that an image can draw
_EMPTY = 0.2  # share of slots that stay empty
_BLOCK = 1002  # slots over which the draw is stratified
_LARGE, _SMALL = 0.140, 0.050  # radius of the most and least frequent kind, as a share of the shorter side
_TRIES = 96


@dataclass(frozen=True)
class ObjectKind:
    """A class of objects.

    Args:
        name: Class name.
        look: Index of the appearance; two kinds of one look differ by their context alone.
        radius: Usual radius, as a share of the image's shorter side.
        homes: Surroundings that it is found on.
        neighbour: Kind that it always touches; None for most kinds.
    """

    name: str
    look: int
    radius: float
    homes: tuple[int, ...]
    neighbour: int | None = None


def object_kinds(num_kinds: int) -> tuple[ObjectKind, ...]:
    """Kinds of objects, most frequent first; the rare half are look-alikes of the frequent half.

    A look-alike lives on other surroundings than the kind it resembles; every third one lives on the same and
    is known by its neighbour.

    Args:
        num_kinds: Number of kinds, >= 4.
    """
    looks = (num_kinds + 1) // 2
    kinds: list[ObjectKind] = []
    for rank in range(num_kinds):
        look, copy = rank % looks, rank >= looks
        homes: tuple[int, ...] = (look % 4, (look + 1) % 4)
        name = SHAPES[look % len(SHAPES)] + (f" {look // len(SHAPES) + 1}" if look >= len(SHAPES) else "")
        neighbour = None
        if copy and look % 3 == 2:
            homes, neighbour = homes[:1], look - 1
            name = f"{name} beside {kinds[neighbour].name}"
        elif copy:
            homes = ((look + 2) % 4,)
            name = f"{name} on {SURROUNDINGS[homes[0]]}"
        radius = _LARGE + (_SMALL - _LARGE) * rank / (num_kinds - 1)
        kinds.append(ObjectKind(name, look, radius, homes, neighbour))
    return tuple(kinds)


def zipf_shares(num_kinds: int, imbalance: float) -> np.ndarray:
    """Shares ``1 / rank^s`` of the kinds, float64 (num_kinds,), the first ``imbalance`` times the last."""
    exponent = math.log(imbalance) / math.log(num_kinds)
    weights = np.array([float(rank) ** -exponent for rank in range(1, num_kinds + 1)])
    return weights / weights.sum()


class Draw:
    """Kinds of the objects of each image, stratified: about a thousand slots hold each kind in its share.

    Args:
        num_kinds: Number of kinds.
        imbalance: Occurrences of the most frequent kind for one of the rarest.
        key: Integers that identify the split; equal keys draw equally.
    """

    def __init__(self, num_kinds: int, imbalance: float, key: tuple[int, ...]) -> None:
        self._edges = np.cumsum(zipf_shares(num_kinds, imbalance)) * (1 - _EMPTY)
        self._key = key
        self._blocks: dict[int, np.ndarray] = {}

    def _draw_block(self, block: int) -> np.ndarray:
        rng = np.random.default_rng([*self._key, block])
        places = (rng.permutation(_BLOCK) + rng.random(_BLOCK)) / _BLOCK
        return np.searchsorted(self._edges, places, side="right")

    def __call__(self, index: int) -> list[int]:
        """Kinds drawn for one image, in slot order; an image may have none."""
        block, first = divmod(index * SLOTS, _BLOCK)
        if block not in self._blocks:
            self._blocks[block] = self._draw_block(block)
        drawn = self._blocks[block][first : first + SLOTS]
        return [int(kind) for kind in drawn if kind < len(self._edges)]


def with_neighbours(kinds: tuple[ObjectKind, ...], drawn: list[int]) -> list[tuple[int, int | None]]:
    """Kinds of all objects of an image with the position, in this list, of the one each must touch.

    A kind that touches another one brings it along. Rare kinds are placed first, so that their surrounding is free.
    """
    objects: list[tuple[int, int | None]] = []
    for kind in drawn:
        neighbour = kinds[kind].neighbour
        if neighbour is not None:
            objects.append((neighbour, None))
            objects.append((kind, len(objects) - 1))
    alone = sorted((kind for kind in drawn if kinds[kind].neighbour is None), reverse=True)
    return objects + [(kind, None) for kind in alone]


@dataclass(frozen=True)
class Region:
    """A patch of ground: one surrounding around a point (in pixels)."""

    surrounding: int
    y: float
    x: float


@dataclass(frozen=True)
class Placed:
    """An object in its place, in pixels; (cosine, sine) is its orientation."""

    kind: int
    y: float
    x: float
    radius: float
    cosine: float
    sine: float


def choose_homes(
    kinds: tuple[ObjectKind, ...], objects: list[tuple[int, int | None]], rng: np.random.Generator
) -> list[int]:
    """Surrounding of every object: one that the image has already, where the kind allows it."""
    homes: list[int] = []
    for kind, neighbour in objects:
        allowed = kinds[kind].homes
        if neighbour is not None:
            homes[neighbour] = allowed[0]  # the neighbour comes along to where its guest lives
        shared = [home for home in allowed if home in homes]
        homes.append(shared[0] if shared else allowed[int(rng.integers(len(allowed)))])
    return homes


def lay_out_regions(homes: list[int], size: tuple[int, int], rng: np.random.Generator) -> list[Region]:
    """Two to four regions, in different quarters of the image, among them every home that is needed."""
    wanted = list(dict.fromkeys(homes))
    spare = [int(s) for s in rng.permutation(len(SURROUNDINGS)) if s not in wanted]
    count = max(len(wanted), 2 + int(rng.random() < 0.4))
    wanted += spare[: count - len(wanted)]
    quarters = rng.permutation(4)[: len(wanted)]
    jitter = 0.3 * (rng.random((len(wanted), 2)) - 0.5)
    return [
        Region(
            s,
            float(size[0] * (0.25 + 0.5 * (q // 2) + jitter[i, 0])),
            float(size[1] * (0.25 + 0.5 * (q % 2) + jitter[i, 1])),
        )
        for i, (s, q) in enumerate(zip(wanted, quarters, strict=True))
    ]


def place_objects(
    kinds: tuple[ObjectKind, ...],
    objects: list[tuple[int, int | None]],
    homes: list[int],
    ground: np.ndarray,
    rng: np.random.Generator,
) -> list[Placed]:
    """A place on its home ground for every object, clear of the others but for neighbours, which touch.

    Args:
        kinds: All kinds.
        objects: What ``with_neighbours`` gives.
        homes: Surrounding of every object.
        ground: uint8 (h, w), surrounding of every pixel.
        rng: Decides the places.
    """
    placed: list[Placed] = []
    shorter = min(ground.shape)
    for (kind, neighbour), home in zip(objects, homes, strict=True):
        radius = max(2.5, shorter * kinds[kind].radius * (0.85 + 0.3 * float(rng.random())))
        direction = _directions(rng, 1 + _TRIES)
        if neighbour is None:
            spots = rng.random((_TRIES, 2)) * (np.array(ground.shape) - 1.6 * radius) + 0.8 * radius
        else:
            host = placed[neighbour]
            spots = np.array([host.y, host.x]) + direction[1:] * (0.98 * (host.radius + radius))
        best = int(np.argmax(_merit(spots, radius, home, ground, placed, neighbour)))
        y, x = (float(v) for v in spots[best])
        placed.append(Placed(kind, y, x, radius, float(direction[0, 0]), float(direction[0, 1])))
    return placed


def _directions(rng: np.random.Generator, count: int) -> np.ndarray:
    """Unit vectors (count, 2), by square roots alone: trigonometry differs between machines in the last bit."""
    vectors = rng.random((count, 2)) * 2 - 1 + 1e-3
    return vectors / np.sqrt(vectors[:, :1] * vectors[:, :1] + vectors[:, 1:] * vectors[:, 1:])


def _merit(
    spots: np.ndarray, radius: float, home: int, ground: np.ndarray, placed: list[Placed], neighbour: int | None
) -> np.ndarray:
    """How well each spot suits: on its ground with a margin, inside the image, clear of what stands there."""
    merit = np.zeros(len(spots))
    bottom, right = ground.shape[0] - 1, ground.shape[1] - 1
    for dy, dx in ((0.0, 0.0), (1.2, 0.0), (-1.2, 0.0), (0.0, 1.2), (0.0, -1.2)):
        y = np.clip(spots[:, 0] + dy * radius, 0, bottom).astype(np.int64)
        x = np.clip(spots[:, 1] + dx * radius, 0, right).astype(np.int64)
        merit += (ground[y, x] == home) * (6.0 if dy == dx else 2.0)
    inside = np.minimum.reduce([spots[:, 0], spots[:, 1], bottom - spots[:, 0], right - spots[:, 1]]) / radius
    merit += 4 * np.minimum(inside - 0.8, 0)
    for i, other in enumerate(placed):
        if i == neighbour:
            continue
        down, across = spots[:, 0] - other.y, spots[:, 1] - other.x
        gap = (np.sqrt(down * down + across * across) - radius - other.radius) / radius
        merit += 6 * np.minimum(gap - 0.5, 0)
    return merit
