"""``evaluate_segmentation``: every way to read a segmentation method, scored in one pass over a data set."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Integer
from torch import Tensor
from torch.nn import functional as F

from longtail.datasets.base import SegmentationDataset
from longtail.distributed import all_gather_objects
from longtail.errors import ConfigError
from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.metrics.bias import ClassBias
from longtail.metrics.by_group import segmentation_prediction
from longtail.metrics.confusion import ConfusionMatrix
from longtail.metrics.label_diagnosis import LabelDiagnosis
from longtail.metrics.results import Results
from longtail.models.segmenter import Segmenter
from longtail.segmentation.method import ExpertMaps, SegmentationMethod
from longtail.segmentation.tiling import expert_maps
from longtail.training.environment import environment
from longtail.training.evaluation import (
    check_same_classes,
    check_same_photos,
    chosen_readouts,
    evaluating,
    limited,
    share_of_rank,
)
from longtail.training.segmentation_pictures import SegmentationPictures
from longtail.transforms import segmentation_eval

#: Elements of a probability map that are looked at together: memory stays flat.
_BLOCK = 1 << 24


@torch.inference_mode()
def evaluate_segmentation(
    segmenter: SegmentationMethod | Segmenter,
    dataset: SegmentationDataset,
    *,
    groups: CategoryGroups | None = None,
    frequency: ClassFrequency | None = None,
    readouts: Iterable[str] | None = None,
    batch_size: int = 1,
    sliding_window: Sequence[int] | None = None,
    stride: Sequence[int] | None = None,
    workers: int = 0,
    bias: bool = True,
    diagnose: bool = True,
    pictures: int = 6,
    pictures_dir: str | Path | None = None,
    limit: int | None = None,
    progress: bool = False,
    data: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
    seed: int | None = None,
) -> Results:
    """Score a method on labelled images; under several ranks each takes its share, and all get the result.

    Images go through the network once; every readout then reads the experts' maps. Labels are scored at their own
    size: where the transform resized the image, the maps are upsampled.

    Args:
        segmenter: A method on the device to compute on, or a ``Segmenter`` with all that it knows.
        dataset: Labelled images; where it has no transform, the segmenter's preprocessing is used.
        groups: Groups of the classes; the segmenter's where not given, as ``settings["groups_from"]`` of the result says.
        frequency: Counts of the training split; the segmenter's where not given.
        readouts: Names of the readouts wanted; all where not given.
        batch_size: Images at a time, where their sizes agree.
        sliding_window: Height and width of windows over the image; the whole image where not given.
        stride: Step of the windows, two thirds of them by default.
        workers: Processes that load images.
        bias: Whether to measure the bias of the method and of every expert (MEDOE Eq. 9), at the price of a softmax.
        diagnose: Whether to find boundary IoU, where wrong pixels go, and scores image by image for intervals.
        pictures: How many images to write, those with most of the rarest classes.
        pictures_dir: Where to write them; none are written where not given.
        limit: Look at the first images only.
        progress: Show a bar on a terminal.
        data: Other entries of ``Results.data`` than split, images and fingerprint.
        settings: Entries of ``Results.settings``.
        seed: Value of ``Results.seed``.

    Raises:
        ConfigError: An unknown readout, missing groups, a limit below 1, or windows with an ensemble that reads features.
        DataError: An image cannot be read, or holds a value that is no class; or the data set has other classes than
            the segmenter.
    """
    method = segmenter if isinstance(segmenter, SegmentationMethod) else segmenter.method
    preprocess, scaled = None, False
    groups_from = "argument" if groups else "those of training"
    if not isinstance(segmenter, SegmentationMethod):
        groups, frequency = groups or segmenter.groups, frequency or segmenter.frequency
        preprocess = segmenter.preprocess
        check_same_photos(dataset, segmenter.photos)
        scaled = segmenter.photos.value_range is not None
        check_same_classes(
            "the data set",
            dataset.classes.names,
            "the model",
            segmenter.class_names,
            fix="evaluate on a data set of the same classes in the same order (classes.json names them)",
        )
    if frequency is not None:
        frequency = frequency.in_order_of(dataset.classes.names, "the data set")
    if groups is None:
        raise ConfigError("no groups to score by", fix="pass groups=CategoryGroups.…")
    size = limited(dataset, limit)
    scores = _Scores(method, chosen_readouts(list(method.readouts()), readouts), bias)
    device = next(method.parameters()).device
    book = None
    if pictures_dir is not None and pictures and method.num_classes <= 255:
        book = SegmentationPictures(Path(pictures_dir), pictures, groups)
    own = next(iter(scores.readouts))
    diagnosis = LabelDiagnosis(method.num_classes, method.ignore_index) if diagnose else None
    with evaluating(method):
        for batch in share_of_rank(dataset, size, batch_size, workers, progress):
            for indices, names, images, masks in _stacked(batch, preprocess, scaled):
                target = masks.to(device)
                maps = expert_maps(method, images.to(device), sliding_window, stride)
                maps = _at_label_size(maps, target.shape[-2:])
                labels = scores.add(maps, target)
                for place, name in enumerate(names if diagnosis is not None else ()):
                    diagnosis.add(name, *diagnosis.look(labels[own][place], target[place]))  # type: ignore[union-attr]
                if book is not None:
                    book.consider(indices, names, target, labels)
    if book is not None:
        book.write(dataset, list(scores.readouts))
    predictions = scores.predictions(groups, frequency)
    if diagnosis is not None:
        diagnosis.merge(all_gather_objects(diagnosis))
        diagnosis.complete(predictions[own], scores.confusion[own].compute(), groups)
    return Results(
        task="segmentation",
        method=own,
        class_names=list(dataset.classes.names),
        groups=groups.to_dict(),
        predictions=predictions,
        images={} if diagnosis is None else {own: diagnosis.images},
        frequency=None if frequency is None else frequency.to_dict(),
        data={**(data or {}), "images": size, "fingerprint": dataset.fingerprint},
        settings={**(settings or {}), "groups_from": groups_from},
        seed=seed,
        environment=environment(),
    )


def _at_label_size(maps: ExpertMaps, size: Sequence[int]) -> ExpertMaps:
    experts, n, _, height, width = maps.logits.shape
    if (height, width) == tuple(size):
        return maps
    logits = F.interpolate(maps.logits.flatten(0, 1), tuple(size), mode="bilinear", align_corners=False)
    return maps._replace(logits=logits.unflatten(0, (experts, n)))


class _Scores:
    """Confusion matrix of every readout, bias of the method and of every expert."""

    def __init__(self, method: SegmentationMethod, names: Sequence[str], bias: bool) -> None:
        known = method.readouts()
        device = next(method.parameters()).device
        classes, ignore = method.num_classes, method.ignore_index
        self.method = method
        self.readouts = {name: known[name] for name in names}
        self.confusion = {name: ConfusionMatrix(classes, ignore).to(device) for name in names}
        self.own = next(iter(known))
        measured = [name for name in names if name == self.own or name.startswith("expert_")]
        self.bias = {name: ClassBias(classes, ignore).to(device) for name in measured} if bias else {}

    def add(self, maps: ExpertMaps, target: Integer[Tensor, "n h w"]) -> dict[str, Tensor]:
        """Count a batch; returns the label map of every readout."""
        labels = {name: read(maps, target) for name, read in self.readouts.items()}
        for name, predicted in labels.items():
            self.confusion[name].update(predicted, target)
        if maps.features is not None:
            self.bias.pop(self.own, None)  # an ensemble that reads features cannot be read in blocks
        for name, metric in self.bias.items():
            for rows in _row_blocks(maps.logits[0]):
                logits = maps.logits[..., rows, :]
                if name == self.own:
                    read = self.method.own_probabilities(logits)
                else:
                    read = self.method.probabilities(logits[int(name.removeprefix("expert_")) - 1])
                metric.update(read, target[..., rows, :])
        return labels

    def predictions(self, groups: CategoryGroups, frequency: ClassFrequency | None) -> dict[str, Any]:
        """Scores of every readout, of all ranks together."""
        return {
            name: segmentation_prediction(
                confusion.compute(),
                groups,
                frequency,
                bias=self.bias[name].compute() if name in self.bias else None,
            )
            for name, confusion in self.confusion.items()
        }


def _row_blocks(logits: Tensor) -> Iterator[slice]:
    n, classes, height, width = logits.shape
    rows = max(1, _BLOCK // (n * classes * width))
    for top in range(0, height, rows):
        yield slice(top, top + rows)


def _stacked(
    batch: list[tuple[int, Any]], preprocess: Callable[[Tensor], Tensor] | None, scaled: bool
) -> Iterator[tuple[list[int], list[str], Tensor, Tensor]]:
    """Indices, names, images and masks: as one batch where all sizes agree, else one by one."""
    prepared = []
    for index, sample in batch:
        image = sample["image"]
        if image.dtype == torch.uint8 or (scaled and "original_size" not in sample):
            image = preprocess(image) if preprocess else segmentation_eval()({"image": image})["image"]
        prepared.append((index, sample["name"], image.as_subclass(Tensor), sample["mask"].as_subclass(Tensor)))
    together = len({(image.shape, mask.shape) for _, _, image, mask in prepared}) == 1
    for part in [prepared] if together else [[one] for one in prepared]:
        indices, names, images, masks = zip(*part, strict=True)
        yield list(indices), list(names), torch.stack(images), torch.stack(masks)
