"""The whole detector: interface, ensembles, robustness."""

import pytest
import torch
import torch.nn.functional as F

from longtail.detection.cascade_rcnn import pad_images
from longtail.detection.config import PostprocessConfig
from longtail.detection.postprocess import score_offline
from longtail.ensembles.base import Ensemble
from longtail.errors import ConfigError
from longtail.losses.base import ClassificationLoss
from support.masks import decode_mask

from .conftest import NUM_CLASSES, confident, same, scene, tiny_cascade, tiny_htc, with_semantic

KINDS = {
    "mmdetection": tiny_cascade,
    "detectron2": lambda **k: tiny_cascade("detectron2", **k),
    "htc": tiny_htc,
    "semantic": lambda **k: tiny_htc(parts={"semantic_classes": 4}, **k),
}


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


def train_step(detector, images, targets):
    losses = detector.losses(images, with_semantic(targets, images))
    sum(losses.values()).backward()
    assert all(v.isfinite() for v in losses.values()), losses
    assert all(p.grad is not None and p.grad.isfinite().all() for p in detector.parameters())
    return losses


def test_padding():
    batch, sizes = pad_images([torch.ones(3, 33, 10), torch.ones(3, 5, 64)], 32)
    assert batch.shape == (2, 3, 64, 64) and sizes == [(33, 10), (5, 64)]
    assert batch[0].sum() == 3 * 33 * 10 and batch[1, :, :5].min() == 1


def test_detections(kind, batch):
    detector = confident(kind())
    for found, image in zip(detector.predict(batch[0]), batch[0], strict=True):
        height, width = image.shape[-2:]
        assert 0 < len(found) <= 20 and found.size == (height, width)
        assert (found.scores.diff() <= 0).all() and found.scores.max() <= 1
        assert found.labels.min() >= 0 and found.labels.max() < NUM_CLASSES
        assert found.boxes.min() >= 0 and found.boxes[:, 2].max() <= width and found.boxes[:, 3].max() <= height
        assert len(found.masks) == len(found)
        for encoded, box in zip(found.masks, found.boxes, strict=True):
            mask = torch.from_numpy(decode_mask(encoded).copy())
            assert mask.shape == (height, width)
            rows, columns = mask.nonzero(as_tuple=True)
            if len(rows):
                assert columns.min() >= box[0].floor() - 1 and columns.max() <= box[2].ceil() + 1
                assert rows.min() >= box[1].floor() - 1 and rows.max() <= box[3].ceil() + 1


def test_original_sizes(batch):
    detector = confident(tiny_cascade())
    plain = detector.predict(batch[0])
    doubled = detector.predict(batch[0], [(192, 240), (64, 100)])
    assert doubled[0].size == (192, 240) and doubled[0].masks[0]["size"] == [192, 240]
    torch.testing.assert_close(doubled[0].boxes, plain[0].boxes * torch.tensor([3.0, 2.0, 3.0, 2.0]))
    same(doubled[1], plain[1])


def test_batch_of_one_and_of_two(kind):
    images = [scene(96, 96, seed=1)[0], scene(96, 96, seed=2)[0]]
    detector = confident(kind())
    together = detector.predict(images)
    for image, found in zip(images, together, strict=True):
        same(detector.predict([image])[0], found)


def test_padding_by_a_batch_partner_changes_nothing_where_features_are_alike():
    """Pooling and anchors depend on the box, never on how the batch was padded."""
    detector = confident(tiny_cascade())
    features = [torch.randn(1, 16, 96 // s, 96 // s).repeat(2, 1, 1, 1) for s in (4, 8, 16, 32, 64)]
    boxes = torch.tensor([[3.0, 3.0, 60.0, 70.0], [0.0, 0.0, 90.0, 90.0]])
    alone = detector.heads.pool_boxes(detector.heads.embed([f[:1] for f in features]), [boxes])
    both = detector.heads.pool_boxes(detector.heads.embed(features), [boxes, boxes[:1]])
    assert torch.equal(alone, both[:2])


def test_stage_outputs_rescored_offline_are_the_detections(batch):
    detector = confident(tiny_cascade(masks="none"))
    outputs = detector.stage_outputs(batch[0])
    assert outputs[0].logits.shape == (3, len(outputs[0].boxes), NUM_CLASSES + 1)
    predicted = detector.predict_readouts(batch[0])
    for name, readout in detector.readouts().items():
        for recorded, found in zip(outputs, predicted[name], strict=True):
            again = score_offline(recorded, readout, detector.config.postprocess)
            assert torch.equal(again.scores, found.scores) and torch.equal(again.boxes, found.boxes)


def test_stage_readouts_are_the_stages_alone(batch):
    detector = confident(tiny_cascade())
    outputs = detector.stage_outputs(batch[0])[0]
    for k in range(3):
        torch.testing.assert_close(detector.readouts()[f"stage_{k + 1}"](outputs), outputs.logits[k].softmax(1))


class LastStage(Ensemble):
    def forward(self, logits, features=None):
        return logits[-1].softmax(1)


def test_an_injected_ensemble_is_the_prediction(batch):
    detector = confident(tiny_cascade(parts={"ensembles": {"last": LastStage()}}))
    assert list(detector.readouts()) == ["last", "average", "stage_1", "stage_2", "stage_3"]
    found = detector.predict_readouts(batch[0], names=["last", "stage_3"])
    for own, third in zip(found["last"], found["stage_3"], strict=True):
        assert torch.equal(own.scores, third.scores) and own.masks == third.masks
    for own, first in zip(found["last"], detector.predict(batch[0]), strict=True):
        assert torch.equal(own.scores, first.scores)
    with pytest.raises(ConfigError, match="no readout 'best'"):
        detector.predict_readouts(batch[0], names=["best"])


class Counting(ClassificationLoss):
    """Twice cross-entropy over one logit more than needed; counts its calls."""

    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.register_buffer("calls", torch.zeros(()))

    @property
    def num_logits(self):
        return self.num_classes + 1

    def forward(self, logits, target):
        self.calls += 1
        return 2 * F.cross_entropy(logits[:, :-1], target)

    def probabilities(self, logits):
        return logits[:, :-1].softmax(1)


@pytest.mark.parametrize("make", [tiny_cascade, tiny_htc])
def test_an_injected_loss_owns_its_logits(batch, make):
    detector = make(parts={"losses": Counting(NUM_CLASSES + 1)})
    assert detector.heads.stages[0].classifier.out_features == NUM_CLASSES + 2
    detector.losses(*batch)
    assert [int(detector.heads.class_losses.loss(k).calls) for k in range(3)] == [1, 1, 1]
    assert sum("calls" in name for name in detector.state_dict()) == 3  # counts are part of a checkpoint
    confident(detector)
    outputs = detector.stage_outputs(batch[0])[0]
    assert outputs.logits.shape[2] == NUM_CLASSES + 2
    torch.testing.assert_close(detector.readouts()["baseline"](outputs), outputs.logits.mean(0)[:, :-1].softmax(1))
    assert len(detector.predict(batch[0])[0]) > 0
    detector.ensembles["careless"] = LastStage()
    with pytest.raises(ConfigError, match="'careless' gives 5 probabilities for 3 classes"):
        detector.predict(batch[0])


def test_per_stage_callables(batch):
    zero = [lambda o, y, k=k: o.sum() * 0 + k for k in range(3)]
    losses = tiny_cascade(parts={"losses": zero}).losses(*batch)
    assert [losses[f"stage_{k}_class"].item() for k in (1, 2, 3)] == [0, 0.5, 0.5]


def test_cosine_classifier(batch):
    detector = tiny_cascade(parts={"classifier": "cosine"})
    train_step(detector, *batch)
    with pytest.raises(ConfigError, match="no classifier 'cosin'"):
        tiny_cascade(parts={"classifier": "cosin"})


def test_prediction_wants_evaluation_mode(batch):
    with pytest.raises(ConfigError, match="training mode"):
        tiny_cascade().predict(batch[0])


def test_phases(batch):
    with pytest.raises(ConfigError, match="no training phase 'finetune'"):
        tiny_cascade().start_phase("finetune")


# robustness


def test_images_without_objects(kind, batch):
    images, targets = batch
    empty = [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)} for _ in targets]
    losses = train_step(kind(), images, empty)
    assert losses["stage_1_box"] == 0 and losses["stage_1_mask"] == 0 and losses["stage_1_class"] > 0
    train_step(kind(), images, [targets[0], empty[1]])


def test_an_image_that_is_all_crowd(kind, batch):
    images, targets = batch
    crowd = [
        {
            "boxes": torch.tensor([[0.0, 0.0, float(i.shape[2]), float(i.shape[1])]]),
            "labels": torch.tensor([1]),
            "crowd": torch.tensor([True]),
            "masks": torch.ones(1, *i.shape[1:], dtype=torch.bool),
        }
        for i in images
    ]
    losses = train_step(kind(), images[:1], crowd[:1])
    assert losses["stage_1_class"] == 0
    # anchors that jut out of the image far enough are still background
    assert losses["proposal_objectness"] >= 0
    train_step(kind(), images, [targets[0], crowd[1]])


def test_no_anchor_and_no_proposal_can_be_sampled(batch):
    """A crowd overlap of 0 ignores every negative, and there is no positive."""
    images, targets = batch
    crowd = [{**t, "crowd": torch.ones(len(t["labels"]), dtype=torch.bool)} for t in targets]
    losses = train_step(tiny_cascade(crowd_overlap=0.0), images, crowd)
    assert all(v == 0 for v in losses.values())


def test_objects_outside_and_of_one_pixel(kind, batch):
    images, _ = batch
    target = {
        "boxes": torch.tensor([[200.0, 200.0, 250.0, 250.0], [-9.0, -9.0, -1.0, -1.0], [5.0, 5.0, 6.0, 6.0]]),
        "labels": torch.tensor([0, 1, 2]),
        "masks": torch.zeros(3, 96, 80, dtype=torch.bool),
    }
    target["masks"][2, 5, 5] = True
    train_step(kind(), images[:1], [target])


@pytest.mark.parametrize("size", [(8, 8), (1, 200), (33, 31)])
def test_tiny_and_narrow_images(kind, size):
    image = torch.randn(3, *size)
    target = {
        "boxes": torch.tensor([[0.0, 0.0, float(size[1]), float(size[0])]]),
        "labels": torch.tensor([0]),
        "masks": torch.ones(1, *size, dtype=torch.bool),
    }
    detector = kind()
    train_step(detector, [image], [target])
    detector.eval()
    for found in detector.predict([image]):
        assert found.boxes.isfinite().all()


def test_a_huge_image():
    image, target = torch.randn(3, 1500, 2000), scene()[1]
    detector = tiny_cascade()
    target["masks"] = torch.zeros(3, 1500, 2000, dtype=torch.bool)
    train_step(detector, [image], [target])
    detector.eval()
    assert detector.predict([image], [(6000, 8000)])[0].masks[0]["size"] == [6000, 8000]


def test_no_proposals(kind, batch, monkeypatch):
    detector = kind()
    real = detector.proposals.propose
    nothing = lambda *a, **k: ([torch.zeros(0, 4) for _ in batch[0]], real(*a, **k)[1])  # noqa: E731
    monkeypatch.setattr(detector.proposals, "propose", nothing)
    empty = [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)} for _ in batch[1]]
    train_step(detector, *batch)
    train_step(detector, batch[0], empty)
    detector.eval()
    for found in detector.predict(batch[0]):
        assert len(found) == 0 and found.masks == []


def test_no_detection_above_the_threshold(batch):
    detector = tiny_cascade(postprocess=PostprocessConfig(score_threshold=0.999)).eval()
    assert [len(d) for d in detector.predict(batch[0])] == [0, 0]


def test_mixed_precision(batch):
    detector = tiny_cascade()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = train_step(detector, *batch)
    assert all(v.dtype == torch.float32 for v in losses.values())
    detector.eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert detector.predict(batch[0])[0].boxes.dtype == torch.float32


def test_readouts_share_masks_without_changing_them():
    detector = confident(tiny_cascade()).eval()
    images = [torch.randn(3, 64, 80), torch.randn(3, 48, 64)]
    with torch.no_grad():
        together = detector.predict_readouts(images)
        for name in detector.readouts():
            alone = detector.predict_readouts(images, names=[name])[name]
            for found, expected in zip(together[name], alone, strict=True):
                assert len(expected) > 0
                assert found.masks == expected.masks
                torch.testing.assert_close(found.boxes, expected.boxes)
