import pytest
import torch
from torch import nn

from longtail.errors import ConfigError
from longtail.segmentation.encoder_decoder import EncoderDecoder
from longtail.segmentation.models import wrap


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)

    def forward(self, image):
        return [self.conv(image)]


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 6, 1)

    def forward(self, features):
        return self.conv(features[0])


class Own(nn.Module):
    def __init__(self, head_name: str = "head") -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(), Decoder()
        setattr(self, head_name, nn.Conv2d(6, 5, 1))


@pytest.mark.parametrize("head_name", ["head", "segmentation_head"])
@torch.no_grad()
def test_own_models_split_by_their_attributes(head_name):
    model = Own(head_name).eval()
    wrapped = wrap(model)
    image = torch.randn(1, 3, 17, 21)
    assert wrapped.num_classes == 5 and not wrapped.training
    logits = getattr(model, head_name)(model.decoder(model.encoder(image)))
    assert torch.equal(wrapped.expert(wrapped.encode(image)).logits, logits)
    assert wrapped(image).shape == (1, 5, 17, 21)


def test_an_encoder_decoder_is_given_back():
    model = EncoderDecoder(Encoder(), Decoder(), nn.Conv2d(6, 5, 1), num_classes=5)
    assert wrap(model) is model


def test_refuses_what_cannot_be_split_and_other_classes():
    with pytest.raises(ConfigError, match=r"EncoderDecoder\(encoder, decoder, head"):
        wrap(nn.Sequential(nn.Conv2d(3, 5, 1)))
    with pytest.raises(ConfigError, match="predicts 5 classes, the data have 7"):
        wrap(Own(), 7)
    model = Own()
    model.head = nn.Identity()
    assert wrap(model).num_classes == 6
    model.encoder = nn.Identity()  # cannot be tried on an image
    with pytest.raises(ConfigError, match="num_classes"):
        wrap(model)
    assert wrap(model, 6).num_classes == 6


def test_classes_are_those_that_the_head_gives_whatever_its_last_convolution():
    model = Own()
    model.head.unused = nn.Conv2d(6, 9, 1)
    assert wrap(model).num_classes == wrap(model, 5).num_classes == 5
    model.encoder = nn.Identity()
    assert wrap(model, 5).num_classes == 5


class Whole(Own):
    """Pads to multiples of 8 and resizes as it is told."""

    def __init__(self, align_corners: bool, squashed: bool = False) -> None:
        super().__init__()
        self.align_corners, self.squashed = align_corners, squashed

    def forward(self, image):
        size = image.shape[-2:]
        padded = nn.functional.pad(image, (0, -size[1] % 8, 0, -size[0] % 8))
        logits = self.head(self.decoder(self.encoder(padded)))
        logits = logits.sigmoid() if self.squashed else logits
        full = nn.functional.interpolate(logits, padded.shape[-2:], mode="bilinear", align_corners=self.align_corners)
        return full[..., : size[0], : size[1]]


@torch.no_grad()
def test_own_models_say_how_they_pad_and_resize():
    model, image = Whole(align_corners=True), torch.randn(1, 3, 17, 21)
    wrapped = wrap(model, size_divisor=8, align_corners=True)
    assert torch.allclose(wrapped(image), model(image), atol=1e-6)
    assert model.training and wrapped.training
    assert not torch.allclose(wrap(model, align_corners=True)(image), model(image), atol=1e-2)  # for size_divisor
    with pytest.raises(ConfigError, match=r"Whole differ .*\n.*align_corners=True"):
        wrap(model)
    with pytest.raises(ConfigError, match=r"Whole differ .*\n.*softmax, pass the parts"):
        wrap(Whole(align_corners=False, squashed=True))
    with pytest.raises(ConfigError, match="size_divisor for EncoderDecoder, which has its own"):
        wrap(wrapped, size_divisor=8)


def test_model_libraries_are_not_imported_for_others():
    import subprocess
    import sys

    code = (
        "import sys; from longtail.segmentation.models import NETWORKS, build_model; import longtail.segmentation; "
        "assert 'torch' not in sys.modules, 'torch'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    code = (
        "import sys; from longtail.segmentation.models import build_model; "
        "build_model('pspnet', 2, encoder='torchvision/mobilenet_v2', output_stride=16, channels=8); "
        "assert not {'transformers', 'segmentation_models_pytorch', 'timm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
