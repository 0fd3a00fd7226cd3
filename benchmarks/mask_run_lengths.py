"""300 masks of an 800x1333 image to COCO run lengths, against pasting each into the image and encoding it."""

import numpy as np
import torch
import torch.nn.functional as F
from harness import arguments, measure, numpy_peak, torch_peak
from pycocotools import mask as coco
from torchvision.models.detection.roi_heads import paste_masks_in_image

from longtail.detection.run_lengths import _interpolated, _window, encode_masks

COUNT, HEIGHT, WIDTH = 300, 800, 1333


def scene() -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth random masks in boxes of a median side of 67 pixels."""
    generator = torch.Generator().manual_seed(0)
    centre = torch.rand(COUNT, 2, generator=generator) * torch.tensor([WIDTH, HEIGHT])
    half = torch.exp(torch.randn(COUNT, 2, generator=generator) * 0.8 + 4.2) / 2
    boxes = torch.cat([centre - half, centre + half], dim=1)
    boxes[:, 0::2].clamp_(0, WIDTH)
    boxes[:, 1::2].clamp_(0, HEIGHT)
    maps = F.interpolate(torch.randn(COUNT, 1, 5, 5, generator=generator), size=(28, 28), mode="bicubic")
    return maps.sigmoid()[:, 0], boxes


def paste_masks(masks: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int]) -> np.ndarray:
    """Every mask at full size, bool (n, height, width)."""
    pasted = np.zeros((len(boxes), *size), dtype=bool)
    padded = np.pad(masks.numpy(), ((0, 0), (1, 1), (1, 1)))
    for canvas, grid, (x0, y0, x1, y1) in zip(pasted, padded, boxes.numpy(), strict=True):
        left, *columns = _window(x0, x1, size[1], masks.shape[2])
        top, *rows = _window(y0, y1, size[0], masks.shape[1])
        values = _interpolated(_interpolated(grid, *rows).T, *columns).T
        canvas[top : top + values.shape[0], left : left + values.shape[1]] = values >= 0.5
    return pasted


def encode_each(masks: np.ndarray) -> list[str]:
    return [coco.encode(np.asfortranarray(m.astype(np.uint8)))["counts"].decode() for m in masks]


def main() -> None:
    options = arguments(__doc__).parse_args()
    masks, boxes = scene()
    size = (HEIGHT, WIDTH)
    if [m["counts"] for m in encode_masks(masks, boxes, size)] != encode_each(paste_masks(masks, boxes, size)):
        raise AssertionError("the two encodings differ")
    note = f"{COUNT} masks, {HEIGHT}x{WIDTH}"
    # First and with the default allocator: the 2.4 GiB of torchvision's paste leave a heap that slows all that follows.
    measure(
        "mask_run_lengths_torchvision",
        {
            "torchvision's paste, full-image encoding": lambda: encode_each(
                (paste_masks_in_image(masks[:, None], boxes, size)[:, 0] >= 0.5).numpy()
            ),
            "longtail": lambda: encode_masks(masks, boxes, size),
        },
        options,
        note=f"{note}; torchvision places masks otherwise, so strings differ",
        allocator="default",
        memory=lambda run: max(torch_peak(run), numpy_peak(run)),
    )
    measure(
        "mask_run_lengths",
        {
            "window paste, full-image encoding": lambda: encode_each(paste_masks(masks, boxes, size)),
            "longtail": lambda: encode_masks(masks, boxes, size),
        },
        options,
        note=f"{note}; strings identical",
        memory=numpy_peak,
    )


if __name__ == "__main__":
    main()
