"""Pixels of a synthetic scene: grounds, objects, light.

Only +, -, *, / and square roots are used on pixels, which every machine rounds alike: a scene is the same everywhere.
"""

import colorsys
from functools import lru_cache

import numpy as np

from longtail.datasets.scene_plan import SHAPES, ObjectKind, Placed, Region

_F = np.float32
_FIELDS = 6
# Dark and light colour of each surrounding.
_GROUND = np.array(
    [
        [[0.16, 0.30, 0.11], [0.47, 0.60, 0.25]],
        [[0.07, 0.24, 0.38], [0.30, 0.58, 0.68]],
        [[0.67, 0.56, 0.38], [0.92, 0.84, 0.66]],
        [[0.24, 0.23, 0.26], [0.62, 0.60, 0.58]],
    ],
    dtype=_F,
)
# Waves around the rim and their height, squeeze across, radius of the hole.
_OUTLINE = {
    "disc": (0, 0.0, 1.0, 0.0),
    "star": (5, 0.34, 1.0, 0.0),
    "clover": (3, 0.30, 1.0, 0.0),
    "leaf": (0, 0.0, 0.52, 0.0),
    "ring": (0, 0.0, 1.0, 0.5),
    "flower": (6, 0.17, 1.0, 0.0),
    "cross": (4, 0.32, 1.0, 0.0),
    "shield": (3, 0.10, 0.8, 0.0),
}


@lru_cache(maxsize=4)
def noise_fields(side: int) -> np.ndarray:
    """Value noise of several octaves, float32 (6, side, side) in about 0 … 1, the same for every data set."""
    rng = np.random.default_rng(20_231)
    fields = np.zeros((_FIELDS, side, side), _F)
    for field in fields:
        weight, cells = _F(0.5), 4
        while cells <= side // 2:
            field += weight * _stretched(rng.random((cells + 1, cells + 1), dtype=_F), side)
            weight, cells = weight * _F(0.6), cells * 2
        low, high = field.min(), field.max()
        field -= low
        field /= high - low
    return fields


def _stretched(grid: np.ndarray, side: int) -> np.ndarray:
    """Grid values interpolated smoothly to (side, side)."""
    place = np.arange(side, dtype=_F) * (_F(len(grid) - 1) / _F(side))
    cell = place.astype(np.int64)
    t = place - cell
    t = t * t * (3 - 2 * t)
    rows = grid[cell] * (1 - t)[:, None] + grid[cell + 1] * t[:, None]
    return rows[:, cell] * (1 - t) + rows[:, cell + 1] * t


class _Noise:
    """Patches of the noise fields at random places, of one image's size."""

    def __init__(self, size: tuple[int, int], rng: np.random.Generator) -> None:
        side = 1 << (2 * max(size) - 1).bit_length()
        self.fields, self.size, self.rng = noise_fields(side), size, rng

    def patch(self, down: int = 1, across: int = 1) -> np.ndarray:
        """float32 (h, w); steps of 2 make the pattern finer along that axis."""
        (height, width), side = self.size, self.fields.shape[1]
        field = self.fields[int(self.rng.integers(_FIELDS))]
        y = int(self.rng.integers(side - down * height + 1))
        x = int(self.rng.integers(side - across * width + 1))
        return field[y : y + down * height : down, x : x + across * width : across]


class Ground:
    """Surrounding of every pixel, with organic borders.

    Args:
        regions: Patches of ground; a pixel belongs to the nearest, on warped coordinates.
        size: (h, w).
        rng: Decides the warp.
    """

    def __init__(self, regions: list[Region], size: tuple[int, int], rng: np.random.Generator) -> None:
        noise = _Noise(size, rng)
        warp = _F(0.45 * min(size))
        y = np.arange(size[0], dtype=_F)[:, None] + warp * (noise.patch() - _F(0.5))
        x = np.arange(size[1], dtype=_F)[None, :] + warp * (noise.patch() - _F(0.5))
        distance = np.stack([(y - _F(r.y)) * (y - _F(r.y)) + (x - _F(r.x)) * (x - _F(r.x)) for r in regions])
        order = np.argsort(distance, axis=0, kind="stable")
        near, next_ = order[:1], order[1:2]
        first = np.sqrt(np.take_along_axis(distance, near, 0)[0])
        second = np.sqrt(np.take_along_axis(distance, next_, 0)[0])
        self.regions = regions
        self.nearest, self.runner_up = near[0], next_[0]
        self.margin = (second - first) / _F(min(size))
        self.surrounding = np.array([r.surrounding for r in regions], np.uint8)[self.nearest]


def outline(thing: Placed, kind: ObjectKind, size: tuple[int, int]) -> tuple[slice, slice, dict[str, np.ndarray]]:
    """Window of an object (with room for its shadow) and its geometry there.

    Returns:
        Rows, columns, and float32 (hw, ww) arrays: ``alpha`` coverage 0 … 1, ``depth`` 0 at the centre to 1 at the
        rim, ``y`` and ``x`` from the centre in radii, ``along`` the same in the object's own direction.
    """
    waves, height, squeeze, hole = _OUTLINE[SHAPES[kind.look % len(SHAPES)]]
    reach = 1.15 * thing.radius + 2
    rows = slice(max(0, int(thing.y - reach)), min(size[0], int(thing.y + reach) + 2))
    columns = slice(max(0, int(thing.x - reach)), min(size[1], int(thing.x + reach) + 2))
    radius, cosine, sine = _F(thing.radius), _F(thing.cosine), _F(thing.sine)
    y = (np.arange(rows.start, rows.stop, dtype=_F) - _F(thing.y))[:, None] / radius
    x = (np.arange(columns.start, columns.stop, dtype=_F) - _F(thing.x))[None, :] / radius
    along = cosine * x + sine * y
    over = (cosine * y - sine * x) / _F(squeeze)
    distance = np.sqrt(along * along + over * over) + _F(1e-6)
    rim = _F(1.0) + _F(height) * _wave(along / distance, waves) if waves else np.ones_like(distance)
    rim = rim / _F(1 + height)
    depth = distance / rim
    sharp = radius * _F(0.5 * (1 + squeeze))
    alpha = np.clip((rim - distance) * sharp + _F(0.5), 0, 1)
    if hole:
        alpha = np.minimum(alpha, np.clip((distance - _F(hole)) * sharp + _F(0.5), 0, 1))
    return rows, columns, {"alpha": alpha, "depth": depth, "y": y + 0 * x, "x": x + 0 * y, "along": along}


def _wave(cosine: np.ndarray, waves: int) -> np.ndarray:
    """cos(waves · angle) from cos(angle), by Chebyshev's recurrence."""
    before, now = np.ones_like(cosine), cosine
    for _ in range(waves - 1):
        before, now = now, 2 * cosine * now - before
    return now


def paint_labels(
    ground: Ground, things: list[Placed], kinds: tuple[ObjectKind, ...], size: tuple[int, int]
) -> tuple[np.ndarray, list[tuple[slice, slice, dict[str, np.ndarray]]]]:
    """Object of every pixel, and the outlines in painting order.

    Returns:
        uint8 (h, w), 0 where the ground shows and i + 1 where object i does; smaller objects lie on larger ones.
    """
    owner = np.zeros(size, np.uint8)
    outlines = [outline(thing, kinds[thing.kind], size) for thing in things]
    for i in painting_order(things):
        rows, columns, shape = outlines[i]
        owner[rows, columns][shape["alpha"] > 0.5] = i + 1
    for i, thing in enumerate(things):  # one that is wholly covered keeps a pixel
        if not (owner == i + 1).any():
            owner[min(size[0] - 1, max(0, int(thing.y))), min(size[1] - 1, max(0, int(thing.x)))] = i + 1
    return owner, outlines


def painting_order(things: list[Placed]) -> list[int]:
    """Indices of the objects, largest first."""
    return sorted(range(len(things)), key=lambda i: (-things[i].radius, i))


def paint_image(
    ground: Ground,
    things: list[Placed],
    outlines: list[tuple[slice, slice, dict[str, np.ndarray]]],
    kinds: tuple[ObjectKind, ...],
    rng: np.random.Generator,
) -> np.ndarray:
    """The picture, uint8 (3, h, w)."""
    size = ground.surrounding.shape
    noise = _Noise(size, rng)
    canvas = _paint_ground(ground, noise)
    for i in painting_order(things):
        _paint_object(canvas, outlines[i], things[i], kinds[things[i].kind], rng)
    tilt = rng.random(5, dtype=_F) - _F(0.5)
    light = _F(1) + _F(0.16) * tilt[0]
    light = light + _F(0.3) * tilt[1] * (np.arange(size[0], dtype=_F)[:, None] / _F(size[0]) - _F(0.5))
    light = light + _F(0.3) * tilt[2] * (np.arange(size[1], dtype=_F)[None, :] / _F(size[1]) - _F(0.5))
    warmth = np.array([1 + 0.08 * tilt[3], 1, 1 - 0.08 * tilt[3]], _F)[:, None, None]
    grain = rng.integers(-4, 5, size=(3, *size), dtype=np.int8).astype(_F)
    canvas = canvas * light * warmth * _F(255) + grain
    return np.clip(canvas + _F(0.5), 0, 255).astype(np.uint8)


def _paint_ground(ground: Ground, noise: _Noise) -> np.ndarray:
    coarse = noise.patch()
    painted = np.stack([_texture(r.surrounding, coarse, noise) for r in ground.regions])
    near = np.take_along_axis(painted, ground.nearest[None, None], 0)[0]
    far = np.take_along_axis(painted, ground.runner_up[None, None], 0)[0]
    weight = np.clip(_F(0.5) + ground.margin * _F(14), 0, 1)
    shade = _F(1) - _F(0.22) * np.clip(_F(1) - ground.margin * _F(18), 0, 1)
    return (near * weight + far * (1 - weight)) * shade


def _texture(surrounding: int, coarse: np.ndarray, noise: _Noise) -> np.ndarray:
    """Colours of one surrounding over the whole image, float32 (3, h, w)."""
    if surrounding == 0:  # grass: tufts, finer along one axis
        mix = _F(0.45) * coarse + _F(0.95) * noise.patch(across=2) - _F(0.2)
    elif surrounding == 1:  # water: thin bright ripples
        ripple = np.abs(noise.patch(down=2) - _F(0.5))
        bright = np.clip(_F(1) - ripple * _F(14), 0, 1)
        mix = _F(0.65) * coarse + _F(0.38) * bright * coarse
    elif surrounding == 2:  # sand: gentle, with grains
        mix = _F(0.6) * coarse + _F(0.4) * noise.patch(down=2, across=2)
    else:  # rock: blocks with dark cracks
        crack = np.clip(np.abs(noise.patch() - _F(0.5)) * _F(16), 0, 1)
        mix = (_F(0.25) + _F(0.85) * noise.patch(down=2, across=2)) * (_F(0.35) + _F(0.65) * crack)
    dark, light = _GROUND[surrounding]
    return dark[:, None, None] + (light - dark)[:, None, None] * np.clip(mix, 0, 1)


def _look_colours(look: int) -> tuple[np.ndarray, np.ndarray]:
    """Body and accent colour of an appearance."""
    hue = (0.02 + look * 0.618034) % 1.0
    body = colorsys.hsv_to_rgb(hue, 0.78, 0.92)
    accent = colorsys.hsv_to_rgb((hue + 0.09) % 1.0, 0.55, 1.0)
    return np.array(body, _F), np.array(accent, _F)


def _paint_object(
    canvas: np.ndarray,
    outlined: tuple[slice, slice, dict[str, np.ndarray]],
    thing: Placed,
    kind: ObjectKind,
    rng: np.random.Generator,
) -> None:
    rows, columns, shape = outlined
    alpha, depth, y, x = shape["alpha"], shape["depth"], shape["y"], shape["x"]
    window = canvas[:, rows, columns]
    shift = max(1, int(0.14 * thing.radius))
    shadow = np.zeros_like(alpha)
    shadow[shift:, shift:] = alpha[:-shift, :-shift]
    window *= _F(1) - _F(0.45) * shadow * (1 - alpha)

    body, accent = _look_colours(kind.look)
    vary = rng.random(4, dtype=_F) - _F(0.5)
    body = np.clip(body * (_F(1) + _F(0.25) * vary[0]) + _F(0.10) * vary[1:], 0, 1)
    pattern = kind.look % 3
    if pattern == 0:  # a bright heart
        mark = np.clip(_F(2.2) - _F(5) * depth, 0, 1)
    elif pattern == 1:  # bands
        phase = shape["along"] * _F(2.5)
        mark = np.clip(np.abs(phase - np.floor(phase) - _F(0.5)) * _F(8) - _F(1.2), 0, 1)
    else:  # a rim
        mark = np.clip(_F(5) * depth - _F(3.4), 0, 1)
    mark = _F(0.8) * mark
    colour = body[:, None, None] * (1 - mark) + accent[:, None, None] * mark

    dome = np.clip(_F(1) - depth * depth, 0, 1)
    shade = _F(0.72) + _F(0.30) * np.sqrt(dome) - _F(0.24) * (x + y)
    spot = np.clip(_F(1) - ((x + _F(0.33)) * (x + _F(0.33)) + (y + _F(0.33)) * (y + _F(0.33))) * _F(9), 0, 1)
    colour = colour * shade + _F(0.5) * spot * spot
    window *= 1 - alpha
    window += colour * alpha
