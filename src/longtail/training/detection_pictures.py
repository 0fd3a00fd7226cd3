"""The pictures of an evaluation of detections: input, truth and what every readout finds in a few telling images."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from longtail.datasets.base import DetectionDataset, DetectionSample
from longtail.datasets.rgb_photographs import as_rgb
from longtail.detection.drawing import best_detections, draw, to_record
from longtail.detection.method import Detections
from longtail.distributed import all_gather_objects, is_main_process
from longtail.encoded_masks import text_mask
from longtail.files import make_folder, saving, write_text
from longtail.frequency import CategoryGroups
from longtail.training.pictures import Candidate, TellingImages, file_name, stored

#: For each picture drawn, so many images are kept whose objects a report compares between runs.
_COMPARED = 10


class DetectionPictures:
    """Keeps the detections of the images that show most of the rarest classes, and draws them at the end.

    As many detections as there are objects are kept, the best first: what is shown does not depend on how high a
    method's scores are. The images are chosen by their annotations alone, so that runs on the same data keep the same
    ones; no two of the same classes are drawn while there are others, since frames of one film would all look alike.

    Args:
        folder: Where to write.
        size: How many images to draw.
        groups: The first group that has classes is the rarest.
    """

    def __init__(self, folder: Path, size: int, groups: CategoryGroups) -> None:
        self.folder = folder
        self.size = size
        self._rare = np.array(next(members for members in groups.members if members))
        self._images: TellingImages[dict[str, Detections]] = TellingImages(size * _COMPARED)

    def consider(self, index: int, name: str, labels: np.ndarray, found: dict[str, Detections]) -> None:
        """Look at an image.

        Args:
            index: Its index in the data set.
            name: Its name.
            labels: Classes of its objects.
            found: Readout -> detections, the method's own first.
        """
        rare = labels[np.isin(labels, self._rare)]
        candidate = Candidate((len(np.unique(rare)), len(rare), -index), name, tuple(np.unique(labels).tolist()))
        if len(labels) and self._images.wants(candidate):
            shown = {readout: best_detections(detections, len(labels)) for readout, detections in found.items()}
            self._images.keep(candidate, shown)

    def write(self, dataset: DetectionDataset, readouts: list[str]) -> None:
        """Write the pictures of the best images of all ranks; each rank writes its own."""
        ranked = self._images.best()
        compared, drawn = set(ranked), _varied(ranked)[: self.size]
        make_folder(self.folder)
        palette = dataset.classes.palette
        objects: dict[str, dict[str, Any]] = {}
        for candidate, found in self._images.kept:
            if candidate not in compared:
                continue
            sample, name = stored(dataset, candidate), candidate.name
            truth, image = true_objects(sample), as_rgb(sample["image"])
            pictures = {"input": Image.fromarray(image.permute(1, 2, 0).numpy())}
            if candidate in drawn:
                parts = {"truth": truth, **found}
                pictures |= {part: draw(image, d, dataset.classes.names, palette) for part, d in parts.items()}
            with saving(self.folder):
                for part, picture in pictures.items():
                    picture.save(self.folder / f"{file_name(name)}.{part}.jpg", quality=88)
            own = {readout: to_record(found[readout]) for readout in readouts[:1]}
            objects[file_name(name)] = {"truth": to_record(truth), **own}
        everywhere = all_gather_objects(objects)
        if is_main_process():
            objects = {name: record for part in everywhere for name, record in part.items()}
            names = [file_name(candidate.name) for candidate in drawn]
            index = {
                "images": names,
                "readouts": readouts,
                "palette": [list(map(int, colour)) for colour in palette],
                "classes": {name: sorted(set(objects[name]["truth"]["labels"])) for name in names},
            }
            write_text(self.folder / "index.json", json.dumps(index) + "\n")
            write_text(self.folder / "objects.json", json.dumps(dict(sorted(objects.items()))) + "\n")


def _varied(ranked: list[Candidate]) -> list[Candidate]:
    """The first image of every set of classes, then the second ones, and so on."""
    seen: Counter[tuple[int, ...]] = Counter()
    turns = []
    for candidate in ranked:
        turns.append(seen[candidate.classes])
        seen[candidate.classes] += 1
    return [candidate for _, candidate in sorted(zip(turns, ranked, strict=True), key=lambda entry: entry[0])]


def true_objects(sample: DetectionSample) -> Detections:
    """The annotated objects of an untransformed sample, crowd regions left out, in the form of detections."""
    from hotcoco import mask

    keep = ~sample["crowd"]
    masks = None
    if "masks" in sample:
        decoded = sample["masks"].as_subclass(Tensor)[keep].numpy().astype(np.uint8)
        masks = [text_mask(mask.encode(np.asfortranarray(pixels))) for pixels in decoded]
    count = int(keep.sum())
    size = (int(sample["image"].shape[-2]), int(sample["image"].shape[-1]))
    boxes = sample["boxes"].as_subclass(Tensor)[keep]
    return Detections(boxes, torch.full((count,), torch.nan), sample["labels"][keep], size, masks)
