"""``ImageLabelPairs``: photographs with one label image each, the data set that the named ones build on."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from longtail.datasets.base import ClassInfo, SegmentationDataset, SegmentationSample, label_type
from longtail.datasets.fingerprint import fingerprint_of
from longtail.datasets.photographs import RGB, PhotoFormat, is_turned, upright_size
from longtail.datasets.sample_tensors import mask_tensor
from longtail.errors import DataError
from longtail.frequency.count_pixels import num_cores, process_pool, quiet_forks
from longtail.frequency.label_format import PLAIN, LabelFormat
from longtail.frequency.label_image import class_ids, open_label

_TURN = "turn the label likewise, or store the photograph upright without the tag"
_CHUNK = 1024  # pairs of files that one process checks before it takes others


class ImageLabelPairs(SegmentationDataset):
    """Photographs with one single-channel label image each.

    Args:
        pairs: (name, image file, label file) of every sample.
        classes: Names and colours of the C classes.
        ignore_index: Value of pixels without class, C or above.
        label_format: Meaning of the values or colours in label images.
        label_map: Stored value, or a range such as ``"3-9"``, to the class id that it means or to ``ignore_index``:
            ``{0: 255, 255: 1}`` for masks of 0 and 255. Other values mean what they mean without the map.
        reduce_zero_label: Value 0 means "no class", value v the class v - 1.
        photos: How the photographs are read.
        transform: Applied to the whole sample dict.

    Raises:
        ConfigError: ``ignore_index`` is negative or the id of a class, or ``label_map`` has keys or values that it
            cannot have.
    """

    def __init__(
        self,
        pairs: Sequence[tuple[str, Path, Path]],
        classes: ClassInfo,
        *,
        ignore_index: int = 255,
        label_format: LabelFormat = PLAIN,
        label_map: Mapping[int | str, int] | None = None,
        reduce_zero_label: bool = False,
        photos: PhotoFormat = RGB,
        transform: Callable[[SegmentationSample], SegmentationSample] | None = None,
    ) -> None:
        self._dtype = label_type(classes, ignore_index)
        self.pairs = list(pairs)
        self.classes = classes
        self.ignore_index = ignore_index
        self.transform = transform
        self.photos: PhotoFormat = photos
        self._format = label_format.mapped(
            classes.num_classes, ignore_index, label_map, reduce_zero_label=reduce_zero_label
        )

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> SegmentationSample:
        name, image_file, label_file = self.pairs[index]
        image, mask = self.photos.read(image_file), self.mask(index)
        _check_sizes(image_file, image.shape[-2:], label_file, mask.shape)
        sample: SegmentationSample = {"image": image, "mask": mask_tensor(mask), "name": name}
        return sample if self.transform is None else self.transform(sample)

    def mask(self, index: int) -> np.ndarray:
        """Class ids (h, w) of one sample: uint8 for up to 255 classes, else int32.

        Raises:
            DataError: The label file is unreadable or holds a value that is neither a class nor ignored.
        """
        return class_ids(self.pairs[index][2], self.classes.names, self.ignore_index, self._format, self._dtype)

    def check_images(self) -> None:
        """See that the files of all images and labels can be opened and agree in size, by their headers alone.

        Damage after the header is found when the image is read.

        Raises:
            DataError: Two files differ in size, or one cannot be read.
        """
        chunks = [self.pairs[i : i + _CHUNK] for i in range(0, len(self.pairs), _CHUNK)]
        if len(chunks) > 1:
            with process_pool(min(num_cores(), len(chunks))) as pool, quiet_forks():
                doubtful = list(pool.map(partial(_doubtful, photos=self.photos), chunks))
        else:
            doubtful = [_doubtful(chunk, self.photos) for chunk in chunks]
        for _, image_file, label_file in [pair for pairs in doubtful for pair in pairs]:
            # headers may mislead: the pixels do not
            image, label = self.photos.read(image_file), open_label(label_file, self._format)
            _check_sizes(image_file, image.shape[-2:], label_file, (label.height, label.width))

    @property
    def image_files(self) -> list[Path]:
        """Photograph of every sample, in order."""
        return [image for _, image, _ in self.pairs]

    @property
    def label_files(self) -> list[Path]:
        return [label for _, _, label in self.pairs]

    @property
    def label_format(self) -> LabelFormat:
        return self._format

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint_of(self.label_files, self.classes.names, self.ignore_index, *self._format.facts())


def _doubtful(pairs: Sequence[tuple[str, Path, Path]], photos: PhotoFormat) -> list[tuple[str, Path, Path]]:
    """The pairs that cannot be read, or seem to differ in size."""
    return [pair for pair in pairs if not _agree(*pair[1:], photos)]


def _agree(image_file: Path, label_file: Path, photos: PhotoFormat) -> bool:
    """Whether a photograph is of the size of its label; it is decoded where its header does not tell."""
    try:
        size = photos.header_size(image_file) or tuple(photos.read(image_file).shape[-2:])
    except DataError:
        return False
    return size == upright_size(label_file)


def _check_sizes(image_file: Path, image: Sequence[int], label_file: Path, label: Sequence[int]) -> None:
    """Refuse a label of another size (h, w) than its image."""
    if tuple(image) != tuple(label):
        raise DataError(
            f"label {label_file} is {label[1]}x{label[0]}, its image {image_file} {image[1]}x{image[0]} pixels",
            fix=f"the EXIF orientation of the photograph turns it: {_TURN}"
            if tuple(image) == tuple(label[::-1]) and is_turned(image_file)
            else "give both the same size",
        )
