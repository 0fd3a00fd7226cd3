"""``results.json``: one versioned record of an evaluation, the same for segmentation and detection.

The file is one JSON object. Scores are fractions in [0, 1]; undefined values (a class without pixels, an empty
group) is null, never NaN::

    {
      "schema": "longtail-results/1",
      "task": "segmentation" | "detection",
      "method": NAME,                                     its own prediction is predictions[NAME]
      "class_names": [C names],
      "groups": {GROUP: [class ids]},                     a partition of 0 … C-1, in the method's order
      "predictions": {
        NAME | "oracle" | "expert_1" …: {                 one entry for each way to predict; the method's own comes first
          "overall":   {METRIC: number | null},
          "groups":    {GROUP: {METRIC: number | null}},
          "per_class": {METRIC: [C numbers or nulls]},
          "extra":     {…}
        }
      },
      "frequency": {"class_names", "images", "pixels", "instances"} | null,
      "data": {"name", "split", "images", "fingerprint", …},
      "settings": {…},  "seed": int | null,  "environment": {…},
      "training": {"memory_gb": number, "positives": {STAGE: {GROUP: number}}}
    }

Segmentation: ``overall`` has mIoU, mAcc, aAcc (and ``bias``, ``bias_01``); groups the means of their classes;
``per_class`` IoU and Acc (and the biases); ``extra`` as ``by_group.segmentation_prediction`` writes it: ``confusion``
(C x C pixels, rows truth, up to 255 classes), ``top_confusions`` ([truth, predicted, pixels, pixels of
the truth]), ``uniform``, ``pearson``, ``fp_fn_by_group``, ``flows`` (see ``metrics.label_flows``). Detection: AP, AP50,
AP75 and so on under the same four keys; ``extra`` as ``metrics.detection_diagnosis`` writes it.

A reader must skip metrics and ``extra`` entries that it does not know; they may be added within a schema version.
"""

import json
import math
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

from longtail.errors import DataError
from longtail.files import saving, write_text
from longtail.json_files import check_kind, read_json
from longtail.metrics.image_scores import ImageScores, save_image_scores

SCHEMA = "longtail-results/1"
_FIX = "evaluate again"
_Scores = dict[str, float | None]


class _Uniform(TypedDict):
    method: str
    overall: _Scores
    groups: dict[str, _Scores]
    per_class: dict[str, list[float | None]]


class _Errors(TypedDict):
    groups: dict[str, _Scores]
    mass: dict[str, dict[str, float]]


class _Kinds(TypedDict):
    cost: dict[str, list[float | None]]
    counts: dict[str, list[int]]
    lost: list[int]
    confused: list[list[int]]


class _Flows(TypedDict):
    band: float
    groups: dict[str, dict[str, list[int]]]
    classes: list[list[int]]


class _Extra(TypedDict):
    errors: NotRequired[_Kinds]
    operating_points: NotRequired[dict[str, list[float | None]]]
    curves: NotRequired[dict[str, dict[str, list[float | None]]]]
    flows: NotRequired[_Flows]
    class_pixels: NotRequired[list[int]]
    class_band: NotRequired[list[int]]
    shown: NotRequired[dict[str, list[float]]]
    confusion: NotRequired[list[list[int]]]
    top_confusions: NotRequired[list[list[int]]]
    pearson: NotRequired[_Scores]
    uniform: NotRequired[_Uniform]
    fp_fn_by_group: NotRequired[_Errors]
    calibration: NotRequired[dict[str, dict[str, list[float | None]]]]
    mask_calibration: NotRequired[dict[str, dict[str, list[float | None]]]]


class _Prediction(TypedDict):
    overall: _Scores
    groups: NotRequired[dict[str, _Scores]]
    per_class: NotRequired[dict[str, list[float | None]]]
    extra: NotRequired[_Extra]


class _Data(TypedDict):
    notes: NotRequired[list[str]]


class _Record(TypedDict):
    task: Literal["segmentation", "detection"]
    method: str
    class_names: list[str]
    groups: dict[str, list[int]]
    predictions: dict[str, _Prediction]
    frequency: NotRequired[dict[str, Any] | None]
    data: NotRequired[_Data]
    settings: NotRequired[dict[str, Any]]
    seed: NotRequired[int | None]
    environment: NotRequired[dict[str, Any]]
    training: NotRequired[dict[str, Any]]


@dataclass
class Prediction:
    """Scores of one way to predict: the method itself, a baseline, its oracle, one expert or stage.

    Args:
        overall: Metric -> value in [0, 1]; segmentation: mIoU, mAcc, aAcc; detection: AP, AP50, ….
        groups: Group -> metric -> value.
        per_class: Metric -> C values, None where a metric is undefined for a class.
        extra: Other analyses by name (uniform evaluation, correlation, bias, …).
    """

    overall: dict[str, float | None]
    groups: dict[str, dict[str, float | None]] = field(default_factory=dict)
    per_class: dict[str, list[float | None]] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass
class Results:
    """All results of an evaluation, and what reproduces them.

    Args:
        task: ``segmentation`` or ``detection``.
        method: Name of the method evaluated; also the key of its own prediction.
        class_names: Names of the C classes.
        groups: Group -> class ids.
        predictions: Name of a way to predict -> its scores. The first is the method's own.
        frequency: ``ClassFrequency.to_dict()`` of the training split, or None.
        data: Name, split, number of images and fingerprint of the evaluated data.
        settings: Resolved configuration of the run.
        seed: Seed of the run, or None.
        environment: Versions and machine, as ``longtail info`` prints them.
        training: Measured while training, see ``training.metrics_file.measured``.
        images: Name of a way to predict -> its scores image by image, where they were kept: not in the JSON file, but
            in one of the same name that ends in ``.npz``.
    """

    task: Literal["segmentation", "detection"]
    method: str
    class_names: list[str]
    groups: dict[str, list[int]]
    predictions: dict[str, Prediction]
    frequency: dict[str, Any] | None = None
    data: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    environment: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    images: dict[str, ImageScores] = field(default_factory=dict, repr=False, compare=False)

    def save(self, path: str | Path) -> None:
        """Write the record, and next to it the scores image by image; an existing file is replaced by a whole one.

        Raises:
            ConfigError: It cannot be written.
        """
        per_image = images_file(path)
        with saving(per_image):
            per_image.unlink(missing_ok=True)  # what is there is of other scores
        write_text(Path(path), self.to_json())
        if self.images:
            save_image_scores(self.images, per_image)

    def to_json(self) -> str:
        """The record as JSON text, one line for each list of numbers, NaN as null."""
        content = asdict(replace(self, images={}))
        del content["images"]
        return _indented({"schema": SCHEMA, **without_nan(content)}) + "\n"

    @property
    def own(self) -> Prediction:
        """The method's own prediction."""
        return self.predictions[self.method]

    @classmethod
    def load(cls, path: str | Path) -> "Results":
        """Read a record.

        Raises:
            DataError: The file is missing, not JSON, or of another schema.
        """
        record = read_json(path, "results", "give a results.json of this library")
        if not isinstance(record, dict) or record.get("schema") != SCHEMA:
            raise DataError(f"{path} is not a {SCHEMA} file", fix="evaluate again with this version")
        check_kind(record, _Record, path, _FIX)
        classes = len(record["class_names"])
        for name, scores in record["predictions"].items():
            for metric, values in scores.get("per_class", {}).items():
                if len(values) != classes:
                    raise DataError(
                        f"{path}: predictions.{name}.per_class.{metric} has {len(values)} values for {classes} classes",
                        fix=_FIX,
                    )
        listed = sorted(c for members in record["groups"].values() for c in members)
        if listed != list(range(classes)):
            raise DataError(f"{path}: groups do not hold each of the {classes} classes once", fix=_FIX)
        if record["method"] not in record["predictions"]:
            raise DataError(
                f"{path} has no prediction of its method {record['method']!r}, only {list(record['predictions'])}",
                fix=_FIX,
            )
        predictions = {
            name: Prediction(**{key: scores[key] for key in _Prediction.__annotations__ if key in scores})
            for name, scores in record["predictions"].items()
        }
        known = {own.name for own in fields(cls)} - {"predictions", "images"}
        return cls(predictions=predictions, **{key: record[key] for key in known if key in record})


def images_file(path: str | Path) -> Path:
    """File of the scores image by image that belong to a ``results.json``."""
    return Path(path).with_suffix(".npz")


def without_nan(value: Any) -> Any:
    """Replace every NaN and infinity in nested dicts and lists by None: JSON has neither."""
    if isinstance(value, dict):
        return {str(k): without_nan(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _indented(value: Any, level: int = 0) -> str:
    """JSON with one item per line, but lists of plain values on one line: each row of a confusion matrix has its line."""
    if isinstance(value, dict) and value:
        items = [f"{json.dumps(key)}: {_indented(item, level + 1)}" for key, item in value.items()]
    elif isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        items = [_indented(item, level + 1) for item in value]
    else:
        return json.dumps(value, allow_nan=False)
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    margin = "\n" + " " * (level + 1)
    return f"{opening}{margin}{f',{margin}'.join(items)}{margin[:-1]}{closing}"
