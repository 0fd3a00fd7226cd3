"""transformers: …ForSemanticSegmentation, as its present version names the tensors."""

from longtail.checkpoints.family import Family

_HEAD = r"(?:decode_head|segmentation_head)"

TRANSFORMERS = Family(
    "transformers",
    marks=(),
    rules={
        rf"{_HEAD}\.classifier\.(?:convolution\.)?(.*)": (r"expert.head.\1", r"expert.head.convolution.\1"),
        rf"{_HEAD}\.(.*)": r"expert.decoder.head.\1",
        r"auxiliary_head\.(.*)": r"auxiliary_head.\1",
        r"backbone\.(.*)": r"encoder.backbone.\1",
        **{rf"fpn{level + 1}\.(.*)": rf"encoder.pyramid.{level}.\1" for level in range(4)},
        r"fpn\.(.*)": r"encoder.pyramid.\1",
        r"(\w+)\.(.*)": (r"encoder.model.\1.\2", r"encoder.body.\2"),
    },
)
