import json

import numpy as np
import pytest
import torch
from PIL import Image

from longtail.datasets import open_dataset
from longtail.datasets.photographs import PhotoFormat
from longtail.errors import ConfigError, DataError
from longtail.models.segmenter import Segmenter
from longtail.training.evaluate_segmentation import evaluate_segmentation
from longtail.training.predict import find_images, predict
from longtail.training.run import fit, score_run
from support.tiny_runs import tiny_config

BANDS = 5


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Five bands of 12 bits; class 1 is where the last band is bright."""
    root, rng = tmp_path_factory.mktemp("bands"), np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for i in range(count):
            labels = (np.arange(32) > 8 + i).astype(np.uint8)[None].repeat(32, axis=0)
            values = rng.integers(0, 1000, (32, 32, BANDS)).astype(np.uint16)
            values[..., -1] += np.uint16(3000) * labels
            for kind in ("images", "labels"):
                (root / kind / split).mkdir(parents=True, exist_ok=True)
            np.save(root / "images" / split / f"{i}.npy", values)
            Image.fromarray(labels).save(root / "labels" / split / f"{i}.png")
    (root / "classes.json").write_text(json.dumps({"names": ["dark", "bright"]}))
    return root


def config(data, **changes):
    photos = {"bands": BANDS, "value_range": [0, 4095]}
    return tiny_config(
        data={"dataset": str(data), "groups": {"by": "rank", "sizes": [1, 1]}, **photos, **changes},
        augmentation={"crop": [32, 32], "cat_max_ratio": 1.0},
        method={"name": "baseline"},
        iterations={"train": 30},
    )


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LONGTAIL_CACHE", str(tmp_path_factory.mktemp("cache")))
        torch.set_num_threads(1)
        return fit(config(data), tmp_path_factory.mktemp("runs") / "run", quiet=True)


def test_a_run_of_bands_is_scored_and_shows_pictures(run):
    results = score_run(run.path, progress=False)
    assert results.own.overall["mIoU"] is not None
    assert "the first convolution is adapted from RGB" in run.log.read_text()
    picture = np.asarray(Image.open(next(run.pictures.glob("*.input.jpg"))))
    assert picture.shape == (32, 32, 3) and picture.std() > 0


def test_its_segmenter_reads_files_as_the_run_did(run, data, tmp_path):
    segmenter = Segmenter.from_pretrained(run.path)
    assert segmenter.photos == PhotoFormat(BANDS, (0.0, 4095.0)) and len(segmenter.input["mean"]) == BANDS
    done = predict(segmenter, find_images([data / "images" / "val"]), tmp_path / "out")
    assert done.written == 2 and not done.failed
    overlay = np.asarray(Image.open(tmp_path / "out" / "overlays" / "0.png"))
    assert overlay.shape == (32, 32, 3)
    labels = np.asarray(Image.open(tmp_path / "out" / "labels" / "0.png"))
    assert (segmenter.predict(data / "images" / "val" / "0.npy").numpy() == labels).all()
    with pytest.raises(ConfigError, match=r"\(3, 32, 32\).*\n.*\(5, h, w\)"):
        segmenter.predict(torch.zeros(3, 32, 32, dtype=torch.uint8))


def test_evaluation_of_stored_images_is_that_of_normalised_ones(run, data):
    segmenter = Segmenter.from_pretrained(run.path)
    scored = score_run(run.path, progress=False, out=run.path.parent / "again")
    raw = open_dataset(str(data), "val", photos=segmenter.photos)
    assert evaluate_segmentation(segmenter, raw).own.overall == scored.own.overall
    with pytest.raises(DataError, match=r"reads photographs as RGB bytes, the model reads .*'bands': 5"):
        evaluate_segmentation(segmenter, open_dataset(str(data), "val"))


def test_bands_that_do_not_fit_are_refused_before_training(data, tmp_path):
    with pytest.raises(DataError, match=r"has 5 bands, 4 is asked for"):
        fit(config(data, bands=4), tmp_path / "run", quiet=True)
    with pytest.raises(DataError, match=r"an array, and photographs are read as RGB bytes"):
        fit(config(data, bands=None, value_range=None), tmp_path / "run", quiet=True)
    wrong = config(data)
    wrong.augmentation.mean = (0.5, 0.5, 0.5)
    with pytest.raises(ConfigError, match="mean has 3 values for 5 bands"):
        fit(wrong, tmp_path / "run", quiet=True)
    with pytest.raises(ConfigError, match="longtail-scenes reads no bands"):
        open_dataset("longtail-scenes", "val", photos=PhotoFormat(4))
