import pytest
import torch
from torch import nn

from longtail.encoders import adapt_bands, build_encoder
from longtail.errors import ConfigError


@pytest.mark.parametrize("name", ["torchvision/mobilenet_v2", "resnet18", "resnet50c", "convnext_atto"])
@pytest.mark.parametrize("bands", [1, 2, 4, 13])
def test_an_encoder_reads_any_number_of_bands(name, bands):
    torch.manual_seed(0)
    encoder = build_encoder(name).eval()
    grey = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        before = encoder(grey.expand(-1, 3, -1, -1))
        adapt_bands(encoder, bands)
        after = encoder(grey.expand(-1, bands, -1, -1))
    # bands that are all alike are seen as grey was, where the three filters are used equally often
    if bands == 1:
        assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(before, after, strict=True))
    assert [m.shape for m in after] == [m.shape for m in before]


def test_weights_are_summed_or_repeated():
    convolution = nn.Conv2d(3, 2, 1, bias=False)
    weight = convolution.weight.detach().clone()
    one, six = nn.Sequential(nn.Conv2d(3, 2, 1)), nn.Sequential(nn.Conv2d(3, 2, 1))
    one[0].weight.data.copy_(weight)
    six[0].weight.data.copy_(weight)
    adapt_bands(one, 1)
    adapt_bands(six, 6)
    assert torch.allclose(one[0].weight, weight.sum(1, keepdim=True))
    assert torch.allclose(six[0].weight, torch.cat([weight, weight], 1) / 2)


def test_rgb_stays_and_doubt_is_refused():
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 2, 1))
    before = network[0].weight
    adapt_bands(network, 3)
    assert network[0].weight is before
    with pytest.raises(ConfigError, match="2 convolutions of Sequential read 3 channels"):
        adapt_bands(network, 4)
    with pytest.raises(ConfigError, match="0 convolutions"):
        adapt_bands(nn.Sequential(nn.Linear(3, 2)), 4)
