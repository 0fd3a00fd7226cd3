import pytest
import torch

from longtail.pixels import Upsampling, bands, sum_over_bands
from longtail.pixels.bands import bands_of, upsampled_bands

GEOMETRIES = [
    ((4, 6), (16, 24), 1),
    ((4, 6), (13, 21), 8),  # padded to 16 x 24, then cut
    ((5, 3), (17, 11), 1),  # fractional scale
    ((8, 8), (5, 6), 1),  # downsampling
    ((6, 7), (6, 7), 1),  # nothing to do
    ((8, 8), (6, 5), 8),  # only to be cut
    ((1, 1), (4, 4), 1),
    ((3, 40), (9, 150), 1),  # several tiles
]


@pytest.fixture(params=[1, 100, 900, 1 << 18])
def elements(request, monkeypatch):
    monkeypatch.setitem(bands.BAND_ELEMENTS, "cpu", request.param)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("ahead", [1, 4])
@pytest.mark.usefixtures("elements")
def test_bands_are_the_map_and_their_adjoint_its_gradient(monkeypatch, geometry, align_corners, ahead):
    monkeypatch.setattr(bands, "_AHEAD", ahead)
    low, size, divisor = geometry
    upsampling = Upsampling(size, divisor, align_corners)
    z = torch.randn(2, 3, *low, dtype=torch.float64, requires_grad=True)
    expected = upsampling(z)
    weight = torch.randn_like(expected)
    (pulled,) = torch.autograd.grad(expected, z, weight)
    low = z.detach()
    found, total = [], torch.zeros_like(low)
    for band, values in upsampled_bands(low, upsampling):
        found.append(values)
        total[..., band.inputs, :] += band.adjoint(weight[..., band.rows, :], low.shape[-1])
    torch.testing.assert_close(torch.cat(found, dim=-2), expected.detach())
    torch.testing.assert_close(total, pulled)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.usefixtures("elements")
def test_sums_and_their_first_and_second_derivatives_are_those_of_the_map(geometry):
    low, size, divisor = geometry
    upsampling = Upsampling(size, divisor)
    z = torch.randn(2, 3, *low, dtype=torch.float64, requires_grad=True)
    scale = torch.randn(3, 1, 1, dtype=torch.float64, requires_grad=True)  # a parameter that the sums read
    mask = torch.rand(2, *size, dtype=torch.float64)

    def evaluate(values, mask):
        return (values.tanh() * scale * mask.unsqueeze(1)).square().sum(), (values**3).sum(dim=(0, 2, 3))

    outcomes = []
    for first, second in (sum_over_bands(evaluate, z, upsampling, mask), evaluate(upsampling(z), mask)):
        gradients = torch.autograd.grad(first + second.cos().sum(), [z, scale], create_graph=True)
        again = torch.autograd.grad(sum(g.square().sum() for g in gradients), [z, scale])
        outcomes.append([first, second, *gradients, *again])
    torch.testing.assert_close(*outcomes)


def test_no_map_is_made_and_none_is_kept(monkeypatch):
    monkeypatch.setitem(bands.BAND_ELEMENTS, "cpu", 2000)
    z = torch.randn(1, 5, 8, 8, requires_grad=True)
    rows, kept = [], []

    def evaluate(values):
        rows.append(values.shape[-2])
        return (values.exp().log1p().sum(),)

    def keep(tensor):
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        (total,) = sum_over_bands(evaluate, z, Upsampling((64, 64)))
    assert max(rows) == 2000 // (5 * 64) and sum(rows) == 64
    assert sum(kept) < 5 * 64 * 64
    total.backward()
    assert sum(rows) == 128  # each band once more


def test_a_band_is_memory_of_its_own():
    low = torch.randn(2, 3, 4)
    before = low.clone()
    for size in ((3, 4), (12, 16)):
        upsampling = Upsampling(size)
        for _, values in upsampled_bands(low, upsampling):
            values.zero_()
        assert all(values.any() for _, values in upsampled_bands(low, upsampling))
    assert torch.equal(low, before)


def test_a_map_of_the_images_size_is_exact_and_may_be_infinite():
    low = torch.randn(2, 3, 4)
    low[0, 1, 2] = -torch.inf
    ((_, values),) = upsampled_bands(low, Upsampling((3, 4)))
    assert torch.equal(values, low)


def test_many_channels_make_low_bands():
    upsampling = Upsampling((64, 64))
    few, many = (bands_of(torch.zeros(channels, 8, 8), upsampling) for channels in (100, 1000))
    assert len(few) < len(many)
    assert max(b.rows.stop - b.rows.start for b in many) * 1000 * 64 <= bands.BAND_ELEMENTS["cpu"]


def test_half_precision_autocast_and_reduced_matmul_precision_do_not_reach_the_products():
    z = torch.randn(1, 3, 8, 8)
    upsampling = Upsampling((32, 32))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = torch.cat([values for _, values in upsampled_bands(z, upsampling)], dim=-2)
            (total,) = sum_over_bands(lambda v: ((v @ v.mT).sum(),), z.bfloat16(), upsampling)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    torch.testing.assert_close(found, upsampling(z))
    assert total.dtype == torch.float32
    wide = upsampling(z.bfloat16().float())
    torch.testing.assert_close(total, (wide @ wide.mT).sum())
