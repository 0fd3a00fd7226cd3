"""Build COCO-LT: images of COCO chosen so that its classes have the long tail of LVIS.

Writes train.json, images.txt, counts.json and distribution.svg; the same seed gives the same images.
"""

from pathlib import Path
from typing import Literal

from longtail.cli.parser import Namespace, Parser

NAME = "build-coco-lt"
SUMMARY = "choose images of COCO with LVIS's long tail"
ORDER = 15


def add_arguments(parser: Parser) -> None:
    """Arguments of the command."""
    parser.add_argument("annotations", type=str, help="COCO's instances_train2017.json, or any COCO-style file")
    parser.add_argument("--reference", type=str, required=True, help="LVIS's training annotations")
    parser.add_argument("--out", type=str, default="coco-lt", help="folder to write into")
    parser.add_argument("--seed", type=int, default=0, help="seed of the choice of images")
    parser.add_argument(
        "--free",
        type=int,
        default=10,
        help="number of most frequent classes that are filled last and may keep less than their target",
    )
    parser.add_argument(
        "--alignment",
        type=Literal["quantile", "top"],
        default="quantile",
        help="align ranks over all classes of the reference, or to its most frequent ones",
    )
    parser.add_argument("--rows", type=int, default=20, help="classes to print, most frequent first; 0 for all")


def run(arguments: Namespace) -> int:
    """Build and print."""
    from rich.console import Console

    from longtail.datasets.coco_lt import build_coco_lt
    from longtail.reports.distribution import draw_alignment
    from longtail.training.console import table

    subset = build_coco_lt(
        arguments.annotations,
        arguments.reference,
        arguments.out,
        seed=arguments.seed,
        free=arguments.free,
        alignment=arguments.alignment,
    )
    draw_alignment(subset, Path(arguments.out) / "distribution.svg")
    console = Console(highlight=False, soft_wrap=True)
    order = (-subset.source).argsort(kind="stable")
    shown = order[: arguments.rows or None]
    rows = [
        (
            subset.class_names[c],
            f"{subset.source[c]:,}",
            f"{subset.target[c]:,}",
            f"{subset.result[c]:,}",
        )
        for c in shown
    ]
    console.print(table("", ["class", "instances", "wanted", "chosen"], rows))
    if len(shown) < len(order):
        console.print(f"… and {len(order) - len(shown)} rarer classes (--rows 0 prints all)")
    console.print(
        f"\n{len(subset.image_ids):,} images with {int(subset.result.sum()):,} objects of {int(subset.source.sum()):,}; "
        f"written to {arguments.out}"
    )
    return 0
