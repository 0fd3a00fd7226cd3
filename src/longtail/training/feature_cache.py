"""Features of a fixed set of augmented views, computed once and kept on disk: for training on a frozen encoder."""

import hashlib
import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from longtail.distributed import barrier
from longtail.errors import ConfigError
from longtail.progress import with_progress
from longtail.samplers.base import split
from longtail.segmentation.method import SegmentationMethod
from longtail.training.evaluation import evaluating
from longtail.training.failures import Collate, attempt, checked
from longtail.training.loading import IndexOrder, worker_context
from longtail.training.randomness import isolated_randomness

_DONE = "complete.json"


@dataclass(frozen=True)
class ViewOrder:
    """One pass over the images, each in one of its views.

    Args:
        images: The pass over the images; a class that it draws them for is not seen by the views.
        num_images: Number of images.
        views: Views of every image.
    """

    images: IndexOrder
    num_images: int
    views: int

    def __call__(self, generator: torch.Generator) -> Sequence[int]:
        """Rows of the cache."""
        order = torch.tensor([split(index, self.num_images)[0] for index in self.images(generator)])
        return (order * self.views + torch.randint(self.views, order.shape, generator=generator)).tolist()


class Views(Dataset):
    """The fixed views: row ``image * views + view`` is always augmented with the same randomness.

    Args:
        samples: Augmented samples by image.
        num_images: Number of images.
        views: Views of every image.
        seed: Seed of the run.
    """

    def __init__(self, samples: Dataset, num_images: int, views: int, seed: int) -> None:
        self.samples, self.num_images, self.views, self.seed = samples, num_images, views, seed

    def __len__(self) -> int:
        return self.num_images * self.views

    def __getitem__(self, row: int) -> Any:
        with isolated_randomness(self.seed, "view", row):
            return attempt(lambda: self.samples[row // self.views])


class CachedFeatures(Dataset):
    """Features and labels of views, mapped into memory from files.

    Args:
        folder: Where the files lie.
        rows: Number of views.
        shapes: Shape of every feature map of one view; an empty map where nothing reads it.
        mask: Height and width of the labels.
        dtype: Of the features.
    """

    def __init__(
        self, folder: Path, rows: int, shapes: Sequence[Sequence[int]], mask: Sequence[int], dtype: torch.dtype
    ) -> None:
        self.folder, self.rows, self.dtype = folder, rows, dtype
        self.shapes = [tuple(shape) for shape in shapes]
        self.mask = tuple(mask)
        self._maps: list[Tensor] | None = None

    @property
    def bytes(self) -> int:
        """Size on disk."""
        features = sum(math.prod(shape) for shape in self.shapes) * self.dtype.itemsize
        return self.rows * (features + math.prod(self.mask) * torch.int16.itemsize)

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, row: int) -> dict[str, Any]:
        *features, mask = (values[row] for values in self._files())
        return {"features": list(features), "mask": mask}

    def write(self, rows: slice, features: Sequence[Tensor], mask: Tensor) -> None:
        """Write some views."""
        for values, new in zip(self._files(), (*features, mask), strict=True):
            if new.numel():
                values[rows] = new.to(values.dtype).cpu()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": None}  # a worker maps the files again

    def _files(self) -> list[Tensor]:
        """The files as tensors; made where they are not there."""
        if self._maps is None:
            self._maps = [self._map(f"level_{i}", shape, self.dtype) for i, shape in enumerate(self.shapes)]
            self._maps.append(self._map("labels", self.mask, torch.int16))
        return self._maps

    def _map(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        size = self.rows * math.prod(shape)
        if not size:
            return torch.empty(self.rows, *shape, dtype=dtype)
        file = str(self.folder / f"{name}.bin")
        return torch.from_file(file, shared=True, size=size, dtype=dtype).view(self.rows, *shape)


def plan_cache(folder: Path, views: Views, method: SegmentationMethod, device: torch.device) -> CachedFeatures:
    """The cache that the views would fill, from the features of the first one.

    Args:
        folder: Where it will lie.
        views: The views.
        method: Its encoder is frozen; levels that its first expert does not read are not kept.
        device: Where the method is.
    """
    sample = checked(views[0])
    with evaluating(method), isolated_randomness():
        with torch.no_grad():
            features = method.features(sample["image"].unsqueeze(0).to(device))
        leaves = [f.detach().clone().requires_grad_() for f in features]
        method.first_logits(leaves).sum().backward(inputs=leaves)
    read = [tuple(f.shape[1:]) if f.grad is not None else (0,) for f in leaves]
    return CachedFeatures(folder, len(views), read, tuple(sample["mask"].shape), features[0].dtype)


def fill_cache(
    cache: CachedFeatures,
    views: Views,
    method: SegmentationMethod,
    facts: object,
    fabric: Fabric,
    *,
    batch_size: int,
    workers: int,
    progress: bool,
) -> bool:
    """Compute what is not there: every rank its share, on one machine.

    Args:
        cache: Of ``plan_cache``.
        views: What is computed.
        method: Its encoder is frozen.
        facts: Settings and data that the views depend on; with the frozen weights they are the fingerprint.
        fabric: Device, precision and ranks.
        batch_size: Views at a time.
        workers: Processes that load images.
        progress: Show a bar on a terminal.

    Returns:
        Whether all was there already.

    Raises:
        ConfigError: The disk has too little space.
        DataError: A sample cannot be read.
    """
    wanted = {"fingerprint": fingerprint(method, facts), "rows": cache.rows, "shapes": [list(s) for s in cache.shapes]}
    done = cache.folder / _DONE
    if done.is_file() and json.loads(done.read_text()) == wanted:
        return True
    if fabric.is_global_zero:
        _make_room(cache)
        done.unlink(missing_ok=True)
        cache._files()
    barrier()
    mine = range(fabric.global_rank, len(range(0, len(views), batch_size)), fabric.world_size)
    batches = [range(i * batch_size, min(len(views), (i + 1) * batch_size)) for i in mine]
    loader = DataLoader(
        views,
        batch_sampler=batches,  # type: ignore[arg-type]  # ranges are sequences of ints
        num_workers=workers,
        collate_fn=Collate(),
        multiprocessing_context=worker_context(workers),
        generator=torch.Generator(),
    )
    pairs = zip(batches, loader, strict=True)
    shown = with_progress(pairs, len(batches), "features", shown=progress and fabric.is_global_zero)
    with torch.no_grad(), isolated_randomness():
        for rows, batch in shown:
            with fabric.autocast():
                features = method.features(checked(batch)["image"].to(fabric.device))
            kept = [f if math.prod(shape) else f.new_empty(0) for f, shape in zip(features, cache.shapes, strict=True)]
            cache.write(slice(rows.start, rows.stop), kept, batch["mask"])
    barrier()
    if fabric.is_global_zero:
        done.write_text(json.dumps(wanted))
    barrier()
    return False


def fingerprint(method: SegmentationMethod, facts: object) -> str:
    """Digest of a method's frozen weights and of other facts."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    frozen = method.get_submodule(method.frozen[0]).state_dict()  # the encoder
    for name, value in sorted(frozen.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _make_room(cache: CachedFeatures) -> None:
    """Make the folder.

    Raises:
        ConfigError: The disk has too little space.
    """
    cache.folder.mkdir(parents=True, exist_ok=True)
    for old in cache.folder.glob("*.bin"):
        old.unlink()
    free = shutil.disk_usage(cache.folder).free
    if free < cache.bytes:
        raise ConfigError(
            f"{cache.rows} views need {cache.bytes / 1e9:.1f} GB in {cache.folder}, where {free / 1e9:.1f} GB are free",
            fix="lower cache.views, or name a folder on another disk with cache.folder",
        )
