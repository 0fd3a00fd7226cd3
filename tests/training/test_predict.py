import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from longtail.datasets.photographs import RGB
from longtail.datasets.video import frames, write_video
from longtail.errors import ConfigError, DataError
from longtail.models.segmenter import Segmenter
from longtail.training.predict import find_images, predict


class Bands(Segmenter):
    """A segmenter whose labels are known: the red value of each pixel over 32."""

    photos = RGB
    palette = ((0, 0, 0), (250, 0, 0), (0, 250, 0), (0, 0, 250), *((i, i, i) for i in range(4)))
    class_names = tuple("abcdefgh")
    window: tuple[int, int] | None = None

    def __init__(self, weights: str = "old") -> None:
        torch.nn.Module.__init__(self)
        self.calls = 0
        self.weights = weights

    def fingerprint(self) -> str:
        return self.weights

    def predict(self, image: torch.Tensor, *, window=None, stride=None) -> torch.Tensor:
        self.calls += 1
        return (image[0] // 32).long()

    def probabilities(self, image: torch.Tensor, *, window=None, stride=None) -> torch.Tensor:
        return torch.nn.functional.one_hot(self.predict(image), 8).movedim(-1, 0).float() * 0.75

    def fitting_window(self, height: int, width: int) -> tuple[int, int] | None:
        return self.window


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


def test_results_of_two_models_are_not_mixed(photos, tmp_path):
    images, out = find_images([photos]), tmp_path / "out"
    predict(Bands(), images, out, window=(8, 8))
    before = (out / "labels/a.png").stat().st_mtime_ns
    assert predict(Bands(), images, out, window=(8, 8)).skipped == 3
    with pytest.raises(ConfigError, match=r"out holds predictions .*: model old -> new\n.* --out.* --overwrite"):
        predict(Bands("new"), images, out, window=(8, 8))
    with pytest.raises(ConfigError, match=r"options: window \[8, 8\] -> None\n"):
        predict(Bands(), images, out)
    some = {"a": images["a"], "turned": images["turned"]}
    with pytest.raises(ConfigError, match=r"2 files of images that are not given would stay, such as labels/sub/b"):
        predict(Bands("new"), some, out, overwrite=True)
    assert (out / "labels/a.png").stat().st_mtime_ns == before
    assert predict(Bands("new"), images, out, overwrite=True).written == 3
    assert predict(Bands("new"), images, out).skipped == 3


def test_another_file_of_the_same_name_is_not_taken_for_predicted(photos, tmp_path):
    out, other = tmp_path / "out", tmp_path / "other"
    predict(Bands(), find_images([photos]), out)
    other.mkdir()
    Image.new("RGB", (3, 2), (200, 0, 0)).save(other / "a.png")
    Image.new("RGB", (3, 2), (200, 0, 0)).save(other / "c.png")
    with pytest.raises(ConfigError, match=r"labels/a\.png is not of .*other/a\.png .*\n.*another --out.*--overwrite"):
        predict(Bands(), find_images([other]), out)
    assert predict(Bands(), find_images([other / "c.png"]), out).written == 1  # beside the others
    assert predict(Bands(), find_images([photos]), out).skipped == 3
    (out / "overlays/a.png").unlink()  # cut off: there is nothing whole to mix with
    assert predict(Bands(), find_images([other]), out).written == 1
    with pytest.raises(ConfigError, match=r"labels/a\.png is not of .*photos/a\.png"):
        predict(Bands(), find_images([photos]), out)
    assert predict(Bands(), find_images([photos]), out, overwrite=True).written == 3
    (out / "sources.json").unlink()  # of an older version
    assert predict(Bands(), find_images([photos]), out).skipped == 3


def test_a_folder_that_cannot_be_written(photos, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot write .*Not a directory.*\n.*another --out") as caught:
        predict(Bands(), find_images([photos]), tmp_path / "file" / "out")
    assert "--resume" not in str(caught.value)


def test_an_overwriting_command_that_was_stopped_goes_on(photos, tmp_path):
    images, out = find_images([photos]), tmp_path / "out"
    predict(Bands(), images, out)

    class Stops(Bands):
        def predict(self, image, *, window=None, stride=None):
            if self.calls:
                raise KeyboardInterrupt
            return super().predict(image)

    with pytest.raises(KeyboardInterrupt):
        predict(Stops("new"), images, out, overwrite=True)
    again = predict(Bands("new"), images, out)
    assert (again.written, again.skipped) == (2, 1)


def test_results_of_an_unknown_model_are_not_taken_over(photos, tmp_path):
    images, out = find_images([photos]), tmp_path / "out"
    predict(Bands(), images, out)
    (out / "made_by.json").unlink()
    with pytest.raises(ConfigError, match=r"out holds predictions, but no made_by\.json"):
        predict(Bands(), images, out)
    assert predict(Bands(), images, out, overwrite=True).written == 3
    (out / "made_by.json").write_text("torn")
    with pytest.raises(ConfigError, match=r"no made_by\.json"):
        predict(Bands(), images, out)
    other = tmp_path / "other"  # holds something, but no predictions
    (other / "labels").mkdir(parents=True)
    (other / "notes.txt").write_text("mine")
    assert predict(Bands(), images, other).written == 3


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
    with pytest.raises(ConfigError, match=r"a\.png and .*a\.jpg .*\n.* separately"):
        find_images([photos, tmp_path / "a.jpg"])
    Image.new("RGB", (2, 2)).save(photos / "a.tif")
    with pytest.raises(DataError, match=r"a\.png and .*a\.tif\n.*rename one of them.*photos/\*\.png"):
        find_images([photos])


def test_probabilities_and_polygons_by_name(photos, tmp_path):
    out = tmp_path / "out"
    predict(Bands(), find_images([photos]), out, save=("probabilities", "polygons"))
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == ["polygons", "probabilities"]
    pixels = torch.from_numpy(np.array(Image.open(photos / "sub/b.png"))).movedim(-1, 0)
    found = np.load(out / "probabilities/sub/b.npy")
    assert found.dtype == np.float16
    assert (found == Bands().probabilities(pixels).half().numpy()).all()
    regions = json.loads((out / "polygons/sub/b.geojson").read_text())
    assert (regions["height"], regions["width"]) == (7, 5)
    joined = json.loads((out / "polygons.json").read_text())
    assert [Path(image["file_name"]).name for image in joined["images"]] == ["a.png", "b.png", "turned.jpg"]
    assert {c["name"] for c in joined["categories"]} == set("abcdefgh")


def test_windows_are_told_once_for_a_size(photos, tmp_path, capsys):
    model = Bands()
    model.window = (4, 4)
    predict(model, find_images([photos / "a.png", photos / "sub/b.png"]), tmp_path / "out")
    told = capsys.readouterr().err
    assert "a (14 x 9) and all of its size are read by windows of 4 x 4" in told
    assert told.count("read by windows") == 2


def test_frames_of_a_video_are_images(tmp_path):
    pytest.importorskip("av")
    shades = [0, 40, 80, 120, 200]
    (tmp_path / "films").mkdir()
    pictures = (np.full((16, 32, 3), shade, dtype=np.uint8) for shade in shades)
    write_video(tmp_path / "films/clip.mp4", pictures, Fraction(5))
    images, out = find_images([tmp_path / "films"]), tmp_path / "out"
    assert list(images) == [f"clip/{i:06d}" for i in range(5)]
    predict(Bands(), images, out)
    for i, shade in enumerate(shades):
        labels = np.array(Image.open(out / f"labels/clip/{i:06d}.png"))
        assert (labels == round(shade / 32 - 0.5)).mean() > 0.9
    assert len(list(frames(out / "overlays/clip.mp4"))) == 5
    again = Bands()
    (out / "labels/clip/000003.png").unlink()
    done = predict(again, images, out)
    assert (done.written, done.skipped, again.calls) == (1, 4, 1)


def test_a_broken_video_is_named(tmp_path):
    pytest.importorskip("av")
    (tmp_path / "v.mp4").write_bytes(b"no video")
    with pytest.raises(DataError, match=r"cannot read video .*v\.mp4"):
        find_images([tmp_path / "v.mp4"])
