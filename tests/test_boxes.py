import math

import pytest
import torch
from torchvision.models.detection._utils import BoxCoder as TorchvisionCoder

from longtail.boxes import BoxCoder, covered, resize_boxes, sides_at_least


def random_boxes(n: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    corner, size = torch.rand(n, 2, generator=g) * 100, torch.rand(n, 2, generator=g) * 50 + 1
    return torch.cat([corner, corner + size], dim=1)


def test_encode_by_hand():
    proposal = torch.tensor([[0.0, 0.0, 10.0, 20.0]])
    box = torch.tensor([[1.0, 2.0, 21.0, 22.0]])  # centre (11, 12), size (20, 20)
    expected = torch.tensor([[6 / 10 / 0.1, 2 / 20 / 0.1, math.log(2) / 0.2, 0.0]])
    torch.testing.assert_close(BoxCoder().encode(box, proposal), expected)


def test_decode_inverts_encode():
    boxes, proposals = random_boxes(50), random_boxes(50, seed=1)
    coder = BoxCoder((0.033, 0.033, 0.067, 0.067))
    torch.testing.assert_close(coder.decode(coder.encode(boxes, proposals), proposals), boxes, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("stds", [(1.0, 1.0, 1.0, 1.0), (0.1, 0.1, 0.2, 0.2)])
def test_same_as_torchvision(stds):
    boxes, proposals, deltas = random_boxes(20), random_boxes(20, seed=1), torch.randn(20, 4) * 3
    theirs = TorchvisionCoder(tuple(1 / s for s in stds))
    torch.testing.assert_close(BoxCoder(stds).encode(boxes, proposals), theirs.encode_single(boxes, proposals))
    torch.testing.assert_close(BoxCoder(stds).decode(deltas, proposals), theirs.decode_single(deltas, proposals))


def test_extremes_stay_finite():
    flat = torch.tensor([[5.0, 5.0, 5.0, 9.0]])
    coder = BoxCoder()
    assert coder.encode(flat, random_boxes(1)).isfinite().all()
    assert coder.encode(random_boxes(1), flat).isfinite().all()
    assert coder.decode(torch.full((1, 4), 1e4), random_boxes(1)).isfinite().all()
    assert coder.decode(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0, 4)


def test_half_precision_deltas_decode_in_float32():
    decoded = BoxCoder().decode(torch.zeros(1, 4, dtype=torch.bfloat16), torch.tensor([[0.0, 0.0, 1001.0, 3.0]]))
    assert decoded.dtype == torch.float32 and decoded[0, 2] == 1001


def test_covered_is_the_part_of_the_box_in_one_region():
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [90.0, 90.0, 95.0, 95.0], [3.0, 3.0, 3.0, 3.0]])
    regions = torch.tensor([[5.0, 0.0, 100.0, 10.0], [0.0, 0.0, 2.0, 10.0]])
    assert covered(boxes, regions).tolist() == [0.5, 0.0, 0.0]
    assert covered(boxes, regions[:0]).tolist() == [0.0, 0.0, 0.0]


def test_sides_and_resize():
    boxes = torch.tensor([[0.0, 0.0, 10.0, 20.0], [0.0, 0.0, 0.5, 20.0], [0.0, 0.0, float("nan"), 20.0]])
    assert sides_at_least(boxes, 1.0).tolist() == [True, False, False]
    resized = resize_boxes(torch.tensor([[0.0, 0.0, 10.0, 30.0]]), (20, 20), (40, 10))
    assert resized.tolist() == [[0.0, 0.0, 5.0, 40.0]]  # the lower edge is clipped to the image
