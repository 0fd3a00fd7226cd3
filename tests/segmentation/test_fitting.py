"""Windows by a bound on memory."""

import pytest
import torch

from longtail.segmentation.fitting import fitting_window, peak_memory
from longtail.segmentation.tiling import tiled


def twice(image: torch.Tensor) -> torch.Tensor:
    """Two tensors of the image's size at once."""
    double = image * 2
    return double + 1


def test_peak_by_hand():
    image = torch.zeros(1, 3, 64, 64)
    assert peak_memory(twice, image) == 2 * image.nbytes

    def chain(image):
        for _ in range(5):
            image = image + 1  # the one before is let go
        return image

    assert peak_memory(chain, image) == 2 * image.nbytes
    assert peak_memory(lambda image: image.view(-1), image) == 0


@pytest.mark.parametrize("free", [1e6, 3e6, 1e9])
def test_the_largest_window_that_fits(free):
    image = torch.zeros(1, 3, 1000, 700)
    bytes_each = 2 * 3 * 4
    whole, window = fitting_window(twice, image, free)
    assert whole == pytest.approx(bytes_each * 700_000, rel=1e-6)
    if free == 1e9:
        assert window is None
        return
    side = max(256, int((free / bytes_each) ** 0.5) // 64 * 64)
    assert window == (side, side)


def test_memory_that_grows_with_the_square_of_the_pixels():
    def attention(image):
        values = image[:, 0, ::8, ::8].flatten(1)
        return values.unsqueeze(1) * values.unsqueeze(2)

    image = torch.zeros(1, 3, 2048, 2048)
    whole, _ = fitting_window(attention, image, 1.0)
    assert whole == pytest.approx((2048 // 8) ** 4 * 4, rel=0.02)


@pytest.mark.parametrize("window", [(8, 8), (16, 9), (40, 64)])
def test_tiles_of_a_local_function_are_the_whole(window):
    image = torch.randn(2, 3, 37, 50)
    assert torch.equal(tiled(lambda crop: crop[:, 0] * 2, image, window), image[:, 0] * 2)
    assert torch.equal(tiled(lambda crop: crop + 1, image, window), image + 1)


def test_a_pixel_is_of_the_window_whose_middle_is_nearest():
    image = torch.arange(20.0).view(1, 1, 1, 20)
    starts = tiled(lambda crop: crop[..., :1].expand_as(crop), image, (1, 8))[0, 0, 0]
    assert starts.tolist() == [0.0] * 7 + [6.0] * 6 + [12.0] * 7
