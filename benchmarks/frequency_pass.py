"""Counting the pixels of every class in label PNGs, against decoding them alone and against numpy."""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from harness import arguments, measure
from PIL import Image

from longtail.datasets.folder import SegmentationFolder
from longtail.frequency.count_pixels import count_pixels


def write_data(root: Path, images: int, size: tuple[int, int], classes: int) -> SegmentationFolder:
    """Blobs of Zipf-distributed classes: PNGs that compress as real label maps do."""
    rng = np.random.default_rng(0)
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    share = 1 / np.arange(1, classes + 1) ** 1.6
    for index in range(images):
        coarse = rng.choice(classes, (size[0] // 16, size[1] // 16), p=share / share.sum()).astype(np.uint8)
        Image.fromarray(coarse).resize(size[::-1], Image.Resampling.NEAREST).save(root / "masks" / f"{index}.png")
        Image.new("RGB", size[::-1]).save(root / "images" / f"{index}.jpg")
    return SegmentationFolder(root, None, names=[str(c) for c in range(classes)])


def stored_data(folder: Path, images: int) -> SegmentationFolder:
    """The first real label files of a data set."""
    data = SegmentationFolder(folder, "train")
    data.pairs = data.pairs[:images]
    return data


def measure_pass(name: str, data: SegmentationFolder, note: str, options: argparse.Namespace) -> None:
    files = data.label_files

    def unique() -> None:
        for file in files:
            np.unique(np.asarray(Image.open(file)), return_counts=True)

    def bincount() -> None:
        for file in files:
            np.bincount(np.asarray(Image.open(file)).ravel(), minlength=256)

    def decode() -> None:
        for file in files:
            Image.open(file).load()

    measure(
        name,
        {
            "numpy unique": unique,
            "numpy bincount": bincount,
            "longtail count_pixels": lambda: count_pixels(data, workers=1, progress=False),
            "decoding alone": decode,
        },
        options,
        note=note,
        floor="decoding alone",
    )


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--data", type=Path, help="folder of camvid11, a SegmentationFolder with real label files")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = write_data(Path(folder) / "data", 40, (512, 683), 150)
        measure_pass("frequency_pass", made, "40 label PNGs of 512x683, 150 classes in squares, one process", options)
    if options.data is not None:
        note = "40 label PNGs of CamVid, 360x480, 11 classes, one process"
        measure_pass("frequency_pass_camvid", stored_data(options.data, 40), note, options)


if __name__ == "__main__":
    main()
