import pytest
import torch
import torch.nn.functional as F

from longtail.detection import htc as htc_module
from longtail.detection.cascade import Pyramid
from longtail.detection.htc import SemanticBranch, semantic_loss
from longtail.detection.targets import Objects
from longtail.errors import ConfigError, DataError

from .conftest import tiny_htc

NOTHING = (torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4))


def pyramid(size: int = 96) -> Pyramid:
    return Pyramid([torch.randn(2, 16, -(-size // s), -(-size // s)) for s in (4, 8, 16, 32, 64)])


def test_masks_of_a_stage_learn_from_its_own_refined_boxes(batch, monkeypatch):
    """Interleaved: box stage k, refine, sample for mask k, sample for box stage k+1."""
    detector = tiny_htc()
    order = []
    heads = detector.heads
    for name in ("box_losses", "refine", "next_samples", "_mask_loss"):
        real = getattr(heads, name)
        monkeypatch.setattr(heads, name, lambda *a, _n=name, _r=real: order.append((_n, a[0])) or _r(*a))
    detector.losses(*batch)
    steps = [[("box_losses", k), ("refine", k), ("next_samples", k), ("_mask_loss", k)] for k in range(3)]
    flow = [("next_samples", k + 1) for k in range(2)]
    assert order == [*steps[0], flow[0], *steps[1], flow[1], *steps[2]]


def test_mask_information_flows_through_all_earlier_heads():
    heads = tiny_htc().heads
    pooled = torch.randn(3, 16, 14, 14)
    first, second, third = heads.mask_heads
    expected = third(pooled, second(pooled, first(pooled)))
    torch.testing.assert_close(heads._mask_features(pooled, 2), expected)
    assert first.from_previous is None and second.from_previous is not None


def test_earlier_mask_heads_learn_from_later_stages(batch):
    detector = tiny_htc()
    detector.losses(*batch)["stage_3_mask"].backward()
    for head in detector.heads.mask_heads:
        assert head.convolutions[0].weight.grad.abs().sum() > 0


def test_one_mask_head_chain_at_inference():
    heads = tiny_htc().heads
    boxes = [torch.tensor([[3.0, 3.0, 60.0, 70.0]]), torch.zeros(0, 4)]
    features, labels = pyramid(), torch.tensor([1])
    found = heads.mask_logits(features, boxes, labels, torch.tensor([0]))
    pooled = heads.pool_masks(features, boxes)
    chain = [heads._mask_features(pooled, stage) for stage in range(3)]
    for logits, head, feature in zip(found, heads.mask_heads, chain, strict=True):
        torch.testing.assert_close(logits, head.class_logits(feature, labels))


def test_semantic_features_join_what_is_pooled():
    heads = tiny_htc(parts={"semantic_classes": 4}).heads
    boxes = [torch.tensor([[3.0, 3.0, 60.0, 70.0]]), torch.zeros(0, 4)]
    levels = pyramid().levels
    found = heads.embed(levels)
    assert found.semantic.shape == (2, 16, 12, 12) and found.semantic_logits.shape == (2, 4, 12, 12)
    plain = Pyramid(levels)
    extra = heads.pool_masks(found, boxes) - heads.pool_masks(plain, boxes)
    assert extra.abs().sum() > 0
    joined = heads.pool_boxes(found, boxes) - heads.pool_boxes(plain, boxes)
    torch.testing.assert_close(joined, F.adaptive_avg_pool2d(extra, 7), rtol=1e-4, atol=1e-5)


def test_semantic_branch_fuses_every_level():
    branch = SemanticBranch(16, (4, 8, 16, 32), 5, 4)
    levels = [level.requires_grad_() for level in pyramid().levels]
    branch(levels)[1].square().sum().backward()
    assert all(level.grad.abs().sum() > 0 for level in levels)


def test_semantic_loss_by_hand():
    logits = torch.zeros(2, 3, 2, 2)
    logits[0, 1] = 2.0
    first = torch.full((16, 16), 1)
    first[:8] = 255
    objects = [Objects(*NOTHING, semantic=first), Objects(*NOTHING, semantic=torch.zeros(8, 16, dtype=torch.int64))]
    # two cells of image 1 are labelled 1; two of image 2 labelled 0; the rest is ignored or padding
    right = F.cross_entropy(torch.tensor([[0.0, 2.0, 0.0]]), torch.tensor([1]))
    expected = (2 * right + 2 * torch.tensor(3.0).log()) / 4
    torch.testing.assert_close(semantic_loss(logits, objects), expected)


def test_semantic_loss_of_ignored_pixels_is_zero():
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    loss = semantic_loss(logits, [Objects(*NOTHING, semantic=torch.full((16, 16), 255))])
    loss.backward()
    assert loss == 0 and not logits.grad.any()


def test_semantic_maps_of_other_classes_are_refused():
    with pytest.raises(DataError, match="class 3, the semantic branch 3 classes"):
        semantic_loss(torch.zeros(1, 3, 2, 2), [Objects(*NOTHING, semantic=torch.full((16, 16), 3))])


def test_missing_semantic_maps_are_refused(batch):
    with pytest.raises(DataError, match="semantic"):
        tiny_htc(parts={"semantic_classes": 4}).losses(*batch)


def test_semantic_weight(batch, monkeypatch):
    images, targets = batch
    targets = [
        {**t, "semantic": torch.zeros(i.shape[1:], dtype=torch.int64)} for t, i in zip(targets, images, strict=True)
    ]
    monkeypatch.setattr(htc_module, "semantic_loss", lambda *a: torch.tensor(10.0))
    torch.testing.assert_close(
        tiny_htc(parts={"semantic_classes": 4}).losses(images, targets)["semantic"], torch.tensor(2.0)
    )


@pytest.mark.parametrize("masks", ["single", "none"])
def test_htc_needs_its_mask_heads(masks):
    with pytest.raises(ConfigError, match="HTC with masks"):
        tiny_htc(masks=masks)


def test_without_resampling_the_labels_are_refreshed(batch):
    losses = tiny_htc(resample=False).losses(*batch)
    assert all(v.isfinite() for v in losses.values())
