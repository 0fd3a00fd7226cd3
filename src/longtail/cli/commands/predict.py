"""Segment photographs: label images (class ids) and colour overlays.

Images that are written already are skipped, so that a stopped command is simply given again. Under torchrun each rank
takes its share.
"""

from longtail.cli.parser import Namespace, Parser, chosen_device

NAME = "predict"
SUMMARY = "label images and overlays for photographs or folders of them"
ORDER = 40


def add_arguments(parser: Parser) -> None:
    """Arguments of the command."""
    parser.add_argument("model", type=str, help="run folder, Segmenter folder or Hub id")
    parser.add_argument("images", nargs="+", help="image files, or folders searched with all their sub-folders")
    parser.add_argument("--out", type=str, default="predictions", help="folder; gets labels/ and overlays/")
    parser.add_argument("--overwrite", action="store_true", help="predict images again that are written already")
    parser.add_argument("--trust_code", action="store_true", help="let the model name code outside this library")
    parser.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda, cuda:1, mps …")
    parser.add_argument("--window", type=tuple[int, int] | None, default=None, help="sliding window, as [h, w]")
    parser.add_argument("--stride", type=tuple[int, int] | None, default=None, help="step of the window, as [h, w]")


def run(arguments: Namespace) -> int:
    """Predict; exit code 1 where an image could not be read."""
    from rich.console import Console

    from longtail.cli.parser import say_error
    from longtail.medoe import Segmenter
    from longtail.training.predict import find_images, predict

    images = find_images(arguments.images)
    segmenter = Segmenter.from_pretrained(arguments.model, trust_code=arguments.trust_code).to(
        chosen_device(arguments.device)
    )
    done = predict(
        segmenter,
        images,
        arguments.out,
        overwrite=arguments.overwrite,
        window=arguments.window,
        stride=arguments.stride,
        progress=True,
    )
    Console(highlight=False).print(
        f"{done.written} written to {arguments.out}, {done.skipped} were there already, {len(done.failed)} failed"
    )
    for error in done.failed:
        say_error(error.problem, error.fix)
    return 1 if done.failed else 0
