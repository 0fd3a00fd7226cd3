"""``evaluate_segmentation``: every way to read a segmentation method, scored in one pass over a data set."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longtail.datasets.base import SegmentationDataset
from longtail.datasets.pairs import ImageLabelPairs
from longtail.diagnosis.failure_file import save_failures
from longtail.diagnosis.label_failures import photos_named, region_failures
from longtail.distributed import all_gather_objects, is_main_process
from longtail.ensembles.base import Ensemble
from longtail.errors import ConfigError
from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.metrics.label_diagnosis import LabelDiagnosis
from longtail.metrics.label_regions import Region, wrong_regions
from longtail.metrics.results import Results
from longtail.models.segmenter import Segmenter
from longtail.segmentation.method import ExpertMaps, Readout, SegmentationMethod, read_ensemble
from longtail.segmentation.recording import MapRecorder
from longtail.segmentation.tiling import expert_maps
from longtail.training.environment import environment
from longtail.training.evaluation import chosen_readouts, counts_for, evaluating, limited, share_of_rank
from longtail.training.score_experts import describe_recording
from longtail.training.segmentation_pictures import SegmentationPictures
from longtail.training.segmentation_scores import SegmentationScores
from longtail.transforms import segmentation_eval


@torch.inference_mode()
def evaluate_segmentation(
    segmenter: SegmentationMethod | Segmenter,
    dataset: SegmentationDataset,
    *,
    groups: CategoryGroups | None = None,
    frequency: ClassFrequency | None = None,
    readouts: Iterable[str] | None = None,
    ensembles: Mapping[str, Ensemble] | None = None,
    batch_size: int = 1,
    sliding_window: Sequence[int] | None = None,
    stride: Sequence[int] | None = None,
    workers: int = 0,
    bias: bool = True,
    diagnose: bool = True,
    pictures: int = 6,
    pictures_dir: str | Path | None = None,
    training: SegmentationDataset | None = None,
    recording: str | Path | None = None,
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
        ensembles: Other ensembles of the experts to read as well, by name.
        batch_size: Images at a time, where their sizes agree.
        sliding_window: Height and width of windows over the image; the whole image where not given.
        stride: Step of the windows, two thirds of them by default.
        workers: Processes that load images.
        bias: Whether to measure the bias of the method and of every expert (MEDOE Eq. 9), at the price of a softmax.
        diagnose: Whether to find boundary IoU, where wrong pixels go, and scores image by image for intervals.
        pictures: How many images to write, those with most of the rarest classes.
        pictures_dir: Where to write them; none are written where not given.
        recording: Folder in which to record the experts' logits, for ``score_experts``; needs a ``Segmenter``.
        training: Training images, for examples next to the pictures of failures.
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
    frequency = counts_for(segmenter, dataset, frequency)
    if not isinstance(segmenter, SegmentationMethod):
        groups, preprocess = groups or segmenter.groups, segmenter.preprocess
        scaled = segmenter.photos.value_range is not None
    if groups is None:
        raise ConfigError("no groups to score by", fix="pass groups=CategoryGroups.…")
    size = limited(dataset, limit)
    known = method.readouts()
    chosen: dict[str, Readout] = {name: known[name] for name in chosen_readouts(list(known), readouts)}
    chosen |= {name: read_ensemble(ensemble) for name, ensemble in (ensembles or {}).items()}
    scores = SegmentationScores(method, chosen, bias)
    if recording is not None and (sliding_window or isinstance(segmenter, SegmentationMethod)):
        what = "averages of windows" if sliding_window else "a method without its classes"
        raise ConfigError(f"{what} cannot be recorded", fix="record a Segmenter that reads whole images")
    recorder = None if recording is None else MapRecorder(recording)
    device = next(method.parameters()).device
    book = None
    if pictures_dir is not None and pictures and method.num_classes <= 255:
        book = SegmentationPictures(Path(pictures_dir), pictures, groups)
    own = next(iter(scores.readouts))
    diagnosis = LabelDiagnosis(method.num_classes, method.ignore_index) if diagnose else None
    with evaluating(method), recorder or nullcontext():
        for batch in share_of_rank(dataset, size, batch_size, workers, progress):
            for indices, names, images, masks in _stacked(batch, preprocess, scaled):
                target = masks.to(device)
                if recorder is None:
                    maps = expert_maps(method, images.to(device), sliding_window, stride)
                else:
                    maps = _recorded_maps(method, images.to(device), target, recorder)
                labels = scores.add(maps, target)
                if diagnosis is not None:
                    for name, found, truth in zip(names, labels[own], target, strict=True):
                        matrix, bands = diagnosis.look(found, truth)
                        diagnosis.add(name, matrix, bands, [] if book is None else _regions(method, name, found, truth))
                if book is not None:
                    book.consider(indices, names, target, labels)
    if book is not None:
        book.write(dataset, list(scores.readouts))
    predictions = scores.predictions(groups, frequency)
    if diagnosis is not None:
        diagnosis.merge(all_gather_objects(diagnosis))
        diagnosis.complete(predictions[own], scores.confusion[own].compute(), groups)
        if book is not None and isinstance(dataset, ImageLabelPairs) and is_main_process():
            photo = photos_named({name: image for name, image, _ in dataset.pairs})
            save_failures(region_failures(diagnosis, dataset.classes.names, photo, training), book.folder)
    told = {**(data or {}), "images": size, "fingerprint": dataset.fingerprint}
    if recorder is not None and isinstance(segmenter, Segmenter) and is_main_process():
        describe_recording(recorder.folder, segmenter, told)
    return Results(
        task="segmentation",
        method=own,
        class_names=list(dataset.classes.names),
        groups=groups.to_dict(),
        predictions=predictions,
        images={} if diagnosis is None else {own: diagnosis.images},
        frequency=None if frequency is None else frequency.to_dict(),
        data=told,
        settings={**(settings or {}), "groups_from": groups_from},
        seed=seed,
        environment=environment(),
    )


def _regions(method: SegmentationMethod, name: str, labels: Tensor, target: Tensor) -> list[Region]:
    """Wrong pixels of an image, for the pictures of failures."""
    return wrong_regions(name, labels.cpu().numpy(), target.cpu().numpy(), method.ignore_index)


def _recorded_maps(method: SegmentationMethod, images: Tensor, target: Tensor, recorder: MapRecorder) -> ExpertMaps:
    """The experts' maps, which are recorded below the image's size."""
    logits, upsampling = method.low_maps(images)
    recorder.add(logits, upsampling, target)
    return ExpertMaps(torch.stack([upsampling(own) for own in logits]))


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
