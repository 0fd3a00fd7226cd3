import pytest
import torch

from longtail.encoders import build_encoder
from longtail.encoders.mit import MixTransformer
from longtail.errors import CheckpointError, ConfigError

transformers = pytest.importorskip("transformers")
TINY = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 2, 3, 4]}


def test_maps_of_any_size():
    encoder = build_encoder("mit_b0", **TINY).eval()
    maps = encoder(torch.randn(1, 3, 50, 70))
    assert [tuple(m.shape[1:]) for m in maps] == [(8, 13, 18), (16, 7, 9), (24, 4, 5), (32, 2, 3)]
    assert encoder.reductions == (4, 8, 16, 32)


@pytest.mark.parametrize("whole", [False, True])
def test_reads_files_that_transformers_wrote(tmp_path, whole):
    # ``save_pretrained`` writes the names of the hub's files, which differ from those of the modules.
    config = transformers.SegformerConfig(decoder_hidden_size=16, **TINY)
    model = (transformers.SegformerForSemanticSegmentation if whole else transformers.SegformerModel)(config)
    model.save_pretrained(tmp_path)
    encoder = build_encoder("mit_b0", weights=tmp_path / "model.safetensors", **TINY)
    source = (model.segformer if whole else model).state_dict()
    assert all(torch.equal(v, source[k]) for k, v in encoder.body.state_dict().items())


def test_refuses_files_of_another_size(tmp_path):
    transformers.SegformerModel(transformers.SegformerConfig(**TINY)).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="does not fit mit_b0"):
        build_encoder("mit_b0", weights=tmp_path / "model.safetensors", **TINY | {"depths": [1, 1, 2, 1]})
    with pytest.raises(CheckpointError, match="does not fit mit_b0"):
        build_encoder("mit_b0", weights=tmp_path / "model.safetensors")


def test_refuses_other_names_and_strides():
    with pytest.raises(ConfigError, match="mit_b5"):
        MixTransformer("mit_b6")
    with pytest.raises(ConfigError, match="output_stride 8"):
        build_encoder("mit_b0", 8)
