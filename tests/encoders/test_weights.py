import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from longtail.encoders import build_encoder, load_encoder_weights, read_state_dict
from longtail.encoders.mobilenet_v2 import MobileNetV2
from longtail.encoders.timm import TimmEncoder
from longtail.errors import CheckpointError, ConfigError


class Small(nn.Module):
    def __init__(self, depth: int = 2, width: int = 3) -> None:
        super().__init__()
        self.stem = nn.Linear(width, width)
        self.layer1 = nn.Sequential(*(nn.Linear(width, width) for _ in range(depth)))


def _save(state: dict, path):
    save_file({k: v.contiguous() for k, v in state.items()}, path)
    return path


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.encoder.model."])
def test_strips_any_prefix_and_leaves_out_other_modules(tmp_path, prefix):
    source = Small()
    state = {prefix + k: v for k, v in source.state_dict().items()}
    state |= {prefix + "fc.weight": torch.zeros(5, 3), "decode_head.conv.weight": torch.zeros(1)}
    encoder = Small()
    load_encoder_weights(encoder, _save(state, tmp_path / "w.safetensors"))
    for key, value in encoder.state_dict().items():
        assert torch.equal(value, source.state_dict()[key])


@pytest.mark.parametrize("container", ["state_dict", "model"])
def test_unpacks_checkpoints(tmp_path, container):
    path = tmp_path / "checkpoint.pth"
    torch.save({container: Small().state_dict(), "epoch": 3}, path)
    assert read_state_dict(path).keys() == Small().state_dict().keys()


def test_refuses_missing_keys_by_name(tmp_path):
    state = Small().state_dict()
    del state["layer1.1.bias"]
    with pytest.raises(CheckpointError, match=r"w\.safetensors.*1 missing \(layer1\.1\.bias\)"):
        load_encoder_weights(Small(), _save(state, tmp_path / "w.safetensors"))


def test_refuses_a_deeper_network(tmp_path):
    with pytest.raises(CheckpointError, match=r"without a place \(layer1\.2\.bias"):
        load_encoder_weights(Small(2), _save(Small(3).state_dict(), tmp_path / "w.safetensors"))


def test_refuses_another_width(tmp_path):
    with pytest.raises(CheckpointError, match=r"instead of \(3, 3\)"):
        load_encoder_weights(Small(), _save(Small(width=4).state_dict(), tmp_path / "w.safetensors"))


def test_weights_of_other_bands_name_the_way_out(tmp_path):
    state = MobileNetV2().state_dict()
    first = next(k for k, v in state.items() if v.ndim == 4 and v.shape[1] == 3)
    state[first] = torch.zeros(len(state[first]), 5, 3, 3)
    with pytest.raises(CheckpointError, match="first convolution reads 5 bands"):
        load_encoder_weights(MobileNetV2(), _save(state, tmp_path / "w.safetensors"))


def test_refuses_pickled_code_and_absent_files(tmp_path):
    torch.save(Small(), tmp_path / "module.pth")
    with pytest.raises(CheckpointError, match="plain tensors"):
        read_state_dict(tmp_path / "module.pth")
    with pytest.raises(CheckpointError, match="does not exist"):
        read_state_dict(tmp_path / "nothing.pth")
    torch.save({"epoch": 1}, tmp_path / "empty.pth")
    with pytest.raises(CheckpointError, match="no state dict"):
        read_state_dict(tmp_path / "empty.pth")


def test_classification_checkpoint_fills_a_timm_encoder(tmp_path):
    import timm

    whole = timm.create_model("resnet18")
    path = _save(whole.state_dict(), tmp_path / "resnet18.safetensors")
    encoder = build_encoder("resnet18", 16, weights=path)
    assert torch.equal(encoder.body.layer4[1].conv2.weight, whole.layer4[1].conv2.weight)
    with pytest.raises(CheckpointError, match="resnet18"):
        build_encoder("resnet34", weights=path)
    with pytest.raises(CheckpointError, match="without a place"):
        build_encoder(
            "resnet18", weights=_save(timm.create_model("resnet34").state_dict(), tmp_path / "resnet34.safetensors")
        )


def test_flattened_stage_names_of_timm(tmp_path):
    import timm

    whole = timm.create_model("convnext_atto")
    path = _save({"module." + k: v for k, v in whole.state_dict().items()}, tmp_path / "convnext.safetensors")
    encoder = build_encoder("convnext_atto", weights=path)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(encoder.eval()(image)[-1], whole.eval().forward_intermediates(image)[1][-1], atol=1e-5)


def test_torchvision_classifier_weights_fill_mobilenet(tmp_path):
    from torchvision.models import mobilenet_v2

    whole = mobilenet_v2(weights=None)
    encoder = MobileNetV2()
    load_encoder_weights(encoder, _save(whole.state_dict(), tmp_path / "mobilenet_v2.safetensors"))
    assert torch.equal(encoder.features[17].conv[2].weight, whole.features[17].conv[2].weight)


def test_pretrained_without_network_says_so_soon(monkeypatch, tmp_path):
    import time

    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    start = time.perf_counter()
    with pytest.raises(CheckpointError, match=r"resnet18.*\n.*weights=PATH"):
        build_encoder("resnet18", weights="pretrained")
    assert time.perf_counter() - start < 20
    assert constants.HF_HUB_OFFLINE is True


def test_refuses_unknown_encoders_and_strides():
    with pytest.raises(ConfigError, match="resnet50"):
        build_encoder("resnet50x")
    with pytest.raises(ConfigError, match="hrnet_w18_small"):
        build_encoder("hrnet_w18_small", 8)
    with pytest.raises(ConfigError, match="torchvision/mobilenet_v2"):
        build_encoder("torchvision/mobilenet_v9")


def test_timm_maps_are_channels_first():
    encoder = TimmEncoder("swin_tiny_patch4_window7_224", img_size=64)
    maps = encoder(torch.randn(1, 3, 64, 64))
    assert [m.shape[1] for m in maps] == list(encoder.channels) == [96, 192, 384, 768]


@pytest.mark.parametrize(("stride", "last_stages"), [(8, [1, 2, 2, 2, 2, 2, 2, 4, 4]), (16, [1] * 6 + [1, 2, 2])])
def test_resnet50c_has_contract_dilation(stride, last_stages):
    with torch.device("meta"):
        encoder = TimmEncoder("resnet50c", stride)
    blocks = [*encoder.body.layer3, *encoder.body.layer4]
    assert [b.conv2.dilation[0] for b in blocks] == last_stages
    assert encoder.reductions == ((2, 4, 8, 8, 8) if stride == 8 else (2, 4, 8, 16, 16))


@pytest.mark.parametrize(
    ("name", "options", "divisor"),
    [
        ("hrnet_w18_small", {}, 32),
        ("vit_tiny_patch16_224", {"dynamic_img_size": True}, 16),
        ("convnext_atto", {}, 1),
        ("resnet18", {}, 1),
    ],
)
def test_size_divisor_is_enough(name, options, divisor):
    encoder = TimmEncoder(name, **options)
    assert encoder.size_divisor == divisor
    height, width = -(-50 // divisor) * divisor, -(-75 // divisor) * divisor
    assert len(encoder(torch.randn(1, 3, height, width))) == len(encoder.channels)
