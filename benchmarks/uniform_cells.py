"""Labels of one map at the image's size: only pixels between positions of different classes are interpolated."""

import torch
import torch.nn.functional as F
from harness import arguments, measure
from torch import Tensor

from longtail.pixels import Upsampling, map_labels


def main() -> None:
    options = arguments(__doc__, gpu=True).parse_args()
    for name, classes, low, size in (
        ("ade20k", 150, (128, 128), (512, 512)),
        ("cityscapes", 19, (256, 512), (1024, 2048)),
    ):
        for kind, noise in (("smooth", 0.0), ("noisy", 0.3)):
            generator = torch.Generator().manual_seed(0)
            seeds = torch.randn(1, classes, low[0] // 16, low[1] // 16, generator=generator)
            logits = 3 * F.interpolate(seeds, low, mode="bicubic")
            logits += noise * torch.randn(logits.shape, generator=generator)
            logits = logits.to(options.device)
            upsampling = Upsampling(size)

            def theirs(logits: Tensor = logits, size: tuple[int, int] = size) -> Tensor:
                return F.interpolate(logits, size, mode="bilinear").argmax(dim=1)

            def ours(logits: Tensor = logits, upsampling: Upsampling = upsampling) -> Tensor:
                return map_labels(logits, upsampling)

            if (ours() == theirs()).float().mean() < 0.99999:
                raise AssertionError("the two label maps differ")
            shape = f"{classes} classes, {low[0]}x{low[1]} -> {size[0]}x{size[1]}"
            measure(
                f"uniform_cells_{name}_{kind}",
                {"interpolate, argmax": theirs, "longtail": ours},
                options,
                note=f"{shape}; equal labels; {kind} random maps",
            )


if __name__ == "__main__":
    main()
