"""Query detectors of transformers, too small to learn: every family on random weights."""

from collections.abc import Callable
from typing import Any

import torch

CLASSES, QUERIES, LAYERS = 5, 12, 3


def _resnet(kind: str, **fields: Any) -> Any:
    import transformers

    config = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "layer_type": "basic"}
    return getattr(transformers, kind)(**config, **fields)


def _rt_detr(kind: str, **fields: Any) -> Any:
    import transformers

    return getattr(transformers, f"{kind}Config")(
        backbone_config=_resnet("RTDetrResNetConfig", out_features=["stage2", "stage3", "stage4"]),
        d_model=16,
        encoder_hidden_dim=16,
        encoder_in_channels=[8, 16, 16],
        decoder_in_channels=[16, 16, 16],
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        decoder_layers=LAYERS,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        num_queries=QUERIES,
        num_denoising=6,
        num_labels=CLASSES,
        **fields,
    )


def _detr(kind: str, levels: tuple[str, ...] = ("stage4",), **fields: Any) -> Any:
    import transformers

    return getattr(transformers, f"{kind}Config")(
        backbone_config=_resnet("ResNetConfig", out_features=list(levels)),
        d_model=32,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        encoder_layers=1,
        decoder_layers=LAYERS,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        num_queries=QUERIES,
        num_labels=CLASSES,
        auxiliary_loss=True,
        **fields,
    )


def _mask2former(**fields: Any) -> Any:
    import transformers

    swin = {"image_size": 32, "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 2}
    stages = ["stage1", "stage2", "stage3", "stage4"]
    return transformers.Mask2FormerConfig(
        backbone_config=transformers.SwinConfig(**swin, out_features=stages),
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=16,
        dim_feedforward=16,
        encoder_layers=1,
        decoder_layers=LAYERS + 1,
        num_attention_heads=2,
        num_queries=QUERIES,
        num_labels=CLASSES,
        train_num_points=64,
        **fields,
    )


def _maskformer(**fields: Any) -> Any:
    import transformers

    swin = {"image_size": 32, "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 2}
    stages = ["stage1", "stage2", "stage3", "stage4"]
    decoder = transformers.DetrConfig(
        d_model=16,
        encoder_layers=1,
        decoder_layers=LAYERS,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        num_queries=QUERIES,
    )
    return transformers.MaskFormerConfig(
        backbone_config=transformers.SwinConfig(**swin, out_features=stages),
        decoder_config=decoder,
        fpn_feature_size=32,
        mask_feature_size=32,
        num_labels=CLASSES,
        use_auxiliary_loss=True,
        **fields,
    )


CONFIGS: dict[str, Callable[[], Any]] = {
    "rt_detr": lambda: _rt_detr("RTDetr"),
    "rt_detr_v2": lambda: _rt_detr("RTDetrV2"),
    "d_fine": lambda: _rt_detr("DFine", hidden_size=16),
    "deformable_detr": lambda: _detr("DeformableDetr", ("stage2", "stage3", "stage4"), num_feature_levels=3),
    "deformable_detr_refined": lambda: _detr(
        "DeformableDetr", ("stage2", "stage3", "stage4"), num_feature_levels=3, with_box_refine=True
    ),
    "deformable_detr_two_stage": lambda: _detr(
        "DeformableDetr",
        ("stage2", "stage3", "stage4"),
        num_feature_levels=3,
        with_box_refine=True,
        two_stage=True,
        two_stage_num_proposals=QUERIES,
    ),
    "detr": lambda: _detr("Detr"),
    "conditional_detr": lambda: _detr("ConditionalDetr"),
    "mask2former": _mask2former,
    "maskformer": _maskformer,
}


def tiny_model(name: str, seed: int = 0) -> Any:
    """A model of transformers with random weights."""
    import transformers

    from longtail.detection.queries.known import FAMILIES

    config = CONFIGS[name]()
    torch.manual_seed(seed)
    return getattr(transformers, FAMILIES[config.model_type][0])(config)


def tiny_batch(masks: bool = False) -> tuple[list[torch.Tensor], list[dict[str, torch.Tensor]]]:
    """Two images of different sizes with three objects and one, and an image without objects."""
    generator = torch.Generator().manual_seed(1)
    images = [torch.randn(3, *size, generator=generator) for size in ((64, 96), (96, 64), (64, 64))]
    boxes = [[[4, 4, 40, 30], [30, 20, 90, 60], [0, 0, 20, 64]], [[10, 30, 60, 90]], []]
    labels = [[0, 3, 4], [2], []]
    targets = []
    for image, own, of in zip(images, boxes, labels, strict=True):
        target = {"boxes": torch.tensor(own, dtype=torch.float32).reshape(-1, 4), "labels": torch.tensor(of).long()}
        if masks:
            target["masks"] = torch.zeros(len(own), *image.shape[-2:], dtype=torch.bool)
            for mask, (x0, y0, x1, y1) in zip(target["masks"], own, strict=True):
                mask[y0:y1, x0:x1] = True
        targets.append(target)
    return images, targets
