"""Colours for classes that have none."""

import colorsys

Palette = tuple[tuple[int, int, int], ...]

_GOLDEN = 0.6180339887498949
# Value and saturation; hue alone distinguishes few classes.
_TONES = ((0.95, 0.75), (0.70, 0.85), (0.85, 0.45), (0.55, 0.65))


def generate_palette(num_classes: int) -> Palette:
    """Distinct colours without black or white, the same on every machine.

    Args:
        num_classes: Number of colours, C. The first colours do not depend on it.
    """
    colours: list[tuple[int, int, int]] = []
    taken: set[tuple[int, int, int]] = set()
    step = 0
    while len(colours) < num_classes:
        value, saturation = _TONES[step % len(_TONES)]
        hue = 0.61 + 0.15 * (step % len(_TONES)) + _GOLDEN * (step // len(_TONES))
        red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
        colour = (round(255 * red), round(255 * green), round(255 * blue))
        step += 1
        if colour not in taken:
            taken.add(colour)
            colours.append(colour)
    return tuple(colours)
