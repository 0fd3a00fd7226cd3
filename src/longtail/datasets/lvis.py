"""LVIS v1.0 and v0.5: COCO's images, 1,203 (1,230) categories, federated annotation."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from longtail.datasets.base import DetectionSample
from longtail.datasets.coco import Coco, url_path


class Lvis(Coco):
    """Large Vocabulary Instance Segmentation.

    Images lie in COCO's folders, ``train2017`` and ``val2017``, as the ``coco_url`` of an image says: some of
    LVIS v1's validation images are in ``train2017``.

    Args:
        root: Folder that holds ``train2017``, ``val2017`` and ``annotations/lvis_v1_SPLIT.json`` (or
            ``lvis_v0.5_SPLIT.json``), also next to the image folders.
        split: "train" or "val".
        version: "v1" or "v0.5".
        annotations: See ``Coco``.
        images: See ``Coco``.
        masks: See ``Coco``.
        semantic: See ``Coco``.
        keep_empty: See ``Coco``.
        check_files: See ``Coco``.
        transform: Applied to every sample dict.

    Source: Gupta, Dollár, Girshick, "LVIS: A Dataset for Large Vocabulary Instance Segmentation", 2019.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        version: Literal["v1", "v0.5"] = "v1",
        annotations: str | Path | None = None,
        images: str | Path | None = None,
        masks: bool | None = None,
        semantic: str | Path | None = None,
        keep_empty: bool = True,
        check_files: bool = True,
        transform: Callable[[DetectionSample], DetectionSample] | None = None,
    ) -> None:
        self.version = version
        root = Path(root).expanduser()
        if annotations is None:
            name = f"lvis_{version}_{split}.json"
            flat = (root / name).exists() and not (root / "annotations" / name).exists()
            annotations = name if flat else f"annotations/{name}"
        super().__init__(
            root,
            split,
            annotations=annotations,
            images=images or ".",
            masks=masks,
            semantic=semantic,
            keep_empty=keep_empty,
            check_files=check_files,
            transform=transform,
        )

    @staticmethod
    def _image_path(record: dict[str, Any], source: Path) -> str:
        """The end of ``coco_url``: v0.5's file names are of 2014, v1 has none."""
        return url_path(record) or Coco._image_path(record, source)
