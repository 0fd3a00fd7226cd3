import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import roi_align

from longtail.detection import mask_head
from longtail.detection.mask_head import MaskHead, mask_loss, mask_targets, mean_probabilities


@pytest.fixture
def head():
    return MaskHead(6, 8, 2, num_classes=11)


def test_one_class_equals_all_and_a_gather(head):
    pooled, labels = torch.randn(5, 6, 14, 14), torch.tensor([0, 10, 3, 3, 7])
    features = head(pooled)
    one, gathered = (
        head.class_logits(features, labels),
        head.predictor(F.relu(head.upsample(features)))[torch.arange(5), labels],
    )
    assert one.shape == (5, 28, 28)
    torch.testing.assert_close(one, gathered)
    weights = torch.randn(5, 28, 28)
    mine = torch.autograd.grad((one * weights).sum(), list(head.parameters()), retain_graph=True)
    full = torch.autograd.grad((gathered * weights).sum(), list(head.parameters()))
    for a, b in zip(mine, full, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_memory_does_not_grow_with_classes():
    """No tensor of the graph of the loss has a class axis of maps."""
    many = MaskHead(6, 8, 1, num_classes=1203)
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        mask_loss(
            many.class_logits(many(torch.randn(4, 6, 14, 14)), torch.tensor([1, 5, 1202, 0])), torch.zeros(4, 28, 28)
        )
    assert max(sizes) <= 4 * 8 * 28 * 28


def test_no_proposals(head):
    logits = head.class_logits(head(torch.zeros(0, 6, 14, 14)), torch.zeros(0, dtype=torch.int64))
    loss = mask_loss(logits, torch.zeros(0, 28, 28))
    loss.backward()
    assert loss == 0 and all(p.grad is not None for p in head.parameters())


def test_flow_from_the_previous_head():
    plain, flowing = MaskHead(6, 8, 2, 3), MaskHead(6, 8, 2, 3, takes_previous=True)
    pooled, previous = torch.randn(2, 6, 14, 14), torch.randn(2, 8, 14, 14, requires_grad=True)
    assert torch.equal(plain(pooled, previous), plain(pooled))
    found = flowing(pooled, previous)
    expected = flowing(pooled + F.relu(flowing.from_previous(previous)))
    torch.testing.assert_close(found, expected)
    found.sum().backward()
    assert previous.grad.abs().sum() > 0


def test_targets_by_hand():
    mask = torch.zeros(1, 32, 32, dtype=torch.bool)
    mask[0, 8:16, 8:16] = True
    boxes = torch.tensor([[8.0, 8.0, 16.0, 16.0], [0.0, 8.0, 16.0, 16.0], [20.0, 20.0, 30.0, 30.0]])
    found = mask_targets(mask, boxes, torch.zeros(3, dtype=torch.int64), 4)
    assert found[0].all() and not found[2].any()
    assert found[1].tolist() == [[0, 0, 1, 1]] * 4


def test_targets_in_chunks_equal_all_at_once(monkeypatch):
    monkeypatch.setattr(mask_head, "_TARGET_CHUNK", 2)
    masks = torch.rand(7, 40, 50) > 0.5
    corner = torch.rand(20, 2) * 20
    boxes, matched = torch.cat([corner, corner + 3 + torch.rand(20, 2) * 15], 1), torch.randint(0, 7, (20,))
    rois = torch.cat([matched[:, None].float(), boxes], dim=1)
    reference = roi_align(masks[:, None].float(), rois, (28, 28), aligned=True)[:, 0] >= 0.5
    assert torch.equal(mask_targets(masks, boxes, matched, 28), reference.float())


def test_mean_of_probabilities():
    found = mean_probabilities([torch.full((1, 2, 2), 100.0), torch.full((1, 2, 2), -100.0)])
    assert torch.equal(found, torch.full((1, 2, 2), 0.5))
