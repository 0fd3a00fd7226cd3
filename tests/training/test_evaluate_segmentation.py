import json
import multiprocessing
import socket

import numpy as np
import pytest
import torch
import torch.distributed as dist
from PIL import Image
from torchvision import tv_tensors

from longtail.datasets.base import ClassInfo, SegmentationDataset
from longtail.errors import ConfigError, DataError
from longtail.metrics.bias import squared_error_per_class
from longtail.metrics.segmentation import confusion_matrix, iou_per_class
from longtail.models.segmentation_methods import build_method
from longtail.models.segmenter import Segmenter
from longtail.training.evaluate_segmentation import evaluate_segmentation
from longtail.transforms import segmentation_eval
from support.surroundings import Surroundings
from support.tiny_segmentation import FREQUENCY, GROUPS, NUM_CLASSES, tiny_model


class Photos(SegmentationDataset):
    """Images of several sizes; ``broken`` cannot be read."""

    def __init__(self, sizes=((24, 16), (20, 28), (24, 16), (17, 19), (24, 16)), broken=None, transform=None) -> None:
        self.classes = ClassInfo(tuple("abcde"), tuple((40 * i, 0, 0) for i in range(NUM_CLASSES)))
        self.sizes, self.broken, self.transform = sizes, broken, transform or segmentation_eval()

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int):
        if index == self.broken:
            raise DataError(f"cannot read image {index}", fix="restore it")
        rng = np.random.default_rng(index)
        h, w = self.sizes[index]
        image = tv_tensors.Image(torch.from_numpy(rng.integers(0, 256, (3, h, w), dtype=np.uint8)))
        mask = rng.integers(0, NUM_CLASSES, (h, w)).astype(np.uint8)
        mask[:2] = 255
        sample = {"image": image, "mask": tv_tensors.Mask(torch.from_numpy(mask)), "name": f"photo/{index}"}
        return sample if self.transform is None else self.transform(sample)


def method(**options):
    return build_method("medoe", tiny_model(), frequency=FREQUENCY, groups=GROUPS, **options)


@pytest.fixture
def medoe():
    return method()


def test_data_of_other_classes_are_refused():
    segmenter = Segmenter.around(tiny_model(), Photos(), FREQUENCY, GROUPS)
    assert evaluate_segmentation(segmenter, Photos()).settings["groups_from"] == "those of training"
    other = Photos()
    other.classes = ClassInfo(tuple("abdce"), other.classes.palette)
    with pytest.raises(DataError, match="class 2 is 'd' and 'c'"):
        evaluate_segmentation(segmenter, other)
    other.classes = ClassInfo(tuple("abcdef"), (*other.classes.palette, (1, 2, 3)))
    with pytest.raises(DataError, match="the data set has 6 classes and the model 5"):
        evaluate_segmentation(segmenter, other)


def test_every_readout_is_scored_as_if_alone(medoe):
    photos = Photos()
    results = evaluate_segmentation(medoe, photos, groups=GROUPS, frequency=FREQUENCY)
    assert list(results.predictions)[:2] == ["medoe", "oracle"] and results.method == "medoe"
    assert {"expert_1", "expert_2", "expert_3", "mean", "argmax"} <= set(results.predictions)
    medoe.eval()
    for name, read in medoe.readouts().items():
        total = torch.zeros(NUM_CLASSES, NUM_CLASSES, dtype=torch.int64)
        for sample in (photos[i] for i in range(len(photos))):
            with torch.no_grad():
                maps = medoe.expert_maps(sample["image"].as_subclass(torch.Tensor)[None])
            mask = sample["mask"].as_subclass(torch.Tensor)[None]
            total += confusion_matrix(read(maps, mask), mask, NUM_CLASSES)
        assert results.predictions[name].extra["confusion"] == total.tolist()
        assert results.predictions[name].overall["mIoU"] == pytest.approx(iou_per_class(total).nanmean().item())
    assert results.data["images"] == 5 and results.environment["torch"] == torch.__version__


def test_bias_is_that_of_the_method_and_of_each_expert(medoe):
    photos = Photos()
    results = evaluate_segmentation(medoe, photos, groups=GROUPS)
    medoe.eval()

    def read(name, image):
        if name == "medoe":
            return medoe(image)
        return medoe.expert_maps(image).logits[int(name[-1]) - 1].softmax(1)

    for name in ("medoe", "expert_1", "expert_2", "expert_3"):
        error, pixels = torch.zeros(NUM_CLASSES).double(), torch.zeros(NUM_CLASSES).long()
        for sample in (photos[i] for i in range(len(photos))):
            with torch.no_grad():
                probabilities = read(name, sample["image"].as_subclass(torch.Tensor)[None])
            one, number = squared_error_per_class(probabilities, sample["mask"].as_subclass(torch.Tensor)[None])
            error, pixels = error + one, pixels + number
        assert results.predictions[name].per_class["bias"] == pytest.approx((error / pixels).tolist(), rel=1e-5)
    assert "bias" not in results.predictions["oracle"].per_class
    with_comparisons = {"comparisons": {"adjusted": {"name": "logit_adjustment"}}}
    for options in ({}, with_comparisons):
        baseline = build_method("baseline", tiny_model(), frequency=FREQUENCY, groups=GROUPS, **options)
        assert "bias" in evaluate_segmentation(baseline, photos, groups=GROUPS).own.per_class


def test_an_ensemble_that_reads_features_has_no_bias(medoe):
    medoe.ensemble = Surroundings()
    found = evaluate_segmentation(medoe, Photos(), groups=GROUPS)
    assert "bias" not in found.own.per_class and "bias" in found.predictions["expert_1"].per_class


def test_labels_are_scored_at_their_own_size(medoe):
    results = evaluate_segmentation(medoe, Photos(transform=segmentation_eval(size=(32, 32))), groups=GROUPS)
    labelled = sum((h - 2) * w for h, w in Photos().sizes)
    assert np.sum(results.own.extra["confusion"]) == labelled


def test_batches_workers_and_whole_windows_change_nothing(medoe):
    expected = evaluate_segmentation(medoe, Photos(), groups=GROUPS).predictions
    for options in ({"batch_size": 3}, {"workers": 2}, {"sliding_window": (64, 64)}):
        found = evaluate_segmentation(medoe, Photos(), groups=GROUPS, **options).predictions
        assert found.keys() == expected.keys()
        for name in expected:
            assert found[name].extra["confusion"] == expected[name].extra["confusion"]


def test_windows_smaller_than_the_image_are_averaged(medoe):
    results = evaluate_segmentation(medoe, Photos(), groups=GROUPS, sliding_window=(16, 16), stride=(8, 8))
    assert np.sum(results.own.extra["confusion"]) == sum((h - 2) * w for h, w in Photos().sizes)


def test_windows_with_an_ensemble_of_features_are_refused():
    gated = method()
    gated.ensemble = Surroundings()
    with pytest.raises(ConfigError, match="features"):
        evaluate_segmentation(gated, Photos(), groups=GROUPS, sliding_window=(16, 16))
    assert evaluate_segmentation(gated, Photos(), groups=GROUPS).own.overall["mIoU"] is not None


def test_some_readouts_and_some_images(medoe):
    results = evaluate_segmentation(medoe, Photos(), groups=GROUPS, readouts=["oracle"], limit=2)
    assert list(results.predictions) == ["oracle"] and results.data["images"] == 2
    with pytest.raises(ConfigError, match="readout is 'orcale'"):
        evaluate_segmentation(medoe, Photos(), groups=GROUPS, readouts=["orcale"])


def test_images_without_a_transform_are_normalised(medoe):
    raw = Photos()
    raw.transform = None
    expected = evaluate_segmentation(medoe, Photos(), groups=GROUPS).own.extra["confusion"]
    assert evaluate_segmentation(medoe, raw, groups=GROUPS).own.extra["confusion"] == expected


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_image_is_named(medoe, workers):
    with pytest.raises(DataError, match="cannot read image 3"):
        evaluate_segmentation(medoe, Photos(broken=3), groups=GROUPS, workers=workers)


def test_training_mode_and_generators_are_left_alone(medoe):
    medoe.train()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    evaluate_segmentation(medoe, Photos(), groups=GROUPS)
    assert medoe.training and torch.equal(torch.rand(2), expected)


def test_pictures_show_the_images_with_most_of_the_tail(medoe, tmp_path):
    photos = Photos()
    evaluate_segmentation(medoe, photos, groups=GROUPS, pictures=2, pictures_dir=tmp_path)
    index = json.loads((tmp_path / "index.json").read_text())
    tail = GROUPS.members[-1]
    pixels = {i: int(np.isin(photos[i]["mask"].numpy(), tail).sum()) for i in range(5)}
    best = sorted(pixels, key=pixels.get, reverse=True)[:2]
    assert index["images"] == [f"photo_{i}" for i in best]
    assert index["readouts"][0] == "medoe" and len(index["palette"]) == NUM_CLASSES
    for i in best:
        truth = np.asarray(Image.open(tmp_path / f"photo_{i}.truth.png"))
        assert (truth == photos[i]["mask"].numpy()).all() and truth.dtype == np.uint8
        assert Image.open(tmp_path / f"photo_{i}.input.jpg").size == truth.shape[::-1]
        assert np.asarray(Image.open(tmp_path / f"photo_{i}.oracle.png")).max() < NUM_CLASSES


def test_ranks_share_the_images_and_agree(medoe, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=_rank, args=(r, port, tmp_path)) for r in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(300)
        assert process.exitcode == 0
    alone = evaluate_segmentation(method(), Photos(), groups=GROUPS, pictures=3, pictures_dir=tmp_path / "alone")
    expected = {name: p.extra["confusion"] for name, p in alone.predictions.items()}
    for rank in range(2):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == expected
    files = {p.name: p.read_bytes() for p in (tmp_path / "alone").iterdir()}
    assert files == {p.name: p.read_bytes() for p in (tmp_path / "shared").iterdir()}


def _rank(rank: int, port: int, folder) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    results = evaluate_segmentation(method(), Photos(), groups=GROUPS, pictures=3, pictures_dir=folder / "shared")
    confusions = {name: p.extra["confusion"] for name, p in results.predictions.items()}
    (folder / f"{rank}.json").write_text(json.dumps(confusions))
    dist.destroy_process_group()
