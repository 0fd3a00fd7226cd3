"""Score ensembles of recorded experts by class and group, without running the network.

The experts are recorded by `longtail evaluate RUN --record FOLDER`. Without other options everything is scored that the
run itself reads; `--ensembles` and `--taus` try others. Learned ensembles are fitted on recorded training images:
`longtail evaluate RUN --split train --record TRAIN --out SOMEWHERE`, then `--fit TRAIN`.
"""

from longtail.cli.parser import Namespace, Parser
from longtail.cli.show import add_output_arguments

NAME = "score experts"
SUMMARY = "try ensembles on recorded experts"
ORDER = 61


def add_arguments(parser: Parser) -> None:
    """Arguments of the command."""
    parser.add_argument("recording", type=str, help="folder of `longtail evaluate --record`")
    parser.add_argument(
        "--ensembles",
        type=dict,
        default={},
        help="name to ensemble, such as {chain: {name: nested_chain, tau: 0.2}, mean: average}",
    )
    parser.add_argument(
        "--taus",
        type=tuple[float, ...],
        default=(),
        help="nested chains of these tau; of a baseline, logit adjustments",
    )
    parser.add_argument("--fit", type=str | None, default=None, help="recorded training images, for learned ensembles")
    parser.add_argument(
        "--readouts",
        type=list[str] | None,
        default=None,
        help="ways of the run to read its experts; its own prediction where others are tried, else all",
    )
    parser.add_argument("--bias", action="store_true", help="measure the bias of the method and of every expert")
    parser.add_argument("--trust_code", action="store_true", help="let the recording name code outside this library")
    add_output_arguments(parser)


def run(arguments: Namespace) -> int:
    """Score and print."""
    from longtail.cli.show import save_and_show
    from longtail.settings import as_arguments
    from longtail.training.score_experts import recorded_segmenter, score_experts

    trust = {"trust_code": arguments.trust_code}
    dial = recorded_segmenter(arguments.recording, **trust).dial(arguments.taus) if arguments.taus else {}
    results = score_experts(
        arguments.recording,
        {**as_arguments(arguments.ensembles), **dial},
        fit_on=arguments.fit,
        readouts=arguments.readouts,
        bias=arguments.bias,
        progress=True,
        **trust,
    )
    save_and_show(results, arguments)
    return 0
