"""Frames from anywhere, read when they are asked for: a film, a folder of pictures, arrays in memory, a stream.

What is kept is a handful of frames: an hour needs no more memory than a minute.
"""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np

from ..errors import InputError
from ..images import MAX_PIXELS, ImageSource, Picture, Reading, open_image
from ..reading import SUFFIXES, pages_of, read_picture
from ..scaling import Scaling

FrameSource: TypeAlias = "str | os.PathLike[str] | Sequence[np.ndarray] | Iterable[np.ndarray] | Frames"

KEPT = 8
"""Frames of a film or stream that are kept after they were given out."""

CAMERA = "camera:"
"""How the name of a camera begins."""

CONTACT_SHEET = ".sheet.jpg"
"""How the name of a contact sheet ends."""


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


class PictureFrames(Frames):
    """Pictures that can be had in any order. What is deep (16-bit, float) becomes 8 bits as in the first of them, so that
    nothing flickers."""

    count: int
    scaling: Scaling | None = None
    """How the first one's limits are chosen; None: as `Reading` does."""

    def __getitem__(self, index: int) -> np.ndarray:
        if not 0 <= index < self.count:
            raise IndexError(index)
        return self._read(index, self._limits).pixels

    @abstractmethod
    def _read(self, index: int, scaling: Scaling | None) -> Picture:
        """Raises as `read_picture` does."""

    @cached_property
    def _limits(self) -> Scaling | None:
        """The first one's; `scaling` where it is not deep, or its file has a curve instead of limits."""
        first = self._read(0, self.scaling)
        if first.limits is None or first.limits.black >= first.limits.white:
            return self.scaling
        limits = Scaling("window", *first.limits)
        return limits if np.array_equal(self._read(0, limits).pixels, first.pixels) else self.scaling


class ListedFrames(PictureFrames):
    """Arrays, and pictures' files."""

    def __init__(self, sources: Sequence[ImageSource], *, max_pixels: int = MAX_PIXELS, scaling: Scaling | None = None) -> None:
        if not sources:
            raise InputError("a video needs at least one frame, got none")
        self.sources, self.max_pixels, self.scaling = sources, max_pixels, scaling
        self.count = len(sources)

    def _read(self, index: int, scaling: Scaling | None) -> Picture:
        return read_picture(self.sources[index], Reading(scaling=scaling, max_pixels=self.max_pixels))


class PagedFrames(PictureFrames):
    """The pages of a TIFF, or the frames of a DICOM file. One that breaks off gives those before that; `broken` says then what
    happened."""

    def __init__(self, path: Path, count: int, *, max_pixels: int = MAX_PIXELS, scaling: Scaling | None = None) -> None:
        self.path, self.count, self.max_pixels, self.scaling = path, count, max_pixels, scaling
        self.broken: str | None = None

    def __getitem__(self, index: int) -> np.ndarray:
        try:
            return super().__getitem__(index)
        except InputError as error:
            if not index:
                raise
            self.count, self.broken = index, str(error)
            raise IndexError(index) from None

    def _read(self, index: int, scaling: Scaling | None) -> Picture:
        return read_picture(self.path, Reading(index, scaling, max_pixels=self.max_pixels))


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


def open_frames(source: FrameSource, *, max_pixels: int = MAX_PIXELS, scaling: Scaling | None = None) -> Frames:
    """A film (mp4, mkv, avi and others; extra `video`), a folder of pictures in natural order, a file of several (TIFF, DICOM),
    arrays, a generator, or a camera ("camera:0", extra `video`).

    scaling: how deep values of pictures and arrays become 8 bits; the first one's limits hold for all.
    Raises InputError or UnreadableImage.
    """
    if isinstance(source, Frames):
        return source
    if isinstance(source, str | os.PathLike):
        return _named(source, max_pixels, scaling)
    if isinstance(source, np.ndarray) and source.ndim == 4:
        return ListedFrames(list(source), max_pixels=max_pixels, scaling=scaling)
    if isinstance(source, list | tuple):
        return ListedFrames(source, max_pixels=max_pixels, scaling=scaling)
    if isinstance(source, Iterable) and not isinstance(source, np.ndarray | str):
        return StreamedFrames(source)
    raise InputError(f"expected a video file, a folder, or frames as arrays (H, W, 3), got {type(source).__name__}")


def _named(source: str | os.PathLike[str], max_pixels: int, scaling: Scaling | None) -> Frames:
    if isinstance(source, str) and source.startswith(CAMERA):
        from .camera import camera_frames

        return StreamedFrames(camera_frames(source))
    path = Path(source)
    if path.is_dir():
        return ListedFrames(frames_in(path), max_pixels=max_pixels, scaling=scaling)
    pages = pages_of(path)
    if pages > 1:
        return PagedFrames(path, pages, max_pixels=max_pixels, scaling=scaling)
    if scaling is not None:
        raise InputError(f"{path}: a film's values have 8 bits already; leave its scaling out")
    from .films import FilmFrames

    return FilmFrames(path, max_pixels=max_pixels)


def frames_in(folder: Path) -> list[Path]:
    """The pictures of a folder in natural order: 2.jpg before 10.jpg. Raises InputError if there is none.

    What is hidden is left out (as what macOS puts beside files), and contact sheets."""
    pictures = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES]
    pictures = [path for path in pictures if not path.name.startswith(".") and not path.name.endswith(CONTACT_SHEET)]
    if not pictures:
        raise InputError(f"{folder}: holds no pictures (.jpg, .png, .tif, ...) to be read as frames")
    return sorted(pictures, key=natural)


def natural(path: Path) -> list[tuple[int, int | str]]:
    """A key that orders numbers in names by their value."""
    parts = re.split(r"(\d+)", path.name)
    return [(0, int(part)) if part.isdigit() else (1, part) for part in parts if part]
