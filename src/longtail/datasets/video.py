"""Frames of video files, by PyAV."""

from collections.abc import Collection, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from longtail.errors import DataError, MissingDependencyError

VIDEO_SUFFIXES = frozenset({".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".gif"})


def is_video(path: Path) -> bool:
    """Whether a file is a video, by its name."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def frame_names(path: Path, name: str) -> list[str]:
    """Name of every frame, ``NAME/000000`` and so on.

    Args:
        path: The video.
        name: Its name.

    Raises:
        DataError: It cannot be read, or has no frame.
        MissingDependencyError: PyAV is not installed.
    """
    count = sum(1 for _ in _decoded(path))
    if not count:
        raise DataError(f"video {path} has no frame", fix="give a complete video file")
    return [f"{name}/{index:06d}" for index in range(count)]


def frames(path: str | Path, wanted: Collection[int] | None = None) -> Iterator[Tensor]:
    """Frames of a video in order, uint8 RGB (3, h, w); ``Segmenter.predict_each`` and ``Detector.predict_each`` take them.

    Args:
        path: The video, or whatever PyAV opens: the address of a stream.
        wanted: Numbers of the frames, from 0; None for all.

    Raises:
        DataError: It cannot be read.
        MissingDependencyError: PyAV is not installed.
    """
    for index, frame in enumerate(_decoded(path)):
        if wanted is None or index in wanted:
            yield torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1).contiguous()


def frame_rate(path: Path) -> Fraction:
    """Frames a second."""
    with _library().open(str(path)) as container:
        return Fraction(container.streams.video[0].average_rate or 25)


def write_video(path: Path, pictures: Iterable[np.ndarray], rate: Fraction) -> None:
    """Write pictures as an MP4 file.

    Args:
        path: The file.
        pictures: uint8 RGB (h, w, 3), all of one size; a last odd row or column is cut, since the format has none.
        rate: Frames a second.
    """
    library = _library()
    with library.open(str(path), "w", format="mp4") as container:
        stream: Any = None
        for picture in pictures:
            picture = picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]
            if stream is None:
                stream = container.add_stream("mpeg4", rate=rate)
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt, stream.bit_rate = "yuv420p", 8_000_000
            container.mux(stream.encode(library.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        if stream is not None:
            container.mux(stream.encode())


def _decoded(path: str | Path) -> Iterator[Any]:
    library = _library()
    try:
        with library.open(str(path)) as container:
            yield from container.decode(video=0)
    except (library.FFmpegError, IndexError, OSError) as error:
        raise DataError(f"cannot read video {path}: {error}", fix="give a complete video file") from error


def _library() -> Any:
    try:
        import av
    except ImportError as error:
        raise MissingDependencyError(
            "PyAV is not installed, which reads videos", fix="pip install 'longtail[video]'"
        ) from error
    return av
