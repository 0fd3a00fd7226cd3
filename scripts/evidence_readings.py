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
BACKGROUNDS = ("relative", "exclude", "exempt", "last_group", "singleton")
#: Forms of the dynamic ensemble, each at every τ.
FORMS: dict[str, dict[str, Any]] = {
    "dynamic": {"align": False},
    "dynamic, aligned": {},
    "dynamic, aligned, lse_scaled": {"lse_scaled": True},
    "dynamic, aligned, weights by raw logits": {"weigh_by": "raw"},
}


def readings() -> dict[str, dict[str, Any]]:
    """Name -> settings of ``longtail.mec.model.build_ensemble``."""
    found: dict[str, dict[str, Any]] = {
        "average of logits": {"name": "average", "average": "logits"},
        "average of probabilities": {"name": "average", "average": "probabilities"},
        "sparse": {"name": "sparse", "align": False},
    }
    for background in BACKGROUNDS:
        place = {"background": background}
        found |= {
            f"average of logits, aligned, {background}": {
                "name": "average",
                "align": True,
                "average": "logits",
                **place,
            },
            f"average of probabilities, aligned, {background}": {"name": "average", "align": True, **place},
            f"sparse, aligned, {background}": {"name": "sparse", **place},
            f"dynamic, aligned, {background}, τ = 1": {"name": "dynamic", **place},
        }
    for form, options in FORMS.items():
        found |= {f"{form}, τ = {tau:g}": {"name": "dynamic", "temperature": float(tau), **options} for tau in TAUS}
    logits = {"name": "average", "average": "logits"}
    aligned = {"name": "dynamic", "temperature": 5.0}
    for name, inner in (("average of logits", logits), ("dynamic, aligned, τ = 5", aligned)):
        found |= {
            f"{name}, NorCal {gamma:g}": {"name": "norcal", "gamma": gamma, "inner": inner}
            for gamma in (0.3, 0.6)
        }
        found |= {
            f"{name}, logit adjustment {tau:g}": {
                "name": "logit_adjustment",
                "tau": tau,
                "inner": inner,
            }
            for tau in (0.3, 0.5, 1.0)
        }
    return found


def read(folder: Path) -> None:
    """Score every reading of ``FOLDER/stages``; writes ``FOLDER/readings.json``."""
    import torch

    from longtail.detection.recording import recorded_ids, rescore
    from longtail.metrics.detection_arrays import DetectionArrays
    from longtail.metrics.detection_scorer import DetectionScorer
    from longtail.metrics.detection_truth import DetectionTruth
    from longtail.metrics.results import Prediction
    from longtail.models.score_stages import recorded_detector, stage_readouts

    torch.set_num_threads(1)
    stages = folder / "stages"
    detector, cascade = recorded_detector(stages)
    annotations = DATA / folder.parent.name / "annotations" / "val.json"
    ids = sorted(recorded_ids(stages))
    parts = {"all": ids, "half 1": ids[::2], "half 2": ids[1::2]}
    truths = {part: DetectionTruth.of_images(annotations, of) for part, of in parts.items()}
    own = [name for name in cascade.readouts() if name.startswith("stage_")]
    ways = stage_readouts(detector, readings(), own=own)
    scorers = {
        name: {
            part: DetectionScorer(truth, detector.groups, fixed=part == "all", pooled=False)
            for part, truth in truths.items()
        }
        for name in ways
    }
    half = {image: part for part in ("half 1", "half 2") for image in parts[part]}
    for done, (image, found) in enumerate(rescore(stages, ways, cascade.config.postprocess), start=1):
        for name, detections in found.items():
            boxes = DetectionArrays.collect([image], [detections])
            for part in ("all", half[image]):
                scorers[name][part].update([image], boxes)
        if done % 100 == 0:
            say(f"{folder.name}: {done} of {len(ids)} images read")

    def numbers(prediction: Prediction) -> dict[str, float | None]:
        values = {}
        for key, (metric, group) in METRICS.items():
            value = (prediction.overall if group is None else prediction.groups[group]).get(metric)
            if value is not None:
                values[key] = None if value != value else round(value, 6)
        return values

    record = {name: {part: numbers(s.compute()) for part, s in of.items()} for name, of in scorers.items()}
    lines = ",\n".join(f" {json.dumps(name, ensure_ascii=False)}: {json.dumps(of)}" for name, of in record.items())
    (folder / "readings.json").write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
