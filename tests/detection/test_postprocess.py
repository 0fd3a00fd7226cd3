import pytest
import torch
from torchvision.ops import nms
from torchvision.ops.boxes import _batched_nms_vanilla

from longtail.detection import postprocess
from longtail.detection.config import PostprocessConfig
from longtail.detection.method import StageOutputs
from longtail.detection.postprocess import lazy_nms, score_offline, select_detections
from longtail.ensembles.dynamic import DynamicEnsemble
from longtail.ensembles.sparse import SparseEnsemble
from longtail.frequency.groups import CategoryGroups


def crowded(rows: int, classes: int, seed: int, levels: int | None = None):
    """Overlapping boxes; with ``levels``, scores take few values, so that ties abound."""
    g = torch.Generator().manual_seed(seed)
    centre = torch.rand(8, 2, generator=g)[torch.randint(0, 8, (rows,), generator=g)] * 100
    centre = centre + torch.randn(rows, 2, generator=g) * 4
    size = 20 + torch.rand(rows, 2, generator=g) * 10
    scores = torch.rand(rows, classes, generator=g) ** 4
    if levels:
        scores = (scores * levels).round() / levels
    return torch.cat([centre - size / 2, centre + size / 2], dim=1), scores


def everything(boxes, scores, threshold, iou, limit):
    """Torchvision's suppression class by class over all candidates."""
    row, label = (scores > threshold).nonzero(as_tuple=True)
    kept = _batched_nms_vanilla(boxes[row], scores[row, label], label, iou)[:limit]
    return row[kept], label[kept], scores[row, label][kept]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("first", [1, 16, 1024])
@pytest.mark.parametrize("iou", [0.3, 0.5, 0.7])
def test_lazy_equals_everything_bit_by_bit(seed, first, iou, monkeypatch):
    monkeypatch.setattr(postprocess, "_FIRST_CANDIDATES", first)
    boxes, scores = crowded(60, 1 + seed * 3, seed)
    found = lazy_nms(boxes, scores, 0.05, iou, 5 + 10 * seed)
    for mine, reference in zip(found, everything(boxes, scores, 0.05, iou, 5 + 10 * seed), strict=True):
        assert torch.equal(mine, reference)


@pytest.mark.parametrize("seed", range(8))
def test_ties_are_cut_as_a_stable_sort_cuts_them(seed, monkeypatch):
    """Which of two equal scores comes first is torchvision's own whim; ours is the lower index, everywhere."""
    boxes, scores = crowded(40, 6, seed, levels=8)
    row, label = (scores > 0.05).nonzero(as_tuple=True)
    value = scores[row, label]
    kept = torch.zeros_like(value, dtype=torch.bool)
    for c in label.unique():
        mine = torch.where(label == c)[0]
        kept[mine[nms(boxes[row[mine]], value[mine], 0.5)]] = True
    order = torch.where(kept)[0]
    order = order[value[order].argsort(descending=True, stable=True)][:30]
    for first in (1, 5, 1024):
        monkeypatch.setattr(postprocess, "_FIRST_CANDIDATES", first)
        found = lazy_nms(boxes, scores, 0.05, 0.5, 30)
        assert torch.equal(found[0], row[order]) and torch.equal(found[1], label[order])


@pytest.mark.parametrize("seed", range(6))
def test_one_call_with_offsets_keeps_the_same_boxes(seed):
    """What a GPU runs, on the CPU."""
    boxes, scores = crowded(80, 1, seed)
    score, order = scores[:, 0].sort(descending=True)
    boxes, labels = boxes[order] - 60, torch.randint(0, 1203, (80,))
    labels[:40] = labels[0]
    mine = nms(postprocess._apart(boxes, labels), score.double(), 0.5)
    assert torch.equal(mine, postprocess._suppress(boxes, score, labels, 0.5))
    assert len(mine) < 80


def test_class_agnostic_suppression():
    boxes, scores = crowded(50, 4, 0)
    row, label, _ = lazy_nms(boxes, scores, 0.0, 0.5, 1000, class_agnostic=True)
    flat_row, flat_label = (scores > 0).nonzero(as_tuple=True)
    kept = nms(boxes[flat_row], scores[flat_row, flat_label], 0.5)
    assert torch.equal(row, flat_row[kept]) and torch.equal(label, flat_label[kept])
    assert len(set(row.tolist())) == len(row)  # a box is given once, with its best class


def test_only_a_prefix_is_suppressed(monkeypatch):
    seen = []
    real = postprocess._suppress
    monkeypatch.setattr(postprocess, "_suppress", lambda b, *a: seen.append(len(b)) or real(b, *a))
    g = torch.Generator().manual_seed(0)
    boxes, _ = crowded(1000, 1, 0)
    lazy_nms(boxes, torch.rand(1000, 300, generator=g), 1e-4, 0.5, 300)
    assert seen == [1024]


@pytest.mark.parametrize("rows", [0, 3])
def test_nothing_above_the_threshold(rows):
    found = lazy_nms(torch.rand(rows, 4), torch.full((rows, 5), 0.01), 0.05, 0.5, 10)
    assert [len(f) for f in found] == [0, 0, 0]


def test_select_by_hand():
    probabilities = torch.tensor([[0.6, 0.3, 0.1], [0.5, 0.4, 0.1], [0.9, 0.05, 0.05], [0.02, 0.01, 0.97]])
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [5, 5, 5, 9], [20, 20, 30, 30]])
    found = select_detections(probabilities, boxes, PostprocessConfig(score_threshold=0.05))
    # row 1 is suppressed in class 0 and suppresses row 0 in class 1; row 2 is flat; row 3 is background
    assert found.labels.tolist() == [0, 1]
    assert found.scores.tolist() == pytest.approx([0.6, 0.4])
    assert found.boxes.tolist() == [[0, 0, 10, 10], [0, 0, 10, 9]]


def test_offline_scoring_needs_only_logits_and_boxes():
    logits = torch.randn(3, 6, 4)
    outputs = StageOutputs(
        logits, torch.tensor([[0.0, 0, 10, 10]]).repeat(6, 1) + torch.arange(6.0)[:, None] * 15, (100, 100)
    )
    found = score_offline(
        outputs, lambda o: o.logits.mean(0).softmax(1), PostprocessConfig(score_threshold=0.0), (50, 200)
    )
    assert len(found) == 18 and found.size == (50, 200)
    best = logits.mean(0).softmax(1)[:, :-1].max()
    assert found.scores[0] == best
    assert found.boxes[:, 2].max() <= 200 and found.boxes[:, 3].max() <= 50
    nobody = StageOutputs(logits[:, :0], torch.zeros(0, 4), (100, 100))
    assert len(score_offline(nobody, lambda o: o.logits.mean(0).softmax(1), PostprocessConfig())) == 0


def test_a_users_own_detector_needs_only_stage_outputs():
    """Recorded logits of any multi-stage detector, under an ensemble of the library."""
    groups = CategoryGroups(("rare", "frequent"), ((0,), (1, 2)))
    recorded = StageOutputs(torch.randn(2, 5, 4), crowded(5, 1, 0)[0].clamp(min=0), (200, 200))
    for ensemble in (DynamicEnsemble(groups), SparseEnsemble(groups)):
        expected = ensemble(recorded.logits)
        found = score_offline(recorded, lambda o, e=ensemble: e(o.logits), PostprocessConfig(score_threshold=0.0))
        assert found.scores[0] == expected[:, :-1].max()
        assert found.labels[0] == expected[:, :-1].amax(0).argmax()


def test_without_a_limit_the_same_pairs_go_on():
    boxes, scores = crowded(60, 20, 3)
    every, best = lazy_nms(boxes, scores, 0.05, 0.5, 0), lazy_nms(boxes, scores, 0.05, 0.5, 40)
    assert len(every[0]) > 40
    for whole, first in zip(every, best, strict=True):
        assert torch.equal(whole[:40], first)
    probabilities = torch.cat([scores, torch.zeros(60, 1)], dim=1)
    recorded = StageOutputs(probabilities[None], boxes, (100, 100))
    config = PostprocessConfig(score_threshold=0.05, max_detections=40)
    found = score_offline(recorded, lambda o: o.logits[0], config, (200, 100), unlimited=True)
    assert len(found) == 40 and len(found.unlimited) == len(every[0]) and found.unlimited.size == (200, 100)
    assert torch.equal(found.unlimited.boxes[:40], found.boxes) and torch.equal(found.unlimited.scores, every[2])
    assert score_offline(recorded, lambda o: o.logits[0], config).unlimited is None
