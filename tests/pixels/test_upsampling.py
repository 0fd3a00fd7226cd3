import pytest
import torch

from longtail.pixels import Upsampling, full_size

GEOMETRIES = [
    ((4, 6), (16, 24), 1),
    ((4, 6), (13, 21), 8),  # padded to 16 x 24, then cut
    ((5, 3), (17, 11), 1),  # fractional scale
    ((8, 8), (5, 6), 1),  # downsampling
    ((6, 7), (6, 7), 1),  # nothing to do
    ((8, 8), (6, 5), 8),  # only to be cut
    ((1, 1), (4, 4), 1),
]


@pytest.fixture(params=GEOMETRIES, ids=str)
def geometry(request):
    return request.param


@pytest.fixture(params=[False, True], ids=["half_pixel", "align_corners"])
def upsampling(request, geometry):
    return Upsampling(geometry[1], geometry[2], request.param)


def values(geometry):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, *geometry[0], generator=generator, dtype=torch.float64)


def test_whole_map_is_full_size(geometry, upsampling):
    expected = full_size(values(geometry), geometry[1], geometry[2], upsampling.align_corners)
    torch.testing.assert_close(upsampling(values(geometry)), expected)


def test_single_pixels_and_their_gradient(geometry, upsampling):
    z = values(geometry).requires_grad_()
    pixels = torch.rand(2, *geometry[1], generator=torch.Generator().manual_seed(1)) < 0.4
    expected = upsampling(z).movedim(1, -1)[pixels]
    found = upsampling.at(z, pixels)
    torch.testing.assert_close(found, expected)
    weight = torch.randn_like(expected)
    pulled = torch.autograd.grad(expected, z, weight)[0]
    torch.testing.assert_close(torch.autograd.grad(found, z, weight)[0], pulled)
    assert torch.autograd.gradgradcheck(lambda v: upsampling.at(v, pixels), z)
    adjoint = upsampling.at_adjoint(weight, pixels, geometry[0])
    torch.testing.assert_close(adjoint, pulled)
    assert upsampling.at(z, torch.zeros_like(pixels)).shape == (0, 3)


def test_sums_of_squares_and_their_gradient(geometry, upsampling):
    z = values(geometry).requires_grad_()
    expected = upsampling(z).square().sum(dim=(0, 2, 3))
    found = upsampling.sums_of_squares(z)
    torch.testing.assert_close(found, expected)
    weight = torch.randn(3, dtype=torch.float64)
    torch.testing.assert_close(torch.autograd.grad(found, z, weight)[0], torch.autograd.grad(expected, z, weight)[0])


def test_matrices_make_the_map(geometry, upsampling):
    z = values(geometry)
    rows, columns = (upsampling.matrix(axis, z.shape[-2 + axis]) for axis in (0, 1))
    torch.testing.assert_close(rows @ z @ columns.T, upsampling(z))


def test_value_by_hand():
    z = torch.tensor([[[[0.0, 2.0]]]])
    four = Upsampling((1, 4))
    assert four(z).flatten().tolist() == [0.0, 0.5, 1.5, 2.0]
    assert four.at(z, torch.tensor([[[False, True, False, True]]])).flatten().tolist() == [0.5, 2.0]
    assert four.matrix(1, 2).tolist() == [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]
    assert four.sums_of_squares(z).item() == pytest.approx(0.25 + 2.25 + 4)
