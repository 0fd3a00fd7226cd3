"""Checkpoints of smp, transformers and torchvision: models that load them give the outputs of the models that wrote them."""

import pytest
import torch
from torch import nn
from torchvision.models import get_model

from longtail.checkpoints.translate import translate
from longtail.errors import CheckpointError
from longtail.models.adopt import adopt
from longtail.models.segmentation_methods import build_method
from longtail.segmentation.baseline import Baseline
from longtail.segmentation.models import build_model
from support.tiny_segmentation import FREQUENCY, GROUPS, NUM_CLASSES

SMP = {
    "Unet": {"encoder_name": "mobilenet_v2", "decoder_channels": [16, 8, 8, 8, 8]},
    "FPN": {"encoder_name": "resnet18", "decoder_pyramid_channels": 32, "decoder_segmentation_channels": 32},
    "Segformer": {"encoder_name": "resnet18", "decoder_segmentation_channels": 16},
    "DPT": {"encoder_name": "tu-vit_tiny_patch16_224", "encoder_depth": 4, "decoder_fusion_channels": 16},
}
TORCHVISION = ["lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large"]
FIELDS = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 16, 24], "num_attention_heads": [1, 1, 1, 1]}
UPERNET = {
    "architecture": "upernet",
    "hidden_size": 16,
    "use_auxiliary_head": False,
    "backbone_config": {
        "model_type": "convnext",
        "depths": [1, 1, 1, 1],
        "hidden_sizes": [8, 8, 16, 16],
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    },
}


def randomised(model: nn.Module) -> nn.Module:
    """All tensors of their own, so that two that are exchanged show."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return model.eval()


def loaded(network, state) -> Baseline:
    method = Baseline(network).eval()
    found = translate(state, method, "file")
    assert found is not None
    assert not found.unused
    assert not found.misfits
    adopt(method, found.weights, "file")
    return method


@pytest.mark.parametrize("arch", SMP)
def test_smp(arch):
    smp = pytest.importorskip("segmentation_models_pytorch")
    options = {"encoder_weights": None, "classes": NUM_CLASSES, **SMP[arch]}
    theirs = randomised(getattr(smp, arch)(**options, **({"dynamic_img_size": True} if arch == "DPT" else {})))
    method = loaded(build_model("smp", NUM_CLASSES, arch=arch, **SMP[arch]), theirs.state_dict())
    image = torch.randn(1, 3, 64, 96)
    torch.testing.assert_close(method.logits(image), theirs(image), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("arch", TORCHVISION)
def test_torchvision(arch):
    theirs = randomised(get_model(arch, weights=None, weights_backbone=None, num_classes=NUM_CLASSES))
    method = loaded(build_model("torchvision", NUM_CLASSES, arch=arch), theirs.state_dict())
    image = torch.randn(1, 3, 64, 96)
    torch.testing.assert_close(method.logits(image), theirs(image)["out"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("fields", [{"architecture": "segformer", **FIELDS}, UPERNET], ids=["segformer", "upernet"])
def test_transformers(fields):
    transformers = pytest.importorskip("transformers")
    options = dict(fields)
    config = transformers.AutoConfig.for_model(options.pop("architecture"), num_labels=NUM_CLASSES, **options)
    theirs = randomised(transformers.AutoModelForSemanticSegmentation.from_config(config))
    network = build_model("transformers", NUM_CLASSES, **fields)
    method = loaded(network, theirs.state_dict())
    image = torch.randn(1, 3, 64, 96)
    expected = theirs(image).logits
    torch.testing.assert_close(
        nn.functional.interpolate(method.low_logits(image), expected.shape[-2:], mode="bilinear"),
        expected, rtol=1e-4, atol=1e-4,
    )  # fmt: skip


def unet(classes: int = NUM_CLASSES) -> nn.Module:
    smp = pytest.importorskip("segmentation_models_pytorch")
    return randomised(smp.Unet(encoder_weights=None, classes=classes, **SMP["Unet"]))


def test_a_plain_training_becomes_every_expert():
    theirs = unet()
    network = build_model("smp", NUM_CLASSES, arch="Unet", **SMP["Unet"])
    method = build_method("medoe", network, frequency=FREQUENCY, groups=GROUPS).eval()
    found = translate({f"module.model.{k}": v for k, v in theirs.state_dict().items()}, method, "file")
    adopt(method, found.weights, "file", [name for name, _ in method.named_parameters()])
    image = torch.randn(1, 3, 64, 64)
    logits = method.expert_maps(image).logits
    assert len(logits) == 3
    for own in logits:
        torch.testing.assert_close(own, theirs(image), rtol=1e-4, atol=1e-4)


def test_a_classifier_of_other_classes_is_told_by_name():
    network = build_model("smp", NUM_CLASSES, arch="Unet", **SMP["Unet"])
    found = translate(unet(classes=9).state_dict(), Baseline(network), "file")
    assert found.misfits == (
        "segmentation_head.0.weight [9, 8, 3, 3] for [5, 8, 3, 3]",
        "segmentation_head.0.bias [9] for [5]",
    )
    assert "segmentation_head.0.bias [9] for [5]" in found.words()
    assert not any(name.startswith("expert.head") for name in found.weights)


def test_little_of_a_checkpoint_is_refused_unless_asked_for():
    state = {k: v for k, v in unet().state_dict().items() if k.startswith(("encoder.", "segmentation_head."))}
    state |= {f"decoder.other.{i}.weight": torch.ones(1) for i in range(60)}
    method = Baseline(build_model("smp", NUM_CLASSES, arch="Unet", **SMP["Unet"]))
    with pytest.raises(
        CheckpointError, match=r"only \d+ of \d+ tensors fit the model; not used: decoder\.other\.0\.weight"
    ):
        translate(state, method, "file")
    found = translate(state, method, "file", allow_partial=True)
    assert len(found.unused) == 60


def test_names_of_no_program_are_refused_and_own_names_pass():
    method = Baseline(build_model("smp", NUM_CLASSES, arch="Unet", **SMP["Unet"]))
    with pytest.raises(CheckpointError, match="names of no program that is known"):
        translate({"a.weight": torch.ones(1), "b": torch.ones(2)}, method, "file")
    assert translate(method.state_dict(), method, "file") is None
