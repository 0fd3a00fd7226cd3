"""The confusion matrix of one evaluated image, against torchmetrics and mmsegmentation's three histograms."""

import torch
from harness import arguments, measure
from torchmetrics.functional.classification import multiclass_confusion_matrix

from longtail.metrics.segmentation import confusion_matrix


def histograms(prediction: torch.Tensor, target: torch.Tensor, classes: int) -> list[torch.Tensor]:
    """Intersection, prediction and label areas as mmsegmentation's IoUMetric takes them (written from its definition)."""
    kept = target != 255
    prediction, target = prediction[kept], target[kept]
    right = prediction[prediction == target]
    return [torch.histc(v.float(), bins=classes, min=0, max=classes - 1) for v in (right, prediction, target)]


def images(count: int, classes: int, size: tuple[int, int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Predicted and true labels: the truth in bytes, as files hold it, the prediction as argmax gives it."""
    pairs = []
    for seed in range(count):
        generator = torch.Generator().manual_seed(seed)
        target = torch.randint(0, classes, size, generator=generator, dtype=torch.uint8)
        prediction = target.where(torch.rand(size, generator=generator) < 0.8, target.flip(0)).long()
        target[:20] = 255
        pairs.append((prediction, target))
    return pairs


def main() -> None:
    options = arguments(__doc__, gpu=True).parse_args()
    for name, classes, size, count in (("ade20k", 150, (512, 512), 10), ("cityscapes", 19, (1024, 2048), 2)):
        pairs = [(p.to(options.device), t.to(options.device)) for p, t in images(count, classes, size)]
        wide = [(p, t.long()) for p, t in pairs]
        bytes_ = [(p.to(torch.uint8), t) for p, t in pairs]
        prediction, target = pairs[0]
        ours = confusion_matrix(prediction, target, classes)
        if not torch.equal(ours, multiclass_confusion_matrix(*wide[0], classes, ignore_index=255)):
            raise AssertionError("the two confusion matrices differ")

        def torchmetrics(pairs: list = wide, c: int = classes) -> None:
            for p, t in pairs:
                multiclass_confusion_matrix(p, t, c, ignore_index=255)

        measure(
            f"confusion_matrix_{name}",
            {
                "torchmetrics": torchmetrics,
                "mmsegmentation's histograms": lambda pairs=wide, c=classes: [histograms(p, t, c) for p, t in pairs],
                "longtail": lambda pairs=pairs, c=classes: [confusion_matrix(p, t, c) for p, t in pairs],
                "longtail, predictions in bytes": lambda pairs=bytes_, c=classes: [
                    confusion_matrix(p, t, c) for p, t in pairs
                ],
            },
            options,
            note=f"{count} images, {classes} classes, {size[0]}x{size[1]}; equal matrices",
        )


if __name__ == "__main__":
    main()
