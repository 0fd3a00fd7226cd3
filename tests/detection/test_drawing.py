import numpy as np
import torch
from PIL import Image

from longtail.detection.drawing import draw, from_record, to_record
from longtail.detection.method import Detections
from longtail.detection.run_lengths import encode_masks

NAMES, PALETTE = ["cup", "ring"], [(200, 0, 0), (0, 0, 200)]


def detections(**changes) -> Detections:
    boxes = torch.tensor([[10.0, 10, 30, 30], [40, 12, 60, 28]])
    given = {"boxes": boxes, "scores": torch.tensor([0.9, 0.25]), "labels": torch.tensor([0, 1]), "size": (40, 80)}
    return Detections(**{**given, **changes})


def test_records_give_the_detections_back():
    masks = encode_masks(torch.ones(2, 4, 4), detections().boxes, (40, 80))
    again = from_record(to_record(detections(masks=masks)))
    assert torch.equal(again.boxes, detections().boxes) and torch.equal(again.labels, detections().labels)
    assert torch.allclose(again.scores, detections().scores) and again.masks == masks and again.size == (40, 80)
    truth = from_record(to_record(detections(scores=torch.full((2,), torch.nan))))
    assert truth.scores.isnan().all() and truth.masks is None
    empty = torch.zeros(0)
    none = from_record(to_record(Detections(empty.reshape(0, 4), empty, empty.long(), (5, 6))))
    assert len(none) == 0 and none.size == (5, 6)


def test_masks_and_boxes_follow_the_size_of_the_photograph():
    boxes = detections().boxes
    masks = encode_masks(torch.ones(2, 4, 4), boxes, (40, 80))
    for factor in (1, 2):
        photo = Image.new("RGB", (80 * factor, 40 * factor))
        drawn = np.asarray(draw(photo, detections(masks=masks), NAMES, PALETTE))
        assert drawn[27 * factor, 27 * factor].tolist() == [90, 0, 0]  # 0.45 of the colour
        assert drawn[26 * factor, 40 * factor].tolist() == [0, 0, 200]  # the border of the second box
        assert not drawn[35 * factor, 35 * factor].any()
    tensor = torch.zeros(3, 40, 80, dtype=torch.uint8)
    assert np.array_equal(
        draw(tensor, detections(), NAMES, PALETTE), draw(Image.new("RGB", (80, 40)), detections(), NAMES, PALETTE)
    )


def test_faded_detections_have_no_mask_and_lie_below():
    boxes = torch.tensor([[10.0, 10, 30, 30], [10, 10, 30, 30]])
    masks = encode_masks(torch.ones(2, 4, 4), boxes, (40, 80))
    both = detections(boxes=boxes, masks=masks)
    drawn = np.asarray(draw(Image.new("RGB", (80, 40)), both, NAMES, PALETTE, faded=[True, False]))
    assert drawn[25, 20].tolist() == [0, 0, 90] and drawn[25, 10].tolist() == [0, 0, 200]
    pale = np.asarray(draw(Image.new("RGB", (80, 40)), both, NAMES, PALETTE, faded=[True, True]))
    assert len(set(pale[25, 10].tolist())) > 1 and not pale[25, 20].any()
