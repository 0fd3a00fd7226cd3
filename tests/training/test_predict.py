import numpy as np
import pytest
import torch
from PIL import Image

from longtail.errors import ConfigError, DataError
from longtail.training.predict import find_images, predict


class Bands:
    """A segmenter whose labels are known: the red value of each pixel over 32."""

    palette = ((0, 0, 0), (250, 0, 0), (0, 250, 0), (0, 0, 250), *((i, i, i) for i in range(4)))

    def __init__(self) -> None:
        self.calls = 0

    def predict(self, image: torch.Tensor, *, window=None, stride=None) -> torch.Tensor:
        self.calls += 1
        return (image[0] // 32).long()


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, size in (("a.png", (9, 14)), ("sub/b.png", (7, 5))):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / name)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.new("RGB", (12, 8), (70, 0, 0)).save(folder / "turned.jpg", exif=exif)
    return folder


def test_labels_and_overlays_of_any_size(photos, tmp_path):
    done = predict(Bands(), find_images([photos]), tmp_path / "out")
    assert (done.written, done.skipped, done.failed) == (3, 0, [])
    for name in ("a", "sub/b"):
        pixels = np.asarray(Image.open(photos / f"{name}.png"))
        labels = np.asarray(Image.open(tmp_path / f"out/labels/{name}.png"))
        assert labels.dtype == np.uint8 and (labels == pixels[..., 0] // 32).all()
        colours = np.asarray(Bands.palette)[labels]
        overlay = np.asarray(Image.open(tmp_path / f"out/overlays/{name}.png"))
        assert np.abs(overlay - (0.4 * pixels + 0.6 * colours)).max() <= 0.5 + 1e-3
    turned = np.asarray(Image.open(tmp_path / "out/labels/turned.png"))
    assert turned.shape == (12, 8) and (turned == 2).all()


def test_what_is_written_is_not_predicted_again(photos, tmp_path):
    images = find_images([photos])
    predict(Bands(), images, tmp_path / "out")
    (tmp_path / "out/overlays/a.png").unlink()  # a run that was cut off
    again = Bands()
    done = predict(again, images, tmp_path / "out")
    assert (done.written, done.skipped, again.calls) == (1, 2, 1)
    assert predict(Bands(), images, tmp_path / "out", overwrite=True).written == 3


def test_a_corrupt_image_is_named_and_stops_no_other(photos, tmp_path):
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    done = predict(Bands(), find_images([photos]), tmp_path / "out")
    assert done.written == 3
    assert len(done.failed) == 1 and "broken.jpg" in done.failed[0].problem


def test_ranks_share_the_images(photos, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    written = []
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        written.append(predict(Bands(), find_images([photos]), tmp_path / "out").written)
    assert sorted(written) == [1, 2]
    assert len(list((tmp_path / "out/labels").rglob("*.png"))) == 3


def test_sources_that_cannot_be(photos, tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        find_images([tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no images"):
        find_images([tmp_path / "empty"])
    Image.new("RGB", (2, 2)).save(tmp_path / "a.jpg")
    with pytest.raises(ConfigError, match=r"a\.png"):
        find_images([photos, tmp_path / "a.jpg"])
