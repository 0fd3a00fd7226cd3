"""``ImageScores``: what draws of the images need of an evaluation, in a file next to its ``results.json``."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from longtail.errors import DataError
from longtail.files import replace_file, saving
from longtail.metrics.image_counts import ImageCounts
from longtail.metrics.image_matches import ImageMatches
from longtail.metrics.matches import Matches

_FIX = "evaluate again"
_COLUMNS = ("scores", "labels", "right", "ignored")
ImagePart = ImageMatches | ImageCounts


@dataclass(frozen=True)
class ImageScores:
    """Scores of one way to predict, image by image.

    Args:
        parts: Prefix of the metrics (``""``, ``mask_``) -> matches of detections, or counts of pixels.
    """

    parts: Mapping[str, ImagePart]

    def drawn(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Metric -> scores of every class in some draws, see ``ImageMatches.drawn``."""
        return {
            f"{prefix}{metric}": values
            for prefix, part in self.parts.items()
            for metric, values in part.drawn(weights).items()
        }

    @property
    def number(self) -> int:
        """Number of images."""
        return len(_images(next(iter(self.parts.values()))))

    def differ_from(self, other: "ImageScores") -> str:
        """Why scores of two evaluations cannot be paired by image; empty where they can."""
        if self.parts.keys() != other.parts.keys():
            return "one has scores of masks and the other has none"
        for prefix, part in self.parts.items():
            theirs = other.parts[prefix]
            if not np.array_equal(_images(part), _images(theirs)):
                return f"they are of {len(_images(part))} and {len(_images(theirs))} images, or of others"
            if not np.array_equal(_truth(part), _truth(theirs)):
                return "their images have other labels"
        return ""


def save_image_scores(scores: Mapping[str, ImageScores], path: str | Path) -> None:
    """Write the scores of ways to predict, by name, as compressed arrays.

    Raises:
        ConfigError: The file cannot be written.
    """
    arrays = {"names": np.array(list(scores))}
    for number, score in enumerate(scores.values()):
        for prefix, part in score.parts.items():
            arrays |= {f"{number}.{prefix}.{name}": value for name, value in _arrays(part).items()}

    def write(part: Path) -> None:
        with part.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    with saving(path):
        replace_file(Path(path), write)


def load_image_scores(path: str | Path) -> dict[str, ImageScores]:
    """Read what ``save_image_scores`` wrote.

    Raises:
        DataError: The file is missing, or is not that.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        parts: list[dict[str, dict[str, np.ndarray]]] = [{} for _ in arrays["names"]]
        for key, values in arrays.items():
            if key != "names":
                number, prefix, name = key.split(".")
                parts[int(number)].setdefault(prefix, {})[name] = values
        return {
            name: ImageScores({prefix: _part(columns) for prefix, columns in of.items()})
            for name, of in zip(arrays["names"].tolist(), parts, strict=True)
        }
    except (OSError, ValueError, KeyError, IndexError, EOFError, BadZipFile) as error:
        raise DataError(f"cannot read {path}: {error}", fix=_FIX) from error


def _arrays(part: ImagePart) -> dict[str, np.ndarray]:
    if isinstance(part, ImageCounts):
        return {"names": np.array(part.names), "counts": part.counts}
    image, label = np.nonzero(part.positives)
    asked = np.stack([image, label, part.positives[image, label]], axis=1)
    columns = {name: getattr(part.matches, name) for name in _COLUMNS}
    size = np.array(part.positives.shape)
    return {**columns, "images": part.images, "asked": asked, "size": size, "image_ids": part.image_ids}


def _part(arrays: dict[str, np.ndarray]) -> ImagePart:
    if arrays.keys() == {own.name for own in fields(ImageCounts)}:
        return ImageCounts(tuple(arrays["names"].tolist()), arrays["counts"])
    positives = np.zeros(arrays["size"], dtype=np.int16)
    positives[arrays["asked"][:, 0], arrays["asked"][:, 1]] = arrays["asked"][:, 2]
    matches = Matches(**{name: arrays[name] for name in _COLUMNS}, positives=positives.sum(axis=0))
    return ImageMatches(matches, arrays["images"], positives, arrays["image_ids"])


def _images(part: ImagePart) -> np.ndarray:
    return np.array(part.names) if isinstance(part, ImageCounts) else part.image_ids


def _truth(part: ImagePart) -> np.ndarray:
    return part.counts[:, 1] if isinstance(part, ImageCounts) else part.positives
