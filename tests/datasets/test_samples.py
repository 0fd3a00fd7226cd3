import numpy as np
import pytest
import torch
from PIL import Image

from longtail.datasets import SegmentationSamples, open_dataset
from longtail.errors import ConfigError, DataError
from longtail.frequency.count_pixels import count_pixels

RNG = np.random.default_rng(0)
IMAGES = [RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8) for _ in range(10)]
MASKS = [RNG.integers(0, 3, (5, 7), dtype=np.uint8) for _ in range(10)]
COUNTS = np.bincount(np.stack(MASKS).ravel(), minlength=3)
FORMS = {
    "arrays": [{"image": image, "mask": mask} for image, mask in zip(IMAGES, MASKS, strict=True)],
    "pictures": [
        {"image": Image.fromarray(image), "annotation": Image.fromarray(mask)}
        for image, mask in zip(IMAGES, MASKS, strict=True)
    ],
    "tensors": [
        {"image": torch.from_numpy(image).permute(2, 0, 1), "label": torch.from_numpy(mask)[None].long()}
        for image, mask in zip(IMAGES, MASKS, strict=True)
    ],
    "pairs": list(zip(IMAGES, MASKS, strict=True)),
}


def check(data):
    assert len(data) == 10 and count_pixels(data).pixels.tolist() == COUNTS.tolist()
    sample = data[3]
    assert torch.equal(sample["image"].as_subclass(torch.Tensor), torch.from_numpy(IMAGES[3]).permute(2, 0, 1))
    assert (sample["mask"].numpy() == MASKS[3]).all() and (data.mask(3) == MASKS[3]).all() and sample["name"] == "3"
    assert sample["mask"].dtype == torch.uint8


@pytest.mark.parametrize("form", FORMS)
def test_samples_of_any_form(form):
    check(SegmentationSamples(FORMS[form], ["a", "b", "c"]))


def test_a_torch_dataset():
    class Mine(torch.utils.data.Dataset):
        def __len__(self):
            return 10

        def __getitem__(self, index):
            return FORMS["tensors"][index]

    check(SegmentationSamples(Mine(), ["a", "b", "c"]))


def test_values_are_mapped_and_others_refused():
    data = SegmentationSamples(FORMS["pairs"], ["a", "b"], label_map={2: 255})
    assert (data.mask(0) == np.where(MASKS[0] == 2, 255, MASKS[0])).all()
    reduced = SegmentationSamples(FORMS["pairs"], ["a", "b"], reduce_zero_label=True)
    assert (reduced.mask(0) == np.where(MASKS[0] == 0, 255, MASKS[0].astype(int) - 1)).all()
    with pytest.raises(DataError, match="of sample 0 holds value 2"):
        SegmentationSamples(FORMS["pairs"], ["a", "b"]).mask(0)


@pytest.mark.parametrize(
    "sample, named",
    [
        ({"image": IMAGES[0]}, "none of them a mask"),
        ({"image": IMAGES[0].astype(float), "mask": MASKS[0]}, r"image of sample 0 is torch\.float64"),
        ({"image": IMAGES[0], "mask": MASKS[0].astype(float)}, "mask of sample 0 is float64"),
        ({"image": IMAGES[0], "mask": MASKS[0][:4]}, r"mask of sample 0 is \(4, 7\), its image \(5, 7\)"),
        ({"photo": IMAGES[0], "mask": MASKS[0]}, "sample 0 has no image; it holds photo, mask"),
        ((IMAGES[0],), "sample 0 has no mask"),
        ({"image": Image.new("I;16", (7, 5)), "mask": MASKS[0]}, "of kind I;16"),
    ],
)
def test_samples_that_are_none_are_named(sample, named):
    with pytest.raises(DataError, match=named):
        SegmentationSamples([sample], ["a", "b", "c"])[0]


def test_settings_that_cannot_be():
    with pytest.raises(ConfigError, match="ignore_index 1 is the id of class 'b'"):
        SegmentationSamples(FORMS["pairs"], ["a", "b", "c"], ignore_index=1)
    with pytest.raises(DataError, match="no samples"):
        SegmentationSamples([], ["a"])


def test_hugging_face_in_memory_and_on_disk(tmp_path):
    datasets = pytest.importorskip("datasets")
    columns = {
        "image": [s["image"] for s in FORMS["pictures"]],
        "annotation": [s["annotation"] for s in FORMS["pictures"]],
    }
    features = datasets.Features({"image": datasets.Image(), "annotation": datasets.Image()})
    whole = datasets.Dataset.from_dict(columns, features=features)
    data = SegmentationSamples(whole, ["a", "b", "c"])
    check(data)
    assert data.fingerprint and data.fingerprint != SegmentationSamples(whole, ["a", "b", "d"]).fingerprint
    whole.save_to_disk(tmp_path / "whole")
    (tmp_path / "whole" / "classes.txt").write_text("a\nb\nc\n")
    check(open_dataset(tmp_path / "whole", "all"))
    check(open_dataset(f"hf:{tmp_path / 'whole'}", "all"))
    parts = [open_dataset(f"hf:{tmp_path / 'whole'}", split) for split in ("train", "val")]
    assert sum(map(len, parts)) == 10 and all(map(len, parts)) and "no splits" in parts[0].note
    datasets.DatasetDict({"train": whole, "validation": whole.select(range(2))}).save_to_disk(tmp_path / "split")
    assert len(open_dataset(f"hf:{tmp_path / 'split'}", "val", names=["a", "b", "c"])) == 2
    with pytest.raises(DataError, match=r"no split 'test'\n.*train, validation"):
        open_dataset(f"hf:{tmp_path / 'split'}", "test", names=["a", "b", "c"])
    with pytest.raises(DataError, match="no class names"):
        open_dataset(f"hf:{tmp_path / 'split'}", "train")
    with pytest.raises(DataError, match="cannot read"):
        open_dataset(f"hf:{tmp_path}", "train")
