"""Versions for bug reports, and what there is to choose from: models, methods, losses, data sets."""

from longtail.cli.parser import Namespace, Parser

NAME = "info"
SUMMARY = "versions for bug reports; models, methods, losses, data sets"
ORDER = 90


def add_arguments(parser: Parser) -> None:
    """Arguments of the command."""
    parser.add_argument("--model", type=str | None, default=None, help="show the options of this model instead")
    parser.add_argument("--loss", type=str | None, default=None, help="show the options of this loss instead")


def run(arguments: Namespace) -> int:
    """Print."""
    from rich.console import Console

    from longtail.losses.build import LOSSES, loss_options
    from longtail.segmentation.models import MODELS, model_options
    from longtail.training.environment import environment

    console = Console(highlight=False, soft_wrap=True)
    if arguments.model or arguments.loss:
        options = model_options(arguments.model) if arguments.model else loss_options(arguments.loss)
        for name, default in options.items():
            console.print(f"[bold]{name:<24}[/] {default!r}")
        return 0
    for name, value in environment().items():
        console.print(f"[bold]{name:<28}[/] {value}")
    from longtail.models.segmentation_methods import ENSEMBLES, METHODS

    console.print()
    listed = {
        "models": ", ".join(MODELS),
        "methods": ", ".join(METHODS),
        "ensembles": ", ".join(ENSEMBLES),
        "losses": ", ".join(LOSSES),
        "data sets": "a folder, cityscapes:ROOT, ade20k:ROOT, folder:ROOT, longtail-scenes, my.package.Dataset",
    }
    for what, names in listed.items():
        console.print(f"[bold]{what:<28}[/] {names}")
    return 0
