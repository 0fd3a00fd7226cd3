"""Simple copy-paste: rare objects of other images are pasted into an image, masks and boxes included."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.ops import masks_to_boxes
from torchvision.transforms.v2 import functional as F

from longtail.errors import ConfigError, DataError
from longtail.transforms.segmentation import nearest_labels


class CopyPaste:
    """Paste the objects of one class of another image into some of the images.

    The class is drawn with a weight of one over the square root of the images that show it; then one of these images. Its
    objects of the class, at most ``most``, are scaled and placed at random. What they cover of other objects is cut
    from their masks and boxes, and objects without a pixel left are dropped.

    All randomness comes from torch's global generator.

    Args:
        dataset: Stored samples with masks, by index.
        image_labels: Classes of the objects of every image that may be drawn.
        probability: Share of the images that something is pasted into.
        scale: Smallest and largest factor on the size of pasted objects.
        most: Most objects pasted into an image.

    Raises:
        ConfigError: A setting out of its range.
        DataError: No image shows an object.

    Source: Ghiasi et al. 2021 (Simple Copy-Paste); the weights are of Gupta et al. 2019 without a threshold.
    """

    def __init__(
        self,
        dataset: Any,
        image_labels: Sequence[np.ndarray],
        probability: float,
        scale: tuple[float, float] = (0.5, 1.5),
        most: int = 8,
    ) -> None:
        if not 0 <= probability <= 1 or not 0 < scale[0] <= scale[1] or most < 1:
            raise ConfigError(
                f"copy-paste with probability={probability}, scale={scale}, most={most}",
                fix="give a probability in [0, 1], scales 0 < low <= high and at least one object",
            )
        self.images: dict[int, list[int]] = {}
        for image, labels in enumerate(image_labels):
            for label in np.unique(labels).tolist():
                self.images.setdefault(label, []).append(image)
        if not self.images:
            raise DataError("there is no object to paste", fix="set augmentation.copy_paste to 0")
        self.dataset, self.probability, self.scale, self.most = dataset, probability, scale, most
        self.classes = sorted(self.images)
        self.weights = torch.tensor([len(self.images[label]) ** -0.5 for label in self.classes])

    def __call__(self, sample: dict[str, Any]) -> dict[str, Any]:
        """The sample, with objects pasted in or as it is."""
        if not self.probability or float(torch.rand(())) >= self.probability:
            return sample
        label = self.classes[int(torch.multinomial(self.weights, 1))]
        candidates = self.images[label]
        source = self.dataset[candidates[int(torch.randint(len(candidates), ()))]]
        wanted = (source["labels"] == label) & ~source["crowd"].bool()
        found = wanted.nonzero().flatten()
        for index in found[torch.randperm(len(found))[: self.most]].tolist():
            sample = self._with(sample, source, index)
        return sample

    def _with(self, sample: dict[str, Any], source: dict[str, Any], index: int) -> dict[str, Any]:
        """The sample with one object of another one at a random place."""
        mask = source["masks"][index].as_subclass(Tensor).bool()
        if not mask.any():
            return sample
        left, top, right, bottom = masks_to_boxes(mask.unsqueeze(0))[0].long().tolist()
        rows, columns = slice(top, bottom + 1), slice(left, right + 1)
        height, width = sample["image"].shape[-2:]
        drawn = self.scale[0] + (self.scale[1] - self.scale[0]) * float(torch.rand(()))
        factor = min(drawn, height / (bottom + 1 - top), width / (right + 1 - left))
        size = (max(1, int((bottom + 1 - top) * factor)), max(1, int((right + 1 - left) * factor)))
        patch = F.resize_image(source["image"].as_subclass(Tensor)[..., rows, columns], list(size), antialias=True)
        y, x = (int(torch.randint(whole - part + 1, ())) for whole, part in zip((height, width), size, strict=True))
        return paste(sample, patch, nearest_labels(mask[rows, columns], size), int(source["labels"][index]), (y, x))


def paste(sample: dict[str, Any], patch: Tensor, mask: Tensor, label: int, place: tuple[int, int]) -> dict[str, Any]:
    """A sample with an object in front of all others; the sample itself stays as it is.

    Args:
        sample: Image, boxes, labels, masks and crowd flags.
        patch: (bands, h, w) values of the object.
        mask: (h, w) its pixels.
        label: Its class.
        place: Row and column of the patch's upper left pixel.
    """
    if not mask.any():
        return sample
    window = (..., slice(place[0], place[0] + mask.shape[0]), slice(place[1], place[1] + mask.shape[1]))
    image = sample["image"].as_subclass(Tensor).clone()
    image[window] = torch.where(mask, patch.to(image.dtype), image[window])
    before = sample["masks"].as_subclass(Tensor).bool()
    old = before.clone()
    old[window] &= ~mask
    new = torch.zeros(1, *image.shape[-2:], dtype=torch.bool)
    new[window] = mask
    covered = (old != before).flatten(1).any(dim=1)
    stays = ~covered | old.flatten(1).any(dim=1)
    boxes = sample["boxes"].as_subclass(Tensor).clone()
    boxes[covered & stays] = _boxes(old[covered & stays]).to(boxes.dtype)
    masks = torch.cat([old[stays], new]).to(sample["masks"].dtype)
    return {
        **sample,
        "image": tv_tensors.wrap(image, like=sample["image"]),
        "boxes": tv_tensors.wrap(torch.cat([boxes[stays], _boxes(new).to(boxes.dtype)]), like=sample["boxes"]),
        "labels": torch.cat([sample["labels"][stays], sample["labels"].new_tensor([label])]),
        "masks": tv_tensors.wrap(masks, like=sample["masks"]),
        "crowd": torch.cat([sample["crowd"][stays], sample["crowd"].new_zeros(1)]),
    }


def _boxes(masks: Tensor) -> Tensor:
    """Boxes around masks, with exclusive ends."""
    if not len(masks):
        return torch.zeros(0, 4)
    return masks_to_boxes(masks) + torch.tensor([0.0, 0.0, 1.0, 1.0])
