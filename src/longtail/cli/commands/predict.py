"""Read photographs with a trained model.

Segmentation writes label images (class ids) and colour overlays, or what --save names; detection writes boxes and masks
in COCO's results format, and the photographs with boxes, masks and labels drawn.

Every frame of a video is an image, NAME/000000 and so on, and the pictures of its frames become NAME.mp4. Images that do
not fit into half of the free memory are read by windows.

Images that are written already are skipped, so that a stopped command is simply given again; predictions of another
model or with other options are never mixed with them. Under torchrun each rank takes its share.
"""

from pathlib import Path
from typing import Any, Literal

from longtail.cli.parser import Namespace, Parser, chosen_device, refuse_misplaced

#: What segmentation can write.
Saved = Literal["labels", "overlays", "probabilities", "polygons"]

NAME = "predict"
SUMMARY = "label images or detections for photographs"
ORDER = 40


def add_arguments(parser: Parser) -> None:
    """Arguments of the command."""
    parser.add_argument("model", type=str, help="run folder, published folder or Hub id")
    parser.add_argument(
        "images", nargs="+", help="image and video files, or folders searched with all their sub-folders"
    )
    parser.add_argument(
        "--out",
        type=str,
        default="predictions",
        help="folder; gets a sub-folder for each --save, or detections.json and pictures/",
    )
    parser.add_argument("--overwrite", action="store_true", help="predict images again that are written already")
    parser.add_argument("--trust_code", action="store_true", help="let the model name code outside this library")
    parser.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda, cuda:1, mps …")
    parser.add_argument("--window", type=tuple[int, int] | None, default=None, help="sliding window, as [h, w]")
    parser.add_argument("--stride", type=tuple[int, int] | None, default=None, help="step of the window, as [h, w]")
    parser.add_argument(
        "--tau",
        type=float | None,
        default=None,
        help="segmentation: from 0; larger values give rare classes more pixels (nested chain, or logit adjustment)",
    )
    parser.add_argument(
        "--thresholds",
        type=str | None,
        default=None,
        help="detection: file of a threshold for each class; detections below theirs are left out",
    )
    parser.add_argument(
        "--save",
        type=list[Saved] | None,
        default=None,
        help="segmentation: labels, overlays, probabilities, polygons (GeoJSON and COCO) [labels, overlays]",
    )
    parser.add_argument(
        "--threshold", type=float | None, default=None, help="detection: scores below it (0.3) are not drawn"
    )
    parser.add_argument(
        "--annotations",
        type=str | None,
        default=None,
        help="detection: annotation file with the ids of the images, or the data set that they are of (yolo:ROOT …)",
    )
    parser.add_argument("--split", type=str | None, default=None, help="detection: split of that data set [val]")
    parser.add_argument("--options", type=dict | None, default=None, help="detection: other arguments of that data set")
    parser.add_argument("--scales", type=tuple[float, ...] | None, default=None, help="detection: sizes to look at")
    parser.add_argument("--flip", action="store_true", help="detection: also look at mirrored images")


def run(arguments: Namespace) -> int:
    """Predict; exit code 1 where an image could not be read."""
    from rich.console import Console

    from longtail.cli.parser import say_error
    from longtail.models.pretrained import saved_task
    from longtail.training.predict import find_images

    detection = saved_task(arguments.model) == "detection"
    refuse_misplaced(
        arguments, detection, ("threshold", "thresholds", "annotations", "split", "options", "scales", "flip")
    )
    done = (_detect if detection else _segment)(arguments, find_images(arguments.images))
    Console(highlight=False).print(
        f"{done.written} written to {arguments.out}, {done.skipped} were there already, {len(done.failed)} failed"
    )
    for error in done.failed:
        say_error(error.problem, error.fix)
    return 1 if done.failed else 0


def _segment(arguments: Namespace, images: dict[str, Path]) -> Any:
    from longtail.models.segmenter import Segmenter
    from longtail.training.predict import predict

    segmenter = Segmenter.from_pretrained(arguments.model, trust_code=arguments.trust_code)
    if arguments.tau is not None:
        segmenter.turn(arguments.tau)
    return predict(
        segmenter.to(chosen_device(arguments.device)),
        images,
        arguments.out,
        overwrite=arguments.overwrite,
        save=arguments.save or ("labels", "overlays"),
        window=arguments.window,
        stride=arguments.stride,
        progress=True,
    )


def _detect(arguments: Namespace, images: dict[str, Path]) -> Any:
    from longtail.metrics.operating_points import read_thresholds
    from longtail.models.detector import Detector
    from longtail.training.predict_detection import predict_detection

    drawn: dict[str, Any] = {} if arguments.threshold is None else {"threshold": arguments.threshold}
    detector = Detector.from_pretrained(arguments.model, trust_code=arguments.trust_code)
    if arguments.thresholds is not None:
        drawn["thresholds"] = read_thresholds(arguments.thresholds, detector.class_names)
    return predict_detection(
        detector.to(chosen_device(arguments.device)),
        images,
        arguments.out,
        annotations=_listed(arguments),
        scales=arguments.scales,
        flip=arguments.flip,
        overwrite=arguments.overwrite,
        progress=True,
        **drawn,
    )


def _listed(arguments: Namespace) -> Any:
    """The annotation file, or what is read of the data set; None where neither is named."""
    from longtail.annotations.coco_file import CocoFile
    from longtail.cli.truth import objects_of
    from longtail.errors import ConfigError

    named = arguments.annotations
    if named is None or Path(named).is_file() or named.endswith(".json"):
        if arguments.split or arguments.options:
            raise ConfigError("--split or --options without a data set", fix="name the data set with --annotations")
        return named
    dataset = objects_of(named, arguments.split or "val", arguments.options or {})
    if not isinstance(file := getattr(dataset, "file", None), CocoFile):
        raise ConfigError(f"{named} lists no image files with boxes", fix="leave --annotations out")
    return file
