"""Write a trained model as a file that runs without this library.

The file takes `image`, (n, bands, h, w): normalised float32, or pixels with --normalise. It gives class probabilities or
labels at the image's size, or for a detector boxes, scores, labels and masks of the best --top_k detections. Whatever
scales pictures before the network stays outside; the file says how (JSON under the key longtail).

The file is compared with the model at two sizes that it was not written at, and the largest difference is printed. A
file that differs by more than rounding is not kept.
"""

from longtail.cli.parser import Namespace, Parser
from longtail.export.names import SUFFIXES, Format

NAME = "export"
SUMMARY = "a trained model as ONNX, torch.export or TorchScript"
ORDER = 45


def add_arguments(parser: Parser) -> None:
    """Arguments of the command."""
    parser.add_argument("model", type=str, help="run folder, published folder or Hub id")
    parser.add_argument("--format", type=Format, default="onnx", help="format of the file")
    parser.add_argument(
        "--out", type=str | None, default=None, help="file to write; model.onnx, .pt2 or .pt when not given"
    )
    parser.add_argument(
        "--size",
        type=tuple[int, int] | None,
        default=None,
        help="fixed size of the images, as [h, w]; any when not given",
    )
    parser.add_argument("--batch", type=int | None, default=None, help="fixed number of images; any when not given")
    parser.add_argument("--labels_only", action="store_true", help="segmentation: labels instead of probabilities")
    parser.add_argument("--normalise", action="store_true", help="take pixels (bytes), and normalise them in the file")
    parser.add_argument("--top_k", type=int | None, default=None, help="detection: number of detections (100)")
    parser.add_argument("--trust_code", action="store_true", help="let the model name code outside this library")


def run(arguments: Namespace) -> int:
    """Export."""
    from pathlib import Path

    from rich.console import Console

    from longtail.errors import ConfigError
    from longtail.export.write import export
    from longtail.models.detector import Detector
    from longtail.models.pretrained import saved_task
    from longtail.models.segmenter import Segmenter

    detection = saved_task(arguments.model) == "detection"
    if arguments.top_k is not None and not detection:
        raise ConfigError("--top_k is not for segmentation", fix="leave it out")
    kind = Detector if detection else Segmenter
    done = export(
        kind.from_pretrained(arguments.model, trust_code=arguments.trust_code),
        arguments.out or Path(f"model{SUFFIXES[arguments.format]}"),
        arguments.format,
        size=arguments.size,
        batch=arguments.batch,
        labels_only=arguments.labels_only,
        normalise=arguments.normalise,
        top_k=arguments.top_k or 100,
    )
    console = Console(highlight=False)
    for (number, height, width), difference in done.differences.items():
        console.print(f"checked on {number} x {height} x {width}: largest difference from the model {difference:.2g}")
    console.print(f"{done.path} written, {done.path.stat().st_size / 1e6:.1f} MB")
    return 0
