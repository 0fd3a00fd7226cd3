"""The pictures of an evaluation: input, truth and what every readout makes of a few telling images."""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from longtail.datasets.base import SegmentationDataset
from longtail.datasets.rgb_photographs import as_rgb
from longtail.distributed import is_main_process
from longtail.files import make_folder, saving, write_text
from longtail.frequency import CategoryGroups
from longtail.training.pictures import Candidate, TellingImages, file_name, stored


class SegmentationPictures:
    """Keeps the label maps of the images that show most of the rarest classes, and writes them at the end.

    Args:
        folder: Where to write.
        size: How many images.
        groups: The last group that has classes is the rarest.
    """

    def __init__(self, folder: Path, size: int, groups: CategoryGroups) -> None:
        self.folder = folder
        rarest = [members for members in groups.members if members][-1]
        self._rare = np.zeros(256, dtype=bool)
        self._rare[list(rarest)] = True
        self._images: TellingImages[dict[str, np.ndarray]] = TellingImages(size)

    def consider(self, indices: list[int], names: list[str], target: Tensor, labels: dict[str, Tensor]) -> None:
        """Look at a batch.

        Args:
            indices: Index of each image in the data set.
            names: Name of each image.
            target: (n, h, w) true labels.
            labels: Readout -> (n, h, w) predicted labels.
        """
        for place, (index, name) in enumerate(zip(indices, names, strict=True)):
            truth = _ids(target[place])
            counts = np.bincount(truth.ravel(), minlength=256)[self._rare]
            candidate = Candidate((int((counts > 0).sum()), int(counts.sum()), -index), name)
            if self._images.wants(candidate):
                maps = {readout: _ids(values[place]) for readout, values in labels.items()}
                self._images.keep(candidate, {"truth": truth, **maps})

    def write(self, dataset: SegmentationDataset, readouts: list[str]) -> None:
        """Write the pictures of the best images of all ranks; each rank writes its own."""
        chosen = self._images.best()
        make_folder(self.folder)
        for candidate, maps in self._images.kept:
            if candidate not in chosen:
                continue
            name = file_name(candidate.name)
            pixels = as_rgb(stored(dataset, candidate)["image"]).permute(1, 2, 0).cpu().numpy()
            with saving(self.folder):
                Image.fromarray(pixels).save(self.folder / f"{name}.input.jpg", quality=90)
                for part, values in maps.items():
                    Image.fromarray(values).save(self.folder / f"{name}.{part}.png")
        if is_main_process():
            index = {
                "images": [file_name(candidate.name) for candidate in chosen],
                "readouts": readouts,
                "palette": [list(map(int, colour)) for colour in dataset.classes.palette],
            }
            write_text(self.folder / "index.json", json.dumps(index) + "\n")


def _ids(labels: Tensor) -> np.ndarray:
    return labels.cpu().numpy().astype(np.uint8)
