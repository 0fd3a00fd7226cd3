import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pycocotools import mask as coco

from longtail.detection.run_lengths import encode_masks
from support.masks import decode_mask


def blobs(count: int, height: int, width: int, seed: int = 0):
    g = torch.Generator().manual_seed(seed)
    centre = torch.rand(count, 2, generator=g) * torch.tensor([width, height])
    size = torch.exp(torch.randn(count, 2, generator=g) * 1.2 + 3)
    boxes = torch.cat([centre - size / 2, centre + size / 2], dim=1)
    boxes[: count // 2, 0::2] = boxes[: count // 2, 0::2].clamp(0, width)
    boxes[: count // 2, 1::2] = boxes[: count // 2, 1::2].clamp(0, height)
    coarse = torch.randn(count, 1, 5, 5, generator=g)
    return F.interpolate(coarse, size=(28, 28), mode="bicubic").sigmoid()[:, 0], boxes


def grid_paste(masks, boxes, height, width):
    """Every mask sampled over the whole image: what the peers do."""
    x0, y0, x1, y1 = boxes[:, :, None].unbind(1)
    x = (torch.arange(width) + 0.5 - x0) / (x1 - x0) * 2 - 1
    y = (torch.arange(height) + 0.5 - y0) / (y1 - y0) * 2 - 1
    grid = torch.stack([x[:, None, :].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)], dim=3)
    return (F.grid_sample(masks[:, None], grid, align_corners=False)[:, 0] >= 0.5).numpy()


def by_pycocotools(pasted):
    encoded = coco.encode(np.asfortranarray(pasted.transpose(1, 2, 0).astype(np.uint8)))
    return [{"size": list(e["size"]), "counts": e["counts"].decode()} for e in encoded]


@pytest.mark.parametrize("seed, height, width", [(0, 60, 90), (1, 128, 33), (2, 17, 200)])
def test_strings_are_those_of_the_pasted_masks(seed, height, width):
    masks, boxes = blobs(60, height, width, seed)
    reference = grid_paste(masks, boxes, height, width)
    assert reference.any(axis=(1, 2)).sum() > 20
    found = encode_masks(masks, boxes, (height, width))
    assert found == by_pycocotools(reference)
    for one, pasted in zip(found, reference, strict=True):
        assert np.array_equal(decode_mask(one), pasted)


@pytest.mark.parametrize(
    "box",
    [
        [0.0, 0.0, 12.0, 10.0],  # the whole image
        [-50.0, -50.0, 60.0, 60.0],  # more than it
        [3.0, 4.0, 4.0, 5.0],  # one pixel
        [11.0, 9.0, 12.0, 10.0],  # the last pixel
        [0.0, 0.0, 12.0, 5.0],  # the upper half: one run a column
        [2.0, 0.0, 5.0, 10.0],  # whole columns: one run over three of them
        [20.0, 20.0, 30.0, 30.0],  # outside
        [5.0, 5.0, 5.0, 8.0],  # flat
        [8.0, 5.0, 3.0, 8.0],  # inside out
    ],
)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_edges(box, value):
    masks, boxes = torch.full((1, 28, 28), value), torch.tensor([box])
    found = encode_masks(masks, boxes, (10, 12))
    empty = box[0] >= box[2] or not value
    assert found == by_pycocotools(np.zeros((1, 10, 12), bool) if empty else grid_paste(masks, boxes, 10, 12))
    if value and box[:2] < box[2:] and box[0] < 12:
        x0, y0, x1, y1 = (int(v) for v in np.clip(box, 0, [12, 10, 12, 10]))
        expected = np.zeros((10, 12), dtype=bool)
        expected[y0:y1, x0:x1] = True
        assert np.array_equal(decode_mask(found[0]), expected)


def test_no_masks():
    assert encode_masks(torch.zeros(0, 28, 28), torch.zeros(0, 4), (5, 5)) == []


def test_decode_reads_pycocotools_bytes():
    mask = np.random.default_rng(0).random((2000, 700)) > 0.999
    assert np.array_equal(decode_mask(coco.encode(np.asfortranarray(mask.astype(np.uint8)))), mask)


def test_a_threshold():
    masks, boxes = torch.full((1, 28, 28), 0.7), torch.tensor([[2.0, 2.0, 8.0, 8.0]])
    areas = [int(decode_mask(encode_masks(masks, boxes, (10, 10), t)[0]).sum()) for t in (0.5, 0.8)]
    assert areas == [36, 0]


def test_masks_that_touch_the_borders_or_have_no_extent():
    masks, boxes = blobs(40, 50, 70, seed=3)
    masks[5:8] = 1.0
    boxes[5] = torch.tensor([60.0, 0.0, 70.0, 50.0])  # to the last pixel ...
    boxes[6] = torch.tensor([0.0, 0.0, 5.0, 50.0])  # ... before one from the first pixel
    boxes[7] = torch.tensor([0.0, 0.0, 70.0, 50.0])
    boxes[[0, 8, 39]] = torch.tensor([[80.0, 0.0, 90.0, 9.0], [5.0, 5.0, 5.0, 9.0], [-9.0, -9.0, -5.0, 4.0]])
    reference = grid_paste(masks, boxes, 50, 70)
    reference[[0, 8, 39]] = False
    assert encode_masks(masks, boxes, (50, 70)) == by_pycocotools(reference)
    assert encode_masks(masks[5:8], boxes[5:8], (50, 70))[2]["counts"] == by_pycocotools(reference[7:8])[0]["counts"]
