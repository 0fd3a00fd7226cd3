"""Class-aware non-maximum suppression at LVIS's settings: 1,000 boxes, 1,203 classes, best 300, against torchvision."""

import torch
from harness import arguments, measure
from torchvision.ops import batched_nms

from longtail.detection.postprocess import lazy_nms

ROWS, CLASSES, THRESHOLD, IOU, LIMIT = 1000, 1203, 1e-4, 0.5, 300


def scene(spread: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Clustered boxes; the larger ``spread``, the more peaked the class scores."""
    generator = torch.Generator().manual_seed(0)
    centre = torch.rand(120, 2, generator=generator) * torch.tensor([1333.0, 800.0])
    size = torch.rand(120, 2, generator=generator) * 200 + 20
    labels = torch.randint(CLASSES, (120,), generator=generator)
    cluster = torch.randint(120, (ROWS,), generator=generator)
    centre = centre[cluster] + 0.12 * size[cluster] * torch.randn(ROWS, 2, generator=generator)
    half = size[cluster] * (1 + 0.15 * torch.randn(ROWS, 2, generator=generator)).clamp(0.4, 2) / 2
    logits = torch.randn(ROWS, CLASSES + 1, generator=generator) * spread
    logits[:, -1] += 6
    logits[torch.arange(ROWS), labels[cluster]] += 6 + 2 * torch.randn(ROWS, generator=generator)
    return torch.cat([centre - half, centre + half], dim=1), logits.softmax(1)[:, :-1].contiguous()


def everything(boxes: torch.Tensor, scores: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Torchvision's suppression over all candidates above the threshold."""
    row, label = (scores > THRESHOLD).nonzero(as_tuple=True)
    score = scores[row, label]
    kept = batched_nms(boxes[row], score, label, IOU)[:LIMIT]
    return row[kept], label[kept], score[kept]


def main() -> None:
    options = arguments(__doc__).parse_args()
    for spread in (1.0, 2.0, 3.5):
        boxes, scores = scene(spread)
        candidates = int((scores > THRESHOLD).sum())
        ours = lazy_nms(boxes, scores, THRESHOLD, IOU, LIMIT)
        if not all(torch.equal(a, b) for a, b in zip(ours, everything(boxes, scores), strict=True)):
            raise AssertionError("the two suppressions differ")
        measure(
            f"lazy_nms_{candidates // 1000}k",
            {
                "torchvision": lambda b=boxes, s=scores: everything(b, s),
                "longtail": lambda b=boxes, s=scores: lazy_nms(b, s, THRESHOLD, IOU, LIMIT),
            },
            options,
            note=f"{candidates} candidates above {THRESHOLD}; identical detections",
        )


if __name__ == "__main__":
    main()
