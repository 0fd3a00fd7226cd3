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


def main() -> None:
    options = arguments(__doc__).parse_args()
    for name, classes, size in (("ade20k", 150, (512, 512)), ("cityscapes", 19, (1024, 2048))):
        generator = torch.Generator().manual_seed(0)
        target = torch.randint(0, classes, size, generator=generator, dtype=torch.uint8)
        prediction = target.where(torch.rand(size, generator=generator) < 0.8, target.flip(0)).long()
        target[:20] = 255
        wide = target.long()
        ours = confusion_matrix(prediction, target, classes)
        theirs = multiclass_confusion_matrix(prediction, wide, classes, ignore_index=255)
        if not torch.equal(ours, theirs):
            raise AssertionError("the two confusion matrices differ")

        def torchmetrics(p: torch.Tensor = prediction, t: torch.Tensor = wide, c: int = classes) -> None:
            multiclass_confusion_matrix(p, t, c, ignore_index=255)

        measure(
            f"confusion_matrix_{name}",
            {
                "torchmetrics": torchmetrics,
                "mmsegmentation's histograms": lambda p=prediction, t=wide, c=classes: histograms(p, t, c),
                "longtail": lambda p=prediction, t=target, c=classes: confusion_matrix(p, t, c),
            },
            note=f"{classes} classes, {size[0]}x{size[1]}; equal matrices",
            repeats=options.repeats,
            allocator=options.allocator,
        )


if __name__ == "__main__":
    main()
