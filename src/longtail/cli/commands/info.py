"""Versions for bug reports, and what there is to choose from. With a name: a component's options, defaults and source."""

from longtail.cli.parser import Namespace, Parser

NAME = "info"
SUMMARY = "versions for bug reports; methods, losses, ensembles, models, data sets and their options"
ORDER = 90


def add_arguments(parser: Parser) -> None:
    """Arguments of the command."""
    parser.add_argument("name", type=str | None, nargs="?", default=None, help="component to explain, such as focal")


def run(arguments: Namespace) -> int:
    """Print."""
    from rich.console import Console

    from longtail.cli.component_help import KINDS, describe
    from longtail.training.environment import environment

    if arguments.name is not None:
        Console(highlight=False, soft_wrap=True, markup=False).print(describe(arguments.name))
        return 0
    console = Console(highlight=False, soft_wrap=True)
    for name, value in environment().items():
        console.print(f"[bold]{name:<28}[/] {value}")
    console.print()
    for components in KINDS:
        console.print(f"[bold]{components.plural:<28}[/] {', '.join(components.names())}")
    console.print(
        "\n`longtail info NAME` explains one of them; a dotted path of your own component is accepted as well"
    )
    return 0
