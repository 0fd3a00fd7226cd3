import copy

import pytest
import torch
import torch.nn.functional as F

from longtail.errors import CheckpointError, ConfigError
from longtail.segmentation.models import build_model, wrap

transformers = pytest.importorskip("transformers")

C = 5
VIT = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "image_size": 64,
    "patch_size": 16,
}
BEIT = VIT | {"out_indices": [1, 2, 3, 4], "pool_scales": [1, 2], "auxiliary_channels": 16}
CONVNEXT = {
    "model_type": "convnext",
    "hidden_sizes": [8, 16, 24, 32],
    "depths": [1, 1, 1, 1],
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}
SMALL = {
    "segformer": {
        "hidden_sizes": [8, 16, 24, 32],
        "depths": [1, 1, 1, 1],
        "num_attention_heads": [1, 2, 3, 4],
        "decoder_hidden_size": 16,
    },
    "upernet": {
        "backbone_config": CONVNEXT,
        "hidden_size": 16,
        "auxiliary_in_channels": 24,
        "auxiliary_channels": 8,
        "pool_scales": [1, 2],
    },
    "beit": BEIT | {"use_relative_position_bias": True, "use_absolute_position_embeddings": False},
    "data2vec-vision": BEIT | {"use_absolute_position_embeddings": True},
    "dpt": VIT
    | {
        "backbone_out_indices": [0, 1, 2, 3],
        "neck_hidden_sizes": [8, 8, 16, 16],
        "fusion_hidden_size": 16,
        "is_hybrid": False,
    },
    "mobilevit": {
        "hidden_sizes": [16, 24, 32],
        "neck_hidden_sizes": [8, 8, 16, 16, 24, 32, 32],
        "aspp_out_channels": 16,
    },
    "mobilevitv2": {"width_multiplier": 0.5, "aspp_out_channels": 16},
    "mobilenet_v2": {"depth_multiplier": 1.0},
}
OWN_AUXILIARY = ("upernet", "beit", "data2vec-vision")


def _model(architecture: str):
    config = transformers.AutoConfig.for_model(architecture, num_labels=C, **SMALL[architecture])
    torch.manual_seed(0)
    model = transformers.AutoModelForSemanticSegmentation.from_config(config).eval()
    for module in model.modules():  # the library's own initialisation lets a deep network's logits vanish
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            torch.nn.init.kaiming_normal_(module.weight, mode="fan_in")
    return model


@pytest.mark.parametrize("architecture", SMALL)
@torch.no_grad()
def test_logits_stay_the_same(architecture):
    model = _model(architecture)
    image = torch.randn(2, 3, 64, 64)
    expected = model(image).logits
    wrapped = wrap(model, C)
    features = wrapped.encode(image)
    output = wrapped.expert(features)
    logits = output.logits if output.logits.shape == expected.shape else wrapped(image)
    assert expected.std() > 0
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(model(image).logits, expected)  # the model that was wrapped still works
    assert isinstance(wrapped.expert.head, torch.nn.Conv2d)
    assert output.decoded.shape[1] == wrapped.expert.head.in_channels
    twin = copy.deepcopy(wrapped.expert)
    assert torch.equal(twin(features).logits, output.logits)
    assert not {id(p) for p in wrapped.encoder.parameters()} & {id(p) for p in wrapped.expert.parameters()}


@pytest.mark.parametrize("architecture", SMALL)
@torch.no_grad()
def test_any_image_size(architecture):
    assert wrap(_model(architecture))(torch.randn(1, 3, 75, 101)).shape == (1, C, 75, 101)


@pytest.mark.parametrize("architecture", SMALL)
def test_every_parameter_learns_and_is_the_models_own(architecture):
    model = _model(architecture)
    wrapped = wrap(model).train()
    features = wrapped.encode(torch.randn(2, 3, 64, 64))
    output = wrapped.expert(features)
    loss = output.logits.square().mean() + sum(x.square().mean() for x in output.auxiliary)
    if wrapped.auxiliary_head is not None:
        loss = loss + wrapped.auxiliary_head(features).square().mean()
    loss.backward()
    ours = {id(p) for p in wrapped.parameters()}
    assert ours <= {id(p) for p in model.parameters()}
    theirs = {id(p) for p in model.parameters() if p.grad is not None}
    model.zero_grad()
    images = torch.randn(2, 3, 64, 64)
    model.train()(images, labels=torch.randint(0, C, (2, 64, 64))).loss.backward()
    assert theirs == {id(p) for p in model.parameters() if p.grad is not None}


FOLDED = {  # the maps that their heads read
    "segformer": [(8, 16, 20), (16, 8, 10), (24, 4, 5), (32, 2, 3)],
    "upernet": [(8, 16, 20), (16, 8, 10), (24, 4, 5), (32, 4, 5)],
    "beit": [(32, 16, 20), (32, 8, 10), (32, 4, 5), (32, 2, 3)],
    "data2vec-vision": [(32, 16, 20), (32, 8, 10), (32, 4, 5), (32, 2, 3)],
}


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("architecture", FOLDED)
def test_folded_head_is_the_librarys(architecture, training):
    model = _model(architecture).double().train(training)
    for module in model.decode_head.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 1.5)
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    theirs, wrapped = copy.deepcopy(model.decode_head), wrap(model)
    names = {f"expert.decoder.head.{name}" for name in theirs.state_dict() if not name.startswith("classifier")}
    assert names <= set(wrapped.state_dict())
    maps = [torch.randn(2, *shape, dtype=torch.float64, requires_grad=True) for shape in FOLDED[architecture]]
    logits, expected = wrapped.expert(maps).logits, theirs(maps)
    torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-9)
    assert type(wrapped.expert.decoder).__name__ != "_Decoder"
    upstream = torch.randn_like(expected)
    ours = torch.autograd.grad(logits, [*maps, *model.decode_head.parameters()], upstream)
    reference = torch.autograd.grad(expected, [*maps, *theirs.parameters()], upstream)
    torch.testing.assert_close(ours, reference, rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(model.decode_head.state_dict(), theirs.state_dict(), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("architecture", OWN_AUXILIARY)
def test_auxiliary_head_is_taken_over(architecture):
    model = _model(architecture)
    wrapped = wrap(model)
    assert wrapped.auxiliary_weight == 0.4
    image, target = torch.randn(2, 3, 64, 64), torch.randint(0, C, (2, 64, 64))
    with torch.no_grad():
        features = wrapped.encode(image)
        logits = F.interpolate(wrapped.auxiliary_head(features), (64, 64), mode="bilinear")
        loss = F.cross_entropy(wrapped(image), target) + 0.4 * F.cross_entropy(logits, target)
        assert loss.item() == pytest.approx(model(image, labels=target).loss.item(), rel=1e-5)


def test_dpt_auxiliary_belongs_to_the_decoder():
    wrapped = wrap(_model("dpt"))
    features = wrapped.encode(torch.randn(2, 3, 64, 64))
    assert wrapped.expert(features).auxiliary == ()
    (auxiliary,) = wrapped.train().expert(features).auxiliary
    assert auxiliary.shape[:2] == (2, C)


@torch.no_grad()
def test_vision_transformer_on_another_size_equals_the_librarys_interpolation():
    model = _model("beit")
    image = torch.randn(1, 3, 96, 64)
    wrapped = wrap(model)
    expected = model(image, interpolate_pos_encoding=True).logits
    torch.testing.assert_close(wrapped.expert(wrapped.encode(image)).logits, expected)


def test_mask_classifiers_are_refused():
    from transformers import Mask2FormerForUniversalSegmentation

    # No network is built: refusing needs the class alone.
    model = Mask2FormerForUniversalSegmentation.__new__(Mask2FormerForUniversalSegmentation)
    torch.nn.Module.__init__(model)
    model.config = None
    with pytest.raises(ConfigError, match="no per-pixel classifier"):
        wrap(model)


def test_builds_by_name():
    model = build_model("transformers", 7, architecture="segformer", **SMALL["segformer"])
    assert model(torch.randn(1, 3, 33, 65)).shape == (1, 7, 33, 65)
    with pytest.raises(ConfigError, match="upernet"):
        build_model("transformers", 7, architecture="mask2former")
    with pytest.raises(ConfigError, match="config='org/name'"):
        build_model("transformers", 7, architecture="segformer", weights="pretrained")


def test_local_weights_of_other_classes(tmp_path):
    model = _model("segformer")
    model.save_pretrained(tmp_path)
    built = build_model("transformers", 9, weights=str(tmp_path), **SMALL["segformer"])
    by_config = build_model("transformers", 9, weights=str(tmp_path), config=str(tmp_path))
    for other in (built, by_config):
        assert other.num_classes == 9
        image = torch.randn(1, 3, 64, 64)
        with torch.no_grad():
            expected = wrap(model).eval().expert(wrap(model).eval().encode(image)).decoded
            assert torch.equal(other.eval().expert(other.encode(image)).decoded, expected)
    with pytest.raises(CheckpointError, match="does not fit"):
        build_model("transformers", 9, weights=str(tmp_path), **SMALL["segformer"] | {"decoder_hidden_size": 8})


def test_config_can_be_written_out(tmp_path):
    import json

    from longtail.segmentation.models import resolved_options

    _model("upernet").save_pretrained(tmp_path)
    options = resolved_options("transformers", 4, {"config": str(tmp_path)})
    assert options["architecture"] == "upernet" and "config" not in options
    again = build_model("transformers", 4, **json.loads(json.dumps(options)))
    reference = build_model("transformers", 4, config=str(tmp_path))
    assert again.state_dict().keys() == reference.state_dict().keys()
    again.load_state_dict(reference.state_dict())
    assert resolved_options("pspnet", 4, {"channels": 3}) == {"channels": 3}
