import pytest
import torch
import torch.nn.functional as F

from longtail.segmentation.models.resampling import line, resize


@pytest.mark.parametrize("size", [(7, 9), (4, 5), (14, 18), (3, 2), (1, 1), (31, 9)])
@pytest.mark.parametrize("own", [(7, 9), (1, 1), (1, 4), (5, 2)])
def test_is_interpolate_and_so_is_its_gradient(own, size):
    x = torch.randn(2, 3, *own, dtype=torch.float64, requires_grad=True)
    ours, theirs = resize(x, size), F.interpolate(x, size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    upstream = torch.randn_like(theirs)
    (a,), (b,) = (torch.autograd.grad(y, x, upstream) for y in (ours, theirs))
    torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_keeps_dtype_of_half_precision():
    x = torch.randn(1, 2, 3, 4).bfloat16()
    assert resize(x, (6, 8)).dtype == torch.bfloat16
    torch.testing.assert_close(resize(x, (6, 8)).float(), resize(x.float(), (6, 8)), rtol=0.02, atol=0.02)


def test_line_by_hand():
    # Pixel centres as areas: the two outer quarters of the doubled line repeat the ends.
    doubled = torch.tensor([[1, 0.75, 0.25, 0], [0, 0.25, 0.75, 1]])
    like = torch.zeros(())
    assert torch.equal(line(2, 4, like), doubled)
    taps = line(2, 4, like, kernel=3).view(3, 2, 4)
    assert torch.equal(taps[1], doubled)
    assert torch.equal(taps[0], F.pad(doubled, (1, -1)))  # the left tap reads one to the left, zero outside
    assert torch.equal(taps[2], F.pad(doubled, (-1, 1)))
