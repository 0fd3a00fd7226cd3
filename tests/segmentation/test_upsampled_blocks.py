import pytest
import torch

from longtail.segmentation import upsampled_blocks
from longtail.segmentation.upsampled_blocks import UpsampledBlocks, full_precision
from longtail.segmentation.upsampling import Upsampling

GEOMETRIES = [
    ((4, 6), (16, 24), 1),
    ((4, 6), (13, 21), 8),  # padded to 16 x 24, then cut
    ((5, 3), (17, 11), 1),  # fractional scale
    ((8, 8), (5, 6), 1),  # downsampling
    ((6, 7), (6, 7), 1),  # nothing to do
    ((1, 1), (4, 4), 1),
    ((3, 40), (9, 150), 1),  # several tiles
]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("block", [1, 100, 900, 1 << 18])
def test_blocks_are_the_map_and_their_adjoint_its_gradient(monkeypatch, geometry, align_corners, block):
    monkeypatch.setitem(upsampled_blocks._BLOCK, "cpu", block)
    low, size, divisor = geometry
    upsampling = Upsampling(size, divisor, align_corners)
    z = torch.randn(3, *low, dtype=torch.float64, requires_grad=True)
    expected = upsampling(z[None])[0]
    weight = torch.randn_like(expected)
    (pulled,) = torch.autograd.grad(expected, z, weight)
    blocks = UpsampledBlocks(upsampling, z.detach(), channels=3)
    seen, total = torch.zeros(size), torch.zeros_like(z)
    for piece in blocks:
        values = blocks.upsampled(z.detach(), piece)
        torch.testing.assert_close(values, piece.of(expected.detach()))
        blocks.add_adjoint(total, piece.of(weight), piece)
        seen[piece.rows.outputs, piece.columns.outputs] += 1
    assert (seen == 1).all()
    torch.testing.assert_close(total, pulled)


def test_a_block_is_memory_of_its_own():
    z = torch.randn(2, 3, 4)
    blocks = UpsampledBlocks(Upsampling((3, 4)), z, channels=2)
    before = z.clone()
    for piece in blocks:
        blocks.upsampled(z, piece).zero_()
    assert torch.equal(z, before)


def test_autocast_and_reduced_matmul_precision_do_not_reach_the_products():
    z = torch.randn(3, 8, 8)
    upsampling = Upsampling((32, 32))
    blocks = UpsampledBlocks(upsampling, z, channels=3)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16), full_precision("cpu"):
            parts = [blocks.upsampled(z, piece) for piece in blocks]
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    for piece, part in zip(blocks, parts, strict=True):
        assert part.dtype == torch.float32
        torch.testing.assert_close(part, piece.of(upsampling(z[None])[0]))
