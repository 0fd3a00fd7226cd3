"""Score many readings of a detector's recorded stages, on all of val and on its two halves."""

import json
from pathlib import Path
from typing import Any

from pages import DATA, say

#: Metric in the record -> (metric of a prediction, group).
METRICS: dict[str, tuple[str, str | None]] = {
    "AP": ("AP", None),
    "AP50": ("AP50", None),
    "AP75": ("AP75", None),
    "AP_fixed": ("AP_fixed", None),
    "r": ("AP", "rare"),
    "c": ("AP", "common"),
    "f": ("AP", "frequent"),
    "r_fixed": ("AP_fixed", "rare"),
}
TAUS = (0.5, 1, 2, 5, 10)
#: Calibrations of the average of logits, and of the aligned dynamic ensemble at τ = 5.
CALIBRATIONS: dict[str, dict[str, Any]] = {
    **{f"NorCal {gamma:g}": {"name": "norcal", "gamma": gamma} for gamma in (0.3, 0.6)},
    **{f"logit adjustment {tau:g}": {"name": "logit_adjustment", "tau": tau} for tau in (0.3, 0.5, 1.0)},
}
#: More detections of an image than there are.
_NO_LIMIT = 1_000_000
BACKGROUNDS = ("relative", "exclude", "exempt", "last_group", "singleton")
#: Forms of the dynamic ensemble, each at every τ.
FORMS: dict[str, dict[str, Any]] = {
    "dynamic": {"align": False},
    "dynamic, aligned": {},
    "dynamic, aligned, lse_scaled": {"lse_scaled": True},
    "dynamic, aligned, weights by raw logits": {"weigh_by": "raw"},
}


def readings(background: bool = True) -> dict[str, dict[str, Any]]:
    """Name -> settings of ``longtail.mec.model.build_ensemble``.

    Args:
        background: Whether the classifiers have an output for the background; sigmoids have none.
    """
    found: dict[str, dict[str, Any]] = {
        "average of logits": {"name": "average", "average": "logits"},
        "average of probabilities": {"name": "average", "average": "probabilities"},
        "sparse": {"name": "sparse", "align": False},
    }
    for policy in BACKGROUNDS if background else BACKGROUNDS[:1]:
        place = {"background": policy}
        found |= {
            f"average of logits, aligned, {policy}": {
                "name": "average",
                "align": True,
                "average": "logits",
                **place,
            },
            f"average of probabilities, aligned, {policy}": {"name": "average", "align": True, **place},
            f"sparse, aligned, {policy}": {"name": "sparse", **place},
            f"dynamic, aligned, {policy}, τ = 1": {"name": "dynamic", **place},
        }
    for form, options in FORMS.items():
        found |= {f"{form}, τ = {tau:g}": {"name": "dynamic", "temperature": float(tau), **options} for tau in TAUS}
    logits = {"name": "average", "average": "logits"}
    aligned = {"name": "dynamic", "temperature": 5.0}
    for name, inner in (("average of logits", logits), ("dynamic, aligned, τ = 5", aligned)):
        found |= {
            f"{name}, {calibration}": {**options, "inner": inner} for calibration, options in CALIBRATIONS.items()
        }
    return found


#: Readings that are also scored by AP-fixed, whose detections have no limit an image.
FIXED = (
    "average of logits",
    "average of probabilities",
    "average of logits, aligned, relative",
    "sparse, aligned, relative",
    "dynamic, τ = 1",
    "dynamic, aligned, τ = 1",
    "dynamic, aligned, τ = 5",
    *(f"average of logits, {name}" for name in CALIBRATIONS),
)


def read(folder: Path, out: Path | None = None) -> None:
    """Score every reading of ``FOLDER/stages`` that ``out`` does not have yet.

    Args:
        folder: A run folder; nothing else in it is written.
        out: File to write; ``FOLDER/readings.json`` where not given.
    """
    import torch

    from longtail.models.score_stages import recorded_detector, stage_readouts

    torch.set_num_threads(1)
    stages, out = folder / "stages", out or folder / "readings.json"
    detector, cascade = recorded_detector(stages)
    own = [name for name in cascade.readouts() if name.startswith("stage_")]
    sigmoids = getattr(cascade.logit_reading(), "absolute_logits", False)
    ways = stage_readouts(detector, readings(background=not sigmoids), own=own)
    record = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {}
    for name, of in _scored(folder, {n: way for n, way in ways.items() if n not in record}, fixed=False).items():
        record[name] = {part: {k: v for k, v in values.items() if "fixed" not in k} for part, values in of.items()}
    _write(record, out)
    missing = {name: ways[name] for name in FIXED if "AP_fixed" not in record[name]["all"]}
    for name, of in _scored(folder, missing, fixed=True).items():
        record[name]["all"] |= {key: value for key, value in of["all"].items() if "fixed" in key}
    _write(record, out)


def _scored(folder: Path, ways: dict[str, Any], *, fixed: bool) -> dict[str, dict[str, dict[str, float | None]]]:
    """Reading -> part of the images -> numbers.

    AP-fixed is scored alone: the detector's limit an image would cut what it counts.
    """
    from dataclasses import replace

    from longtail.detection.recording import recorded_ids, rescore
    from longtail.metrics.detection_arrays import DetectionArrays
    from longtail.metrics.detection_scorer import DetectionScorer
    from longtail.metrics.detection_truth import DetectionTruth
    from longtail.models.score_stages import recorded_detector

    if not ways:
        return {}
    stages = folder / "stages"
    detector, cascade = recorded_detector(stages)
    settings = cascade.postprocess
    settings = replace(settings, max_detections=_NO_LIMIT) if fixed else settings
    ids = sorted(recorded_ids(stages))
    parts = {"all": ids} if fixed else {"all": ids, "half 1": ids[::2], "half 2": ids[1::2]}
    annotations = DATA / folder.parent.name / "annotations" / "val.json"
    whole = DetectionTruth(annotations)
    truths = {part: whole.only(of) for part, of in parts.items()}
    scorers = {
        name: {
            part: DetectionScorer(truth, detector.groups, fixed=fixed, pooled=False) for part, truth in truths.items()
        }
        for name in ways
    }
    places = {image: [part for part, of in parts.items() if image in set(of)] for image in ids}
    for done, (image, found) in enumerate(rescore(stages, ways, settings), start=1):
        for name, detections in found.items():
            boxes = DetectionArrays.collect([image], [detections])
            for part in places[image]:
                scorers[name][part].update([image], boxes)
        if done % 100 == 0:
            say(f"{folder.name}: {done} of {len(ids)} images read")
    return {name: {part: _numbers(s.compute()) for part, s in of.items()} for name, of in scorers.items()}


def _numbers(prediction: Any) -> dict[str, float | None]:
    values: dict[str, float | None] = {}
    for key, (metric, group) in METRICS.items():
        value = (prediction.overall if group is None else prediction.groups[group]).get(metric)
        if value is not None:
            values[key] = None if value != value else round(value, 6)
    return values


def _write(record: dict[str, Any], out: Path) -> None:
    lines = ",\n".join(f" {json.dumps(name, ensure_ascii=False)}: {json.dumps(of)}" for name, of in record.items())
    out.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
