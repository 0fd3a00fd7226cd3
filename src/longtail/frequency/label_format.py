"""``LabelFormat``: meaning of the values or colours in label images."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from longtail.errors import ConfigError, DataError

Colour = tuple[int, int, int]

_MAX_VALUE = 65535
_SHOWN = 8
_CODE = 0xFFFFFF  # red, green and blue of a pixel as one number


@dataclass(frozen=True, eq=False)
class LabelFormat:
    """How to read class ids from label images.

    Args:
        table: (V,) class id of every stored value, the ignored value, or -1 for values that must not occur; None where
            the stored values are the class ids.
        colours: Colour to stored value, where files hold colours. Grey images hold stored values all the same, unless
            every colour is grey.
        palettes: Whether palette images are read by their colours as well; else their indices are the stored values.
    """

    table: np.ndarray | None = None
    colours: Mapping[Colour, int] = field(default_factory=dict)
    palettes: bool = False

    def facts(self) -> tuple[object, ...]:
        """Plain values that identify this format."""
        table = None if self.table is None else self.table.tolist()
        return (table, *([sorted(self.colours.items()), self.palettes] if self.colours else []))

    def mapped(
        self,
        num_classes: int,
        ignore_index: int,
        label_map: Mapping[int | str, int] | None = None,
        *,
        reduce_zero_label: bool = False,
    ) -> "LabelFormat":
        """The format whose stored values mean what a map says; see ``class_table``.

        Raises:
            ConfigError: The map has keys or values that it cannot have, or both ways of mapping are asked for.
        """
        if not label_map and not reduce_zero_label:
            return self
        table = class_table(
            num_classes, ignore_index, table=self.table, label_map=label_map, reduce_zero_label=reduce_zero_label
        )
        return replace(self, table=table)

    def stored(self, image: Image.Image, path: str | Path) -> Image.Image:
        """A decoded label image with stored values in place of colours.

        Raises:
            DataError: A pixel has another colour; the colours are named with their numbers of pixels.
        """
        table = self._values_of_codes
        if image.mode in ("RGB", "RGBA"):
            # Pillow keeps four bytes per pixel: read as one number they are an index without arithmetic
            codes = np.frombuffer(image.tobytes("raw", "RGBX" if image.mode == "RGB" else "RGBA"), "<u4") & _CODE
            values = table.take(codes).reshape(image.height, image.width)
            if (values == self._unknown_value).any():
                shown, counts = np.unique(codes, return_counts=True)
                raise self._unknown(shown, counts, path)
        elif self.palettes and (image.mode == "P" or (image.mode == "L" and self._all_grey)):
            codes = _code(_entries(image))
            values = table.take(codes).take(np.asarray(image))
            if (values == self._unknown_value).any():
                raise self._unknown(codes, np.asarray(image.histogram()), path)
        else:
            return image
        return Image.fromarray(values)

    @property
    def _all_grey(self) -> bool:
        return all(len(set(colour)) == 1 for colour in self.colours)

    @cached_property
    def _unknown_value(self) -> int:
        """Stored value, in memory alone, of colours that are none."""
        taken = set(self.colours.values())
        return next(value for value in range(len(taken) + 1) if value not in taken)

    @cached_property
    def _values_of_codes(self) -> np.ndarray:
        """Stored value of every colour, (2**24,)."""
        largest = max(self._unknown_value, *self.colours.values())
        table = np.full(_CODE + 1, self._unknown_value, np.uint8 if largest <= 255 else np.uint16)
        table[_code(np.asarray(list(self.colours), np.uint32))] = list(self.colours.values())
        return table

    def _unknown(self, codes: np.ndarray, counts: np.ndarray, path: str | Path) -> DataError:
        """The error that names the colours of no class, those of most pixels first."""
        unknown = (self._values_of_codes.take(codes) == self._unknown_value) & (counts > 0)
        order = np.argsort(-counts[unknown], kind="stable")
        told = [
            f"{(int(code) & 255, int(code) >> 8 & 255, int(code) >> 16)} ({count} pixels)"
            for code, count in zip(codes[unknown][order[:_SHOWN]], counts[unknown][order[:_SHOWN]], strict=True)
        ]
        more = f" and {len(order) - _SHOWN} more" if len(order) > _SHOWN else ""
        return DataError(
            f"label image {path} holds colours of no class: {', '.join(told)}{more}",
            fix="add them to the file of classes and colours; blended colours come from resizing or from JPEG: export the "
            "labels again without either",
        )

    def __getstate__(self) -> dict[str, object]:
        """Without the lookup tables of colours, which are large and can be rebuilt."""
        return {name: getattr(self, name) for name in ("table", "colours", "palettes")}


#: Stored values are class ids.
PLAIN = LabelFormat()


def _entries(image: Image.Image) -> np.ndarray:
    """Colour of every value of a palette or grey image, uint32 (256, 3)."""
    if image.mode == "L":
        return np.arange(256, dtype=np.uint32)[:, None].repeat(3, axis=1)
    entries = np.zeros((256, 3), np.uint32)
    palette = np.asarray(image.getpalette("RGB"), np.uint32).reshape(-1, 3)
    entries[: len(palette)] = palette
    return entries


def _code(colours: np.ndarray) -> np.ndarray:
    return colours[..., 0] | colours[..., 1] << 8 | colours[..., 2] << 16


def class_table(
    num_classes: int,
    ignore_index: int,
    *,
    table: Sequence[int] | np.ndarray | None = None,
    label_map: Mapping[int | str, int] | None = None,
    reduce_zero_label: bool = False,
) -> np.ndarray | None:
    """Class id of every stored value, int32 (V,); None for identity.

    Args:
        num_classes: Number of classes C.
        ignore_index: Class id that means "no class".
        table: Class id of every stored value before the map; None for identity.
        label_map: Stored value, or a range such as ``"3-9"``, to the class id that it means or to ``ignore_index``;
            other values mean what they mean without the map.
        reduce_zero_label: Value 0 means "no class", value v the class v - 1.

    Raises:
        ConfigError: The map has keys or values that it cannot have, or both ways of mapping are asked for.
    """
    if reduce_zero_label and table is not None:
        raise ConfigError("reduce_zero_label for labels that have a table", fix="leave it out, or map with label_map")
    if table is None and not label_map and not reduce_zero_label:
        return None
    given = {} if label_map is None else _expanded(label_map, num_classes, ignore_index)
    first = int(reduce_zero_label)
    size = max(256, num_classes + first, *(value + 1 for value in given), 0 if table is None else len(table))
    size = max(size, ignore_index + 1) if ignore_index <= _MAX_VALUE else size
    ids = np.full(size, -1, np.int32)
    if table is None:
        ids[first : num_classes + first] = np.arange(num_classes)
        ids[:first] = ignore_index
        if ignore_index < size and ids[ignore_index] < 0:
            ids[ignore_index] = ignore_index
    else:
        ids[: len(table)] = table
    for value, class_id in given.items():
        ids[value] = class_id
    return ids


def _expanded(label_map: Mapping[int | str, int], num_classes: int, ignore_index: int) -> dict[int, int]:
    """Class id of every single value that a map names."""
    found: dict[int, int] = {}
    for key, class_id in label_map.items():
        match = re.fullmatch(r"\s*(\d+)\s*(?:(?:-|\.\.|…)\s*(\d+)\s*)?", str(key))
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if low > high or high > _MAX_VALUE:
            raise ConfigError(
                f"label_map has the key {key!r}", fix=f"give a stored value from 0 to {_MAX_VALUE}, or a range: '3-9'"
            )
        if isinstance(class_id, bool) or not (0 <= class_id < num_classes or class_id == ignore_index):
            raise ConfigError(
                f"label_map sends {key} to {class_id!r}",
                fix=f"give a class id from 0 to {num_classes - 1}, or {ignore_index} for no class",
            )
        if twice := [value for value in range(low, high + 1) if value in found]:
            raise ConfigError(f"label_map names value {twice[0]} twice", fix="name every value once")
        found |= dict.fromkeys(range(low, high + 1), class_id)
    return found
