"""The pictures of an evaluation: input, truth and what every readout makes of a few telling images."""

import copy
import heapq
import json
import re
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from longtail.datasets.base import SegmentationDataset
from longtail.datasets.photographs import as_rgb
from longtail.distributed import all_gather_objects, is_main_process
from longtail.files import make_folder, saving, write_text
from longtail.frequency import CategoryGroups


class PictureBook:
    """Keeps the label maps of the images that show most of the rarest classes, and writes them at the end.

    Args:
        folder: Where to write.
        size: How many images.
        groups: The last group that has classes is the rarest.
    """

    def __init__(self, folder: Path, size: int, groups: CategoryGroups) -> None:
        self.folder = folder
        self.size = size
        rarest = [members for members in groups.members if members][-1]
        self._rare = np.zeros(256, dtype=bool)
        self._rare[list(rarest)] = True
        self._kept: list[tuple[tuple[int, int, int], str, np.ndarray, dict[str, np.ndarray]]] = []

    def consider(self, indices: list[int], names: list[str], target: Tensor, labels: dict[str, Tensor]) -> None:
        """Look at a batch.

        Args:
            indices: Index of each image in the data set.
            names: Name of each image.
            target: (n, h, w) true labels.
            labels: Readout -> (n, h, w) predicted labels.
        """
        for place, (index, name) in enumerate(zip(indices, names, strict=True)):
            truth = target[place].cpu().numpy().astype(np.uint8)
            counts = np.bincount(truth.ravel(), minlength=256)[self._rare]
            rank = (int((counts > 0).sum()), int(counts.sum()), -index)
            if len(self._kept) == self.size and rank <= self._kept[0][0]:
                continue
            maps = {readout: values[place].cpu().numpy().astype(np.uint8) for readout, values in labels.items()}
            push = heapq.heappush if len(self._kept) < self.size else heapq.heappushpop
            push(self._kept, (rank, name, truth, maps))

    def write(self, dataset: SegmentationDataset, readouts: list[str]) -> None:
        """Write the pictures of the best images of all ranks; each rank writes its own."""
        everyone = all_gather_objects([(rank, name) for rank, name, *_ in self._kept])
        chosen = sorted((entry for entries in everyone for entry in entries), reverse=True)[: self.size]
        make_folder(self.folder)
        untouched = copy.copy(dataset)
        untouched.transform = None  # the photograph as it is stored
        for rank, name, truth, maps in self._kept:
            if (rank, name) not in chosen:
                continue
            pixels = as_rgb(untouched[-rank[-1]]["image"]).permute(1, 2, 0).cpu().numpy()
            with saving(self.folder):
                Image.fromarray(pixels).save(self.folder / f"{file_name(name)}.input.jpg", quality=90)
                for part, values in {"truth": truth, **maps}.items():
                    Image.fromarray(values).save(self.folder / f"{file_name(name)}.{part}.png")
        if is_main_process():
            index = {
                "images": [file_name(name) for _, name in chosen],
                "readouts": readouts,
                "palette": [list(map(int, colour)) for colour in dataset.classes.palette],
            }
            write_text(self.folder / "index.json", json.dumps(index) + "\n")


def file_name(name: str) -> str:
    """A sample's name as a file name."""
    return re.sub(r"[^\w.-]+", "_", name)
