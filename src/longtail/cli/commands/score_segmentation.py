"""Score anyone's predicted label images by class and group, without a model."""

from longtail.cli.parser import Namespace, Parser

NAME = "score segmentation"
SUMMARY = "score anyone's label images by class and group"
ORDER = 60


def add_arguments(parser: Parser) -> None:
    """Arguments of the command."""
    parser.add_argument("--labels", type=str, required=True, help="folder of true label images")
    parser.add_argument("--predictions", type=str, required=True, help="folder of predicted label images")
    parser.add_argument("--frequency", type=str | None, default=None, help="counts of the training split, for groups")
    parser.add_argument("--classes", type=int | str | None, default=None, help="classes.json, classes.txt or a number")
    parser.add_argument("--ignore_index", type=int, default=255, help="label value that does not count")
    parser.add_argument("--reduce_zero_label", action="store_true", help="labels store class i as i + 1 (ADE20K)")
    parser.add_argument("--label_suffix", type=str, default="", help="end of label names, e.g. _gtFine_labelTrainIds")
    parser.add_argument("--prediction_suffix", type=str, default="", help="end of prediction names")
    parser.add_argument("--name", type=str | None, default=None, help="what to call the predictions")
    parser.add_argument("--out", type=str | None, default=None, help="file or folder to write")


def run(arguments: Namespace) -> int:
    """Score and print."""

    from longtail.cli.show import save_and_show
    from longtail.metrics.score_labels import score_label_folders

    options = arguments.as_dict()
    out = options.pop("out")
    results = score_label_folders(**options)
    save_and_show(results, out)
    return 0
