"""Score ensembles of recorded stages by class and group, without running the detector.

The stages are recorded by `longtail evaluate RUN --record FOLDER`. Without other options everything is scored that
the run itself reads; `--ensembles` and `--temperatures` try others. Boxes only: masks need the network.
"""

from typing import Any

from longtail.cli.parser import Namespace, Parser
from longtail.cli.show import add_output_arguments
from longtail.cli.truth import add_truth_arguments, chosen_truth

NAME = "score stages"
SUMMARY = "try ensembles on recorded stages"
ORDER = 62


def add_arguments(parser: Parser) -> None:
    """Arguments of the command."""
    from longtail.training.detection_config import EvaluationGroups

    parser.add_argument("recording", type=str, help="folder of `longtail evaluate --record`")
    add_truth_arguments(parser)
    parser.add_argument(
        "--ensembles",
        type=dict,
        default={},
        help="name to average, sparse, dynamic, or such as {name: dynamic, temperature: 2, background: relative} and "
        "{name: norcal, gamma: 0.6, inner: dynamic}",
    )
    parser.add_argument(
        "--temperatures", type=tuple[float, ...], default=(), help="other dynamic ensembles, of these tau"
    )
    parser.add_argument(
        "--readouts",
        type=list[str] | None,
        default=None,
        help="ways of the run to read its stages; its own prediction where others are tried, else all",
    )
    parser.add_argument(
        "--groups",
        type=EvaluationGroups,
        default="auto",
        help="groups to score by, see evaluation.groups of `train detection`",
    )
    parser.add_argument("--score_threshold", type=float | None, default=None, help="threshold other than the run's")
    parser.add_argument("--nms_iou", type=float | None, default=None, help="overlap other than the run's")
    parser.add_argument("--kept", type=int | None, default=None, help="detections per image, other than the run's")
    parser.add_argument("--max_detections", type=int | None, default=None, help="limit an image (300) or class (100)")
    parser.add_argument("--trust_code", action="store_true", help="let the recording name code outside this library")
    parser.add_argument("--quick", action="store_true", help="leave AP-fixed and the calibration out")
    add_output_arguments(parser)


def run(arguments: Namespace) -> int:
    """Score and print."""
    from dataclasses import replace
    from functools import partial

    from longtail.cli.show import save_and_show
    from longtail.models.score_stages import recorded_detector, score_stages, stage_readouts
    from longtail.training.config import positive, within
    from longtail.training.evaluate_detection import evaluation_groups

    positive("--kept", arguments.kept)
    within("--score_threshold", arguments.score_threshold, 0, 1)
    within("--nms_iou", arguments.nms_iou, 0, 1)
    detector, method = recorded_detector(arguments.recording, trust_code=arguments.trust_code)
    wanted = {"score_threshold": "score_threshold", "nms_iou": "nms_iou", "max_detections": "kept"}
    changes = {name: value for name, of in wanted.items() if (value := getattr(arguments, of)) is not None}
    readouts = stage_readouts(detector, _ensembles(arguments), arguments.readouts)
    results = score_stages(
        arguments.recording,
        chosen_truth(arguments),
        readouts,
        groups=partial(evaluation_groups, arguments.groups, detector.groups, detector.frequency),
        class_names=detector.class_names,
        frequency=detector.frequency,
        postprocess=replace(method.postprocess, **changes),
        max_detections=arguments.max_detections,
        fixed=not arguments.quick,
        pooled=not arguments.quick,
        progress=True,
    )
    results.settings |= {"ensembles": _ensembles(arguments), "postprocess": changes}
    save_and_show(results, arguments)
    return 0


def _ensembles(arguments: Namespace) -> dict[str, Any]:
    """Ensembles by name, those of the temperatures last."""
    from longtail.settings import as_arguments

    sweep = {f"tau_{tau:g}": {"name": "dynamic", "temperature": tau} for tau in arguments.temperatures}
    return {**as_arguments(arguments.ensembles), **sweep}
