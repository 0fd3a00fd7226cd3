"""Masks of an image's detections by a cascade's mask heads: against heads run for every detection, all classes, a gather.

A detector finds a box as several classes: in a trained Cascade R-CNN on trashcan_lt, 89 detections an image stood on 46
boxes, and the 284 of five readouts together on 99 (20 images of val). Here: 100 detections of LVIS on 52 boxes, one head.
"""

import torch
import torch.nn.functional as F
from harness import arguments, measure

from longtail.detection.mask_head import MaskHead, mean_probabilities

DETECTIONS, BOXES, CLASSES, CHANNELS, STAGES, SIDE, CHUNK = 100, 52, 1203, 256, 1, 14, 100


def main() -> None:
    options = arguments(__doc__, gpu=True).parse_args()
    torch.manual_seed(0)
    heads = [MaskHead(CHANNELS, CHANNELS, 4, CLASSES).eval().to(options.device) for _ in range(STAGES)]
    pooled = torch.randn(BOXES, CHANNELS, SIDE, SIDE).to(options.device)
    place = (
        torch.cat([torch.arange(BOXES), torch.randint(BOXES, (DETECTIONS - BOXES,))]).sort().values.to(options.device)
    )
    labels = torch.randint(CLASSES, (DETECTIONS,)).to(options.device)

    @torch.no_grad()
    def every_class(rows: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        each = torch.arange(len(rows), device=rows.device)
        maps = [head.predictor(F.relu(head.upsample(head(pooled[rows])))) for head in heads]
        return mean_probabilities([of_all_classes[each, classes] for of_all_classes in maps])

    @torch.no_grad()
    def own_class(rows: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        boxes, inverse = rows.unique(return_inverse=True)
        return mean_probabilities([head.class_logits(head(pooled[boxes]), classes, inverse) for head in heads])

    def of_all(masks) -> torch.Tensor:
        return torch.cat([masks(r, c) for r, c in zip(place.split(CHUNK), labels.split(CHUNK), strict=True)])

    sides = {
        "every detection, all classes, gather": lambda: of_all(every_class),
        "longtail": lambda: of_all(own_class),
    }
    torch.testing.assert_close(sides["longtail"](), sides["every detection, all classes, gather"]())
    measure(
        "mask_heads",
        sides,
        options,
        note=f"{DETECTIONS} detections on {BOXES} boxes, {CLASSES} classes, {STAGES} head; equal masks",
    )


if __name__ == "__main__":
    main()
