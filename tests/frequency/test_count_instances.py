import numpy as np

from longtail.datasets.base import ClassInfo
from longtail.datasets.longtail_scenes import LongTailScenes
from longtail.frequency.count_instances import count_instances


class Three:
    classes = ClassInfo(("a", "b", "c"), ((0, 0, 0),) * 3)
    image_labels = (np.array([0, 0, 2]), np.array([], dtype=np.int64), np.array([2]))
    fingerprint = "x"


def test_value_by_hand() -> None:
    frequency = count_instances(Three())
    assert frequency.instances.tolist() == [2, 0, 2] and frequency.images.tolist() == [1, 0, 2]
    assert frequency.num_images == 3 and frequency.pixels is None and frequency.fingerprint == "x"


def test_no_image() -> None:
    class Nothing(Three):
        image_labels = ()

    assert count_instances(Nothing()).instances.tolist() == [0, 0, 0]


def test_scenes_are_counted_without_painting() -> None:
    scenes = LongTailScenes("val", num_images=20, task="detection")
    frequency = count_instances(scenes)
    labels = np.concatenate([scenes[i]["labels"].numpy() for i in range(20)])
    assert frequency.instances.tolist() == np.bincount(labels, minlength=12).tolist()
