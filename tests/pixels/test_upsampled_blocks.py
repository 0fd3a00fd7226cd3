import pytest
import torch

from longtail.pixels import upsampled_blocks
from longtail.pixels.upsampled_blocks import UpsampledBlocks, full_precision
from longtail.pixels.upsampling import Upsampling

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
@pytest.mark.parametrize("row_by_row", [True, False])
def test_blocks_are_the_map_and_their_adjoint_its_gradient(monkeypatch, geometry, align_corners, block, row_by_row):
    monkeypatch.setitem(upsampled_blocks._BLOCK, "cpu", block)
    monkeypatch.setattr(upsampled_blocks, "_WIDTH", 100)
    monkeypatch.setattr(upsampled_blocks, "_row_by_row", lambda values: row_by_row)  # False: as on a GPU
    low, size, divisor = geometry
    upsampling = Upsampling(size, divisor, align_corners)
    z = torch.randn(3, *low, dtype=torch.float64, requires_grad=True)
    expected = upsampling(z[None])[0]
    weight = torch.randn_like(expected)
    (pulled,) = torch.autograd.grad(expected, z, weight)
    low = z.detach().transpose(0, 1).contiguous()
    blocks = UpsampledBlocks(upsampling, z, channels=3)
    seen, total = torch.zeros(size), torch.zeros_like(low)
    for band in blocks.bands(low):
        for piece in band.blocks:
            torch.testing.assert_close(band.upsampled(piece), piece.of(expected.detach()))
            band.add_adjoint(piece.of(weight), piece)
            seen[piece.rows.outputs, piece.columns.outputs] += 1
        band.pull(total)
    assert (seen == 1).all()
    torch.testing.assert_close(total.transpose(0, 1), pulled)


def test_a_block_is_memory_of_its_own():
    low = torch.randn(3, 2, 4)
    before = low.clone()
    for size in ((3, 4), (12, 16)):
        for band in UpsampledBlocks(Upsampling(size), low.transpose(0, 1), channels=2).bands(low):
            for piece in band.blocks:
                band.upsampled(piece).zero_()
                assert band.upsampled(piece).any()
    assert torch.equal(low, before)


def test_a_map_of_the_images_size_is_exact_and_may_be_infinite():
    low = torch.randn(3, 2, 4)
    low[1, 0, 2] = -torch.inf
    (band,) = UpsampledBlocks(Upsampling((3, 4)), low.transpose(0, 1), channels=2).bands(low)
    assert torch.equal(band.upsampled(band.blocks[0]).view(2, 3, 4), low.transpose(0, 1))


def test_autocast_and_reduced_matmul_precision_do_not_reach_the_products():
    z = torch.randn(3, 8, 8)
    upsampling = Upsampling((32, 32))
    low = z.transpose(0, 1).contiguous()
    (band,) = UpsampledBlocks(upsampling, z, channels=3).bands(low)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16), full_precision("cpu"):
            parts = [band.upsampled(piece) for piece in band.blocks]
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    for piece, part in zip(band.blocks, parts, strict=True):
        assert part.dtype == torch.float32
        torch.testing.assert_close(part, piece.of(upsampling(z[None])[0]))
