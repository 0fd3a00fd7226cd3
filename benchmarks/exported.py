"""MEDOE in ONNX Runtime: the experts and the learned ensemble in one file, against the single decoder."""

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from harness import arguments, measure

from longtail.export.write import export
from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.models.segmenter import Segmenter

CLASSES, SIZE = 51, (256, 256)
MODEL = {"name": "deeplabv3plus", "encoder": "torchvision/mobilenet_v2", "output_stride": 16, "channels": 128}


def segmenter(method: str) -> Segmenter:
    names = tuple(f"class {i}" for i in range(CLASSES))
    groups = CategoryGroups.explicit(
        {"head": list(range(7)), "body": list(range(7, 25)), "tail": list(range(25, CLASSES))}
    )
    frequency = ClassFrequency(names, images=np.ones(CLASSES), pixels=np.geomspace(1e6, 10, CLASSES).astype(int))
    torch.manual_seed(0)
    return Segmenter(
        model=dict(MODEL),
        method={"name": method},
        classes={"names": list(names), "palette": [[i, i, i] for i in range(CLASSES)]},
        groups=asdict(groups),
        frequency=frequency.to_dict(),
    )


def main() -> None:
    options = arguments(__doc__).parse_args()
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    image = torch.randn(1, 3, *SIZE).numpy()
    with tempfile.TemporaryDirectory() as folder:
        sides: dict[str, Any] = {}
        for side, method, labels_only in (
            ("single decoder, labels", "baseline", True),
            ("MEDOE, labels", "medoe", True),
            ("MEDOE, probabilities", "medoe", False),
        ):
            path = Path(folder) / f"{len(sides)}.onnx"
            export(segmenter(method), path, size=SIZE, batch=1, labels_only=labels_only)
            session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
            sides[side] = lambda session=session: session.run(None, {"image": image})
        note = f"DeepLabv3+ on MobileNetV2, {SIZE[0]}x{SIZE[1]}, {CLASSES} classes, 3 experts, ONNX Runtime, one thread"
        measure("exported", sides, options, note=note)


if __name__ == "__main__":
    main()
