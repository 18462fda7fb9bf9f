"""Frames from anywhere, read when they are asked for: a film, a folder of pictures, arrays in memory, a stream.

What is kept is a handful of frames: an hour needs no more memory than a minute.
"""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from ..errors import InputError
from ..images import MAX_PIXELS, open_image

FrameSource: TypeAlias = "str | os.PathLike[str] | Sequence[np.ndarray] | Iterable[np.ndarray] | Frames"

KEPT = 8
"""Frames of a film or stream that are kept after they were given out."""

CAMERA = "camera:"
"""How the name of a camera begins."""

PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


class Frames(ABC):
    """Frames by number, from 0. RGB uint8 (H, W, 3), all of one size."""

    count: int | None = None
    """How many there are, where that is known beforehand."""
    rate: float | None = None
    """Frames a second, on average, where that is known."""
    live = False
    """Whether the next frame may still have to happen: it is not asked for before this one is answered."""

    @abstractmethod
    def __getitem__(self, index: int) -> np.ndarray:
        """Raises IndexError beyond the last frame, InputError where a frame cannot be had (again)."""

    def seconds(self, index: int) -> float | None:
        """When a frame is shown, where that is known."""
        return index / self.rate if self.rate else None


class ListedFrames(Frames):
    """Pictures or arrays that can be had in any order."""

    def __init__(self, sources: Sequence[np.ndarray | Path]) -> None:
        if not sources:
            raise InputError("a video needs at least one frame, got none")
        self.sources = sources
        self.count = len(sources)

    def __getitem__(self, index: int) -> np.ndarray:
        if not 0 <= index < len(self.sources):
            raise IndexError(index)
        return open_image(self.sources[index])


class StreamedFrames(Frames):
    """Frames that come one after another: the next ones, and the last few again."""

    live = True

    def __init__(self, stream: Iterable[np.ndarray]) -> None:
        self.stream = iter(stream)
        self.kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self.next = 0

    def __getitem__(self, index: int) -> np.ndarray:
        if index < 0:
            raise IndexError(index)
        while self.next <= index:
            frame = next(self.stream, None)
            if frame is None:
                raise IndexError(index)
            self.kept[self.next] = open_image(frame)
            self.next += 1
            if len(self.kept) > KEPT:
                self.kept.popitem(last=False)
        if index not in self.kept:
            raise InputError(
                f"frame {index} of a stream is gone: the last {KEPT} of {self.next} frames are kept; to go back give a file"
            )
        return self.kept[index]


def open_frames(source: FrameSource, *, max_pixels: int = MAX_PIXELS) -> Frames:
    """A film (mp4, mov, mkv, webm, avi, gif; extra `video`), a folder of pictures in natural order, arrays, a generator, or a
    camera ("camera:0", extra `video`).

    Raises InputError or UnreadableImage.
    """
    if isinstance(source, Frames):
        return source
    if isinstance(source, str | os.PathLike):
        return _named(source, max_pixels)
    if isinstance(source, np.ndarray) and source.ndim == 4:
        return ListedFrames(list(source))
    if isinstance(source, list | tuple):
        return ListedFrames(source)
    if isinstance(source, Iterable) and not isinstance(source, np.ndarray | str):
        return StreamedFrames(source)
    raise InputError(f"expected a video file, a folder, or frames as arrays (H, W, 3), got {type(source).__name__}")


def _named(source: str | os.PathLike[str], max_pixels: int) -> Frames:
    if isinstance(source, str) and source.startswith(CAMERA):
        from .camera import camera_frames

        return StreamedFrames(camera_frames(source))
    path = Path(source)
    if path.is_dir():
        return ListedFrames(pictures_in(path))
    from .films import FilmFrames

    return FilmFrames(path, max_pixels=max_pixels)


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder in natural order: 2.jpg before 10.jpg. Raises InputError if there is none."""
    pictures = [path for path in folder.iterdir() if path.suffix.lower() in PICTURES]
    if not pictures:
        raise InputError(f"{folder}: holds no pictures ({', '.join(sorted(PICTURES))}) to be read as frames")
    return sorted(pictures, key=natural)


def natural(path: Path) -> list[tuple[int, int | str]]:
    """A key that orders numbers in names by their value."""
    parts = re.split(r"(\d+)", path.name)
    return [(0, int(part)) if part.isdigit() else (1, part) for part in parts if part]
