"""Label images of 20 colours read as class ids, against decoding them alone and against a comparison for every colour."""

import tempfile
from pathlib import Path

import numpy as np
from harness import arguments, measure
from PIL import Image

from longtail.frequency.label_format import LabelFormat
from longtail.frequency.label_image import label_values, open_label

SIZE, CLASSES = (1024, 2048), 20


def write_labels(folder: Path, colours: np.ndarray, images: int) -> list[Path]:
    """Waved blobs in colours: PNGs that compress as real colour masks do."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    rows = (rows + 8 * np.sin(columns / 17)).astype(int).clip(0, SIZE[0] - 1)
    columns = (columns + 8 * np.sin(rows / 13)).astype(int).clip(0, SIZE[1] - 1)
    files = []
    for index in range(images):
        blobs = rng.integers(0, CLASSES, (SIZE[0] // 16, SIZE[1] // 16)).repeat(16, 0).repeat(16, 1)
        files.append(folder / f"{index}.png")
        Image.fromarray(colours[blobs[rows, columns]]).save(files[-1])
    return files


def main() -> None:
    options = arguments(__doc__ or "").parse_args()
    colours = np.random.default_rng(1).permutation(256**3)[:CLASSES]
    colours = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=1).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        files = write_labels(Path(folder), colours, 6)
        labels = LabelFormat(colours={tuple(map(int, colour)): i for i, colour in enumerate(colours)})

        def compare() -> None:
            for file in files:
                pixels = np.asarray(Image.open(file))
                ids = np.full(pixels.shape[:2], 255, np.uint8)
                for i, colour in enumerate(colours):
                    ids[(pixels == colour).all(axis=-1)] = i

        def read() -> None:
            for file in files:
                label_values(open_label(file, labels))

        def decode() -> None:
            for file in files:
                Image.open(file).load()

        measure(
            "colour_labels",
            {"numpy, colour by colour": compare, "longtail open_label": read, "decoding alone": decode},
            options,
            note=f"{len(files)} colour masks of {SIZE[0]}x{SIZE[1]}, {CLASSES} colours, one process",
            floor="decoding alone",
        )


if __name__ == "__main__":
    main()
