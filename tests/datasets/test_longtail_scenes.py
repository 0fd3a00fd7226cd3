import hashlib
import pickle
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from longtail.datasets import LongTailScenes
from longtail.datasets.base import DetectionDataset, SegmentationDataset
from longtail.datasets.scene_plan import SURROUNDINGS, Draw, object_kinds, zipf_shares
from longtail.errors import ConfigError
from longtail.frequency import CategoryGroups
from longtail.frequency.count_pixels import count_pixels


def digest(data: LongTailScenes, index: int = 3) -> str:
    sample = data[index]
    return hashlib.sha256(np.asarray(sample["image"]).tobytes() + np.asarray(sample["mask"]).tobytes()).hexdigest()[:16]


def test_segmentation_sample():
    data = LongTailScenes(num_images=4, size=(96, 128))
    sample = data[1]
    assert isinstance(sample["image"], tv_tensors.Image) and sample["image"].shape == (3, 96, 128)
    assert isinstance(sample["mask"], tv_tensors.Mask) and sample["mask"].shape == (96, 128)
    assert sample["image"].dtype == sample["mask"].dtype == torch.uint8 and sample["name"] == "000001"
    assert data.classes.num_classes == 16 and data.classes.names[:4] == SURROUNDINGS
    assert len(set(data.classes.names)) == len(set(data.classes.palette)) == 16
    assert isinstance(data, SegmentationDataset) and isinstance(data, DetectionDataset)
    assert np.array_equal(data.mask(1), sample["mask"]) and torch.equal(data[-3]["image"], sample["image"])


def test_scenes_are_the_same_on_every_machine():
    # Recorded once. A change that alters pixels raises _VERSION in synthetic.py and this value.
    assert digest(LongTailScenes()) == "3c0b91d97d2d3e7e"


def test_scenes_are_the_same_in_another_process():
    data = LongTailScenes(size=(64, 64))
    data.mask(0)
    code = "import sys, pickle, numpy as np; d = pickle.load(sys.stdin.buffer); sys.stdout.buffer.write(d.mask(3).tobytes())"
    other = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(data), capture_output=True, check=True)
    assert other.stdout == data.mask(3).tobytes()
    assert digest(pickle.loads(pickle.dumps(data))) == digest(data)


def test_a_scene_depends_on_seed_split_and_index_alone():
    assert digest(LongTailScenes(num_images=10)) == digest(LongTailScenes(num_images=5000))
    others = [LongTailScenes(seed=1), LongTailScenes("val"), LongTailScenes("test")]
    assert len({digest(data) for data in [LongTailScenes(), *others]}) == 4
    assert digest(LongTailScenes(), 3) != digest(LongTailScenes(), 4)


def test_reading_leaves_global_random_state_alone():
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    LongTailScenes()[0]
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


def test_groups_by_share_have_head_body_and_tail():
    for split in ("train", "val"):
        groups = CategoryGroups.by_share(count_pixels(LongTailScenes(split)))
        assert min(groups.sizes) >= 3, (split, groups.sizes)


def test_every_class_occurs_in_training_and_validation():
    for split in ("train", "val"):
        assert (count_pixels(LongTailScenes(split)).images > 0).all()


def test_detection_sample_shows_the_same_scene():
    scene, objects = LongTailScenes(num_images=30), LongTailScenes(num_images=30, task="detection")
    assert objects.classes.names == scene.classes.names[4:]
    for i in range(30):
        sample, semantic = objects[i], scene.mask(i)
        assert torch.equal(sample["image"], scene[i]["image"])
        assert sample["labels"].tolist() == objects.image_labels[i].tolist() == scene.image_labels[i].tolist()
        masks, count = sample["masks"], len(sample["labels"])
        assert masks.dtype == torch.bool and masks.shape == (count, 128, 128)
        assert sample["boxes"].shape == (count, 4) and sample["crowd"].tolist() == [False] * count
        assert sample["image_id"] == i
        painted = np.full(semantic.shape, -1)
        for mask, label, box in zip(masks.numpy(), sample["labels"].tolist(), sample["boxes"].tolist(), strict=True):
            rows, columns = np.where(mask)
            assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            painted[mask] = label + 4
        assert (masks.sum(0) <= 1).all()
        assert np.array_equal(painted >= 0, semantic >= 4) and (painted[painted >= 0] == semantic[painted >= 0]).all()


def test_an_image_without_objects_is_a_valid_sample():
    data = LongTailScenes(num_images=30_000, task="detection", size=(32, 32))
    empty = next(i for i, labels in enumerate(data.image_labels) if len(labels) == 0)
    sample = data[empty]
    assert sample["boxes"].shape == (0, 4) and sample["masks"].shape == (0, 32, 32) and len(sample["labels"]) == 0


def surroundings_of(data: LongTailScenes, index: int) -> list[tuple[int, int]]:
    """(kind, most common ground around it) of every object of a scene."""
    sample, semantic, found = data[index], None, []
    scene = LongTailScenes(data.split, data.num_images, data.size, seed=data.seed)
    semantic = scene.mask(index)
    for label, box in zip(sample["labels"].tolist(), sample["boxes"].int().tolist(), strict=True):
        x1, y1, x2, y2 = (max(0, v + d) for v, d in zip(box, (-3, -3, 3, 3), strict=True))
        around = semantic[y1:y2, x1:x2]
        grounds = np.bincount(around[around < 4], minlength=4)
        found.append((label, int(grounds.argmax())))
    return found


def test_context_tells_look_alikes_apart():
    data = LongTailScenes(num_images=400, task="detection")
    right = [ground in data.kinds[kind].homes for i in range(120) for kind, ground in surroundings_of(data, i)]
    assert len(right) > 250 and np.mean(right) > 0.9


def test_a_kind_that_lives_beside_another_touches_it():
    data = LongTailScenes(num_images=400, task="detection")
    gaps = []
    for i, labels in enumerate(data.image_labels):
        for guest in (k for k in labels if data.kinds[k].neighbour is not None):
            sample = data[i]
            boxes, kinds = sample["boxes"], sample["labels"]
            centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).mean(1) / 2
            here = (kinds == int(guest)).nonzero()[0]
            hosts = (kinds == data.kinds[guest].neighbour).nonzero()[:, 0]
            gaps.append(min(float((centres[h] - centres[here]).norm() - sides[h] - sides[here]) for h in hosts))
    assert len(gaps) > 20 and np.mean(np.array(gaps) < 8) > 0.9


def test_look_alikes_share_a_look_and_no_context():
    for count in (4, 5, 12, 31):
        kinds = object_kinds(count)
        assert len({kind.name for kind in kinds}) == count
        for rare in kinds[(count + 1) // 2 :]:
            base = kinds[rare.look]
            assert base.look == rare.look and rare.radius < base.radius
            assert rare.neighbour is not None or not set(rare.homes) & set(base.homes)
            assert rare.neighbour is None or rare.homes[0] in kinds[rare.neighbour].homes


def test_zipf_by_hand():
    assert np.allclose(zipf_shares(4, 4.0), np.array([12, 6, 4, 3]) / 25)
    assert np.allclose(zipf_shares(5, 1.0), 0.2)


def test_the_draw_is_stratified():
    draw = Draw(12, 50.0, (0, 1))
    counts = np.bincount([kind for i in range(167) for kind in draw(i)], minlength=12)
    assert np.abs(counts - 1002 * 0.8 * zipf_shares(12, 50.0)).max() < 2


def test_imbalance_can_be_chosen():
    data = LongTailScenes(num_images=2000, imbalance=1)
    counts = np.bincount(np.concatenate(data.image_labels))
    alone = np.delete(counts, [kind.neighbour for kind in data.kinds if kind.neighbour is not None])
    assert alone.max() / alone.min() < 1.02


@pytest.mark.parametrize("size", [(32, 32), (33, 190), (200, 64)])
def test_every_object_shows_at_any_size(size):
    data = LongTailScenes(num_images=40, size=size, task="detection")
    for sample in data:
        assert (sample["masks"].flatten(1).sum(1) > 0).all()
        assert (sample["boxes"][:, 2:] > sample["boxes"][:, :2]).all()


def test_many_classes():
    data = LongTailScenes(num_images=5, num_classes=150)
    assert data.classes.num_classes == len(set(data.classes.names)) == len(set(data.classes.palette)) == 150
    assert int(data[0]["mask"].max()) < 150


@pytest.mark.parametrize(
    "options",
    [{"num_classes": 7}, {"size": (16, 64)}, {"imbalance": 0.5}, {"seed": -1}, {"num_images": -1}],
)
def test_impossible_settings_are_refused(options):
    with pytest.raises(ConfigError):
        LongTailScenes(**options)


def test_an_index_beyond_the_end_is_an_index_error():
    with pytest.raises(IndexError):
        LongTailScenes(num_images=3)[3]
    assert len(list(LongTailScenes(num_images=3, size=(32, 32)))) == 3


def test_fingerprint_changes_with_what_the_scenes_depend_on():
    same = LongTailScenes(), LongTailScenes()
    assert same[0].fingerprint == same[1].fingerprint
    others = [LongTailScenes(seed=1), LongTailScenes("val"), LongTailScenes(size=(64, 64)), LongTailScenes(imbalance=9)]
    assert len({d.fingerprint for d in [same[0], *others]}) == 5


def test_a_scene_takes_milliseconds():
    data = LongTailScenes()
    data[0]
    times = []
    for i in range(20):
        start = time.process_time()
        data[i]
        times.append(time.process_time() - start)
    assert np.median(times) < 0.03  # about 3 ms; the limit leaves room for a busy machine and for checked annotations
