import pytest
import torch

from longtail.detection.augmented import AugmentedDetector, _back, _into, _through, _View
from longtail.detection.postprocess import score_offline
from longtail.errors import ConfigError
from support.masks import decode_mask

from .conftest import confident, same, scene, tiny_cascade


def test_one_view_is_the_detector(batch):
    detector = confident(tiny_cascade())
    alone = AugmentedDetector(detector, (1.0,), flip=False).eval()
    for mine, theirs in zip(alone.predict(batch[0]), detector.predict(batch[0]), strict=True):
        same(mine, theirs)
        assert mine.masks == theirs.masks


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.5])
@pytest.mark.parametrize("flipped", [False, True])
def test_boxes_go_into_a_view_and_back(scale, flipped):
    view, size = _View(scale, flipped), (40, 60)
    image = torch.zeros(3, *size)
    image[:, 8:16, 4:24] = 1.0
    seen = _through(view, image)
    boxes = torch.tensor([[4.0, 8.0, 24.0, 16.0]])
    moved = _into(view, boxes, size, tuple(seen.shape[-2:]))
    left, top, right, bottom = (round(v) for v in moved[0].tolist())
    assert seen[0, top:bottom, left:right].mean() > 0.9 and seen[0].sum() < 1.1 * (right - left) * (bottom - top)
    torch.testing.assert_close(_back(view, moved, tuple(seen.shape[-2:]), size), boxes)


def test_a_mirrored_image_gives_mirrored_detections():
    """The two views of a mirrored image are those of the image, so flipping commutes with the whole detector."""
    detector = AugmentedDetector(confident(tiny_cascade())).eval()
    image = scene(96, 96, seed=3)[0]
    plain, mirrored = detector.predict([image])[0], detector.predict([image.flip(-1)])[0]
    assert len(plain) > 3
    torch.testing.assert_close(plain.scores, mirrored.scores, rtol=1e-4, atol=1e-5)
    back = torch.stack(
        [96 - mirrored.boxes[:, 2], mirrored.boxes[:, 1], 96 - mirrored.boxes[:, 0], mirrored.boxes[:, 3]], dim=1
    )
    torch.testing.assert_close(plain.boxes, back, rtol=1e-4, atol=1e-2)
    a, b = (decode_mask(m.masks[0]) for m in (plain, mirrored))
    assert (a != b[:, ::-1]).mean() < 0.01


def test_scales_and_flips_compete(batch):
    inner = confident(tiny_cascade())
    detector = AugmentedDetector(inner, (0.75, 1.25)).eval()
    outputs, single = detector.stage_outputs(batch[0]), inner.stage_outputs(batch[0])
    assert len(outputs[0].boxes) > len(single[0].boxes)
    found = detector.predict(batch[0], [(192, 160), (64, 100)])
    assert found[0].size == (192, 160) and found[0].boxes[:, 2].max() <= 160
    again = score_offline(outputs[0], detector.readouts()["baseline"], inner.config.postprocess, (192, 160))
    assert torch.equal(again.scores, found[0].scores)


def test_training_is_the_detectors(batch):
    detector = tiny_cascade()
    torch.manual_seed(0)
    plain = detector.losses(*batch)
    torch.manual_seed(0)
    assert {k: v.item() for k, v in AugmentedDetector(detector).losses(*batch).items()} == {
        k: v.item() for k, v in plain.items()
    }


@pytest.mark.parametrize("scales", [(), (0.0,)])
def test_impossible_scales(scales):
    with pytest.raises(ConfigError):
        AugmentedDetector(tiny_cascade(), scales)
