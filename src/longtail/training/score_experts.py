"""``score_experts``: ensembles of recorded experts by class and group, without running the network."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from longtail.ensembles.base import Ensemble, TrainableEnsemble
from longtail.ensembles.build import EnsembleSpec
from longtail.ensembles.fit import fit_ensemble
from longtail.errors import ConfigError, DataError
from longtail.json_files import check_kind, read_json
from longtail.metrics.results import Results
from longtail.models.segmenter import Segmenter
from longtail.models.weights_file import read_weights
from longtail.pixels import Upsampling
from longtail.progress import with_progress
from longtail.segmentation.method import ExpertMaps, read_ensemble
from longtail.segmentation.recording import count_maps, read_maps
from longtail.training.environment import environment
from longtail.training.evaluation import chosen_readouts
from longtail.training.segmentation_scores import SegmentationScores

_SOURCE = "recorded.json"
_ENSEMBLES = "ensembles.safetensors"
#: Pixels of each recorded image that a learned ensemble is fitted on.
_FITTED = 512


def describe_recording(folder: str | Path, segmenter: Segmenter, data: Mapping[str, Any]) -> None:
    """Write what scores recorded maps into their folder: the method's settings, its fitted ensembles and the data.

    Args:
        folder: Folder of the recording.
        segmenter: What was recorded.
        data: ``Results.data`` of the recorded split.
    """
    folder = Path(folder)
    segmenter.save_description(folder)
    fitted = _ensembles_of(segmenter)
    save_file({name: value.contiguous() for name, value in fitted.items()}, folder / _ENSEMBLES)
    (folder / _SOURCE).write_text(json.dumps(dict(data), indent=1) + "\n")


def recorded_segmenter(recording: str | Path, *, trust_code: bool = False) -> Segmenter:
    """The segmenter that a recording describes, its ensembles as they were fitted, its network untrained.

    Args:
        recording: Folder of ``longtail evaluate --record``.
        trust_code: Let the description name code outside this library.

    Raises:
        CheckpointError: The recording has no description, or ensembles that do not fit it.
    """
    segmenter = Segmenter.from_description(recording, trust_code=trust_code)
    path = Path(recording) / _ENSEMBLES
    weights = read_weights(path)
    if weights.keys() != _ensembles_of(segmenter).keys():
        raise DataError(f"{path} is not of the ensembles of {recording}/config.json", fix="record them again")
    segmenter.method.load_state_dict(weights, strict=False)
    return segmenter


def score_experts(
    recording: str | Path,
    ensembles: Mapping[str, EnsembleSpec] | None = None,
    *,
    fit_on: str | Path | None = None,
    readouts: Sequence[str] | None = None,
    bias: bool = False,
    progress: bool = False,
    trust_code: bool = False,
) -> Results:
    """Score ways to read recorded experts; the method's own equal those of its evaluation.

    Args:
        recording: Folder of ``longtail evaluate --record``.
        ensembles: Name -> any ensemble and its options, see ``build_ensemble``.
        fit_on: Recording of training images, on which ensembles with parameters are fitted.
        readouts: Readouts of the method to score; its own prediction where ``ensembles`` are given, else all.
        bias: Whether to measure the bias (MEDOE Eq. 9).
        progress: Whether to show how far it is.
        trust_code: Let the recording name code outside this library.

    Raises:
        ConfigError: An unknown readout or ensemble, a name twice, or an ensemble with parameters and nothing to fit it on.
        DataError: A broken recording.
    """
    segmenter = recorded_segmenter(recording, trust_code=trust_code)
    method = segmenter.method
    known = method.readouts()
    names = chosen_readouts(list(known), list(known)[:1] if ensembles and readouts is None else readouts)
    built = segmenter.ensembles(ensembles or {})
    taken = [name for name in built if name in known]
    if taken:
        raise ConfigError(f"ensemble {taken[0]!r} has the name of a readout of the method", fix="choose another name")
    if without := [name for name, ensemble in built.items() if ensemble.needs_features]:
        raise ConfigError(f"ensemble {without[0]!r} reads features, which are not recorded", fix="choose another")
    losses = _fitted(built, segmenter, fit_on)
    reading = {name: known[name] for name in names} | {name: read_ensemble(e) for name, e in built.items()}
    scores = SegmentationScores(method, reading, bias)
    number = count_maps(recording)
    with torch.inference_mode():
        for image in with_progress(read_maps(recording), number, "recorded images", shown=progress):
            logits = torch.stack([image.upsampling(own.unsqueeze(0)) for own in image.logits])
            scores.add(ExpertMaps(logits), image.target.unsqueeze(0))
    source = Path(recording) / _SOURCE
    data = check_kind(read_json(source, "the recorded data", "record them again"), dict[str, Any], source, "")
    return Results(
        task="segmentation",
        method=names[0],
        class_names=list(segmenter.class_names),
        groups=segmenter.groups.to_dict(),
        predictions=scores.predictions(segmenter.groups, segmenter.frequency),
        frequency=segmenter.frequency.to_dict(),
        data={**data, "images": number},
        settings={
            "recording": str(recording),
            "ensembles": dict(ensembles or {}),
            "groups_from": "those of training",
            **({"fitted_on": str(fit_on), "losses": losses} if losses else {}),
        },
        environment=environment(),
    )


def _fitted(ensembles: Mapping[str, Ensemble], segmenter: Segmenter, fit_on: str | Path | None) -> dict[str, float]:
    """Fit the ensembles that have parameters; returns their losses."""
    trainable = {name: e for name, e in ensembles.items() if isinstance(e, TrainableEnsemble)}
    if not trainable:
        return {}
    if fit_on is None:
        raise ConfigError(
            f"ensemble {next(iter(trainable))!r} is learned, and there is nothing to fit it on",
            fix="record training images (longtail evaluate RUN --split train --record FOLDER), and name them with --fit",
        )
    logits, target = sampled_pixels(fit_on, segmenter.method.ignore_index)
    if logits.shape[::2] != (segmenter.num_experts, segmenter.method.num_logits):
        raise DataError(f"{fit_on} is a recording of other experts", fix="record the same run on its training images")
    return {
        name: fit_ensemble(ensemble, logits, target, ignore_index=segmenter.method.ignore_index)
        for name, ensemble in trainable.items()
    }


def sampled_pixels(recording: str | Path, ignore_index: int = 255, per_image: int = _FITTED) -> tuple[Tensor, Tensor]:
    """Logits (experts, pixels, classes) and labels of random labelled pixels, the same share of every image.

    Args:
        recording: Folder of the recording.
        ignore_index: Value of pixels without a label, of which none is drawn.
        per_image: Pixels drawn of an image.

    Raises:
        DataError: No pixel has a label.
    """
    generator = torch.Generator().manual_seed(0)
    logits, labels = [], []
    for image in read_maps(recording):
        chosen = torch.zeros_like(image.target, dtype=torch.bool)
        places = (image.target != ignore_index).flatten().nonzero().flatten()
        places = places[torch.randperm(len(places), generator=generator)[:per_image]]
        chosen.view(-1)[places] = True
        upsampling = image.upsampling
        if upsampling.size != tuple(image.target.shape):  # the network saw the image at another size
            whole = torch.stack([upsampling(own.unsqueeze(0))[0] for own in image.logits])
            maps, upsampling = whole, Upsampling((image.target.shape[0], image.target.shape[1]))
        else:
            maps = image.logits
        drawn = chosen.unsqueeze(0)
        logits.append(torch.stack([upsampling.at(own.unsqueeze(0), drawn) for own in maps]))
        labels.append(image.target[chosen])
    found = torch.cat(labels)
    if not len(found):
        raise DataError(f"{recording} has no labelled pixel", fix="record images with labels")
    return torch.cat(logits, dim=1), found


def _ensembles_of(segmenter: Segmenter) -> dict[str, Tensor]:
    """Parameters of the method's ensembles."""
    state = segmenter.method.state_dict()
    return {name: value for name, value in state.items() if name.startswith(("ensemble.", "comparisons."))}
