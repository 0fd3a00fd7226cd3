import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longtail.errors import ConfigError
from longtail.segmentation.tiling import sliding_window


def _identity(crop):
    return torch.cat([crop, -crop], dim=1)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_pointwise_predictions_come_back_exactly(data):
    height, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    window = (data.draw(st.integers(1, 50)), data.draw(st.integers(1, 50)))
    stride = tuple(data.draw(st.integers(max(1, w // 4), w)) for w in window)
    image = torch.randn(2, 3, height, width)
    torch.testing.assert_close(sliding_window(_identity, image, window, stride), _identity(image))


@pytest.mark.parametrize("window", [(20, 30), 64, (20, 100)])
def test_a_window_as_large_as_the_image_is_the_whole_image(window):
    calls = []

    def predict(crop):
        calls.append(crop.shape)
        return crop.cumsum(-1)

    image = torch.randn(1, 3, 20, 30)
    assert torch.equal(sliding_window(predict, image, window, 10), image.cumsum(-1))
    assert calls == [image.shape]


def test_overlaps_are_means_by_hand():
    values = iter([1.0, 2.0, 6.0])

    def predict(crop):
        return torch.full((1, 1, *crop.shape[-2:]), next(values))

    # windows 0-3, 2-5 and, moved back inside, 3-6
    result = sliding_window(predict, torch.zeros(1, 3, 4, 7), 4, 2)
    assert result[0, 0, 0].tolist() == [1.0, 1.0, 1.5, 3.0, 4.0, 4.0, 6.0]


def test_accumulates_low_precision_in_float32():
    result = sliding_window(lambda crop: crop.half(), torch.ones(1, 3, 8, 9), 4, 1)
    assert result.dtype == torch.float32
    assert torch.equal(result, torch.ones(1, 3, 8, 9))


@pytest.mark.parametrize(("window", "stride"), [(8, 9), (8, 0), ((8, 4), 6)])
def test_refuses_strides_that_leave_pixels_out(window, stride):
    with pytest.raises(ConfigError, match="stride"):
        sliding_window(_identity, torch.zeros(1, 3, 16, 16), window, stride)
