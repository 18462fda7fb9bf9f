"""Films, frame by frame, through PyAV (extra `video`)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ImageTooLarge, InputError, MissingExtra
from ..files import missing
from .bank import POINTERS
from .frames import KEPT, Frames

SIGNS: tuple[tuple[tuple[tuple[int, bytes], ...], str], ...] = (
    *((((4, atom),), "mp4") for atom in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")),
    (((0, b"\x1a\x45\xdf\xa3"),), "matroska"),
    (((0, b"GIF8"),), "gif"),
    (((0, b"RIFF"), (8, b"AVI ")), "avi"),
    (((0, b"G"), (188, b"G")), "mpegts"),
    (((4, b"G"), (196, b"G")), "mpegts"),  # as camcorders write it, each packet with its time before it
    (((0, b"\x00\x00\x01\xba"),), "mpeg"),
    (((0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),), "asf"),
    (((0, b"FLV\x01"),), "flv"),
    (((0, b"YUV4MPEG2"),), "yuv4mpegpipe"),
)
"""Which bytes a kind of file has where, and FFmpeg's name for it. Nothing else is opened: playlists would make FFmpeg read
other files and addresses."""

ENDINGS = {
    "mp4": "mp4, mov",
    "matroska": "mkv, webm",
    "avi": "avi",
    "gif": "gif",
    "mpegts": "ts, mts",
    "mpeg": "mpg",
    "asf": "wmv",
    "flv": "flv",
    "yuv4mpegpipe": "y4m",
}
"""How files of each kind are called."""

KINDS = frozenset(ENDINGS)
USUAL = frozenset({"mp4", "matroska", "gif", "avi"})
"""Kinds that are taken from strangers."""

HEAD = 200
"""Bytes that tell what kind of file it is."""

LOST = 5
"""A film that ends more than so many frames before its announced duration is broken."""


def pyav() -> Any:
    """The module `av`. Raises MissingExtra."""
    try:
        import av
    except ImportError:
        raise MissingExtra("films need the extra: pip install 'pointcut[video]'; a folder of pictures works without") from None
    return av


def container_of(head: bytes, name: str, kinds: frozenset[str]) -> str:
    """FFmpeg's name for the kind of film that begins with these bytes. Raises InputError where it is none of `kinds`."""
    for signs, kind in SIGNS:
        if kind in kinds and all(head[place : place + len(sign)] == sign for place, sign in signs):
            return kind
    known = ", ".join(endings for kind, endings in ENDINGS.items() if kind in kinds)
    raise InputError(f"{name}: not a film that is known here ({known}), whatever its name says")


class FilmFrames(Frames):
    """A film's frames, decoded in order; asked for an earlier one, it begins anew. They are upright, as the file asks.

    A file that breaks off gives the frames before that; `broken` says then what happened.
    """

    keeps = KEPT
    """Frames that are kept after they were given out."""

    def __init__(self, path: Path, *, max_pixels: int, kinds: frozenset[str] = KINDS) -> None:
        """kinds: those of `SIGNS` that are opened."""
        self.path = path
        self.max_pixels, self.kinds = max_pixels, kinds
        self.broken: str | None = None
        self.kept: OrderedDict[int, tuple[np.ndarray, float | None]] = OrderedDict()
        self._decoder: Iterator[tuple[np.ndarray, float | None]] | None = None
        self._next = 0
        self._end: int | None = None
        try:
            self[0]
        except IndexError:
            raise InputError(f"{path}: holds no frame that can be decoded ({self.broken or 'it is empty'})") from None
        few = self.announced(POINTERS)
        if few < POINTERS:  # so short that the tracker's arithmetic takes notice: known before anybody reads to the end
            self.count = few

    def __getitem__(self, index: int) -> np.ndarray:
        return self._at(index)[0]

    def seconds(self, index: int) -> float | None:
        return self._at(index)[1]

    def announced(self, most: int | None = None) -> int:
        """How many frames the file holds, counted without decoding them, and no further than `most`."""
        av = pyav()
        try:
            with self._container(av) as container:
                packets = (packet for packet in container.demux(container.streams.video[0]) if packet.size)
                return sum(1 for _ in islice(packets, most))
        except av.FFmpegError:
            return self._next  # it breaks off: what was decoded so far is what is sure

    def _at(self, index: int) -> tuple[np.ndarray, float | None]:
        if index < 0 or (self._end is not None and index >= self._end):
            raise IndexError(index)
        if index in self.kept:
            return self.kept[index]
        if self._decoder is None or index < self._next:
            self._decoder, self._next = self._decoded(), 0
            self.kept.clear()
        for frame in self._decoder:
            self.kept[self._next] = frame
            self._next += 1
            if len(self.kept) > self.keeps:
                self.kept.popitem(last=False)
            if self._next > index:
                return self.kept[index]
        self._decoder, self._end = None, self._next
        if self.count is None:
            self.count = self._next
        raise IndexError(index)

    def _decoded(self) -> Iterator[tuple[np.ndarray, float | None]]:
        av = pyav()
        try:
            with self._container(av) as container:
                if not container.streams.video:
                    self.broken = "it has no picture track"
                    return
                stream = container.streams.video[0]
                stream.thread_type = "AUTO"
                self.rate = float(stream.average_rate) if stream.average_rate else None
                if stream.width * stream.height > self.max_pixels:
                    raise ImageTooLarge(
                        f"{self.path}: frames of {stream.width} x {stream.height} exceed the limit of {self.max_pixels} pixels"
                    )
                start, end = None, 0.0
                for frame in container.decode(stream):
                    if frame.width * frame.height > self.max_pixels:
                        raise ImageTooLarge(f"{self.path}: a frame of {frame.width} x {frame.height} is more than the limit")
                    if start is None:
                        start = frame.time or 0.0  # what is cut out of a broadcast begins hours after nothing
                    shown = None if frame.time is None else frame.time - start
                    end = (shown or 0.0) + 1 / (self.rate or 1.0)
                    yield np.rot90(frame.to_ndarray(format="rgb24"), round((frame.rotation or 0) / 90) % 4), shown
                promised = (container.duration or 0) / av.time_base
                if promised - end > max(LOST / (self.rate or 1.0), 0.05 * promised):
                    self.broken = f"it ends after {end:.1f} of {promised:.1f} s"
        except FileNotFoundError:
            raise InputError(missing(self.path)) from None
        except IsADirectoryError:
            raise InputError(f"{self.path}: is a folder") from None
        except PermissionError:
            raise InputError(f"{self.path}: may not be read (permission denied)") from None
        except av.FFmpegError as error:
            self.broken = str(error)

    @contextmanager
    def _container(self, av: Any) -> Iterator[Any]:
        with self.path.open("rb") as file:
            head = file.read(HEAD)
            file.seek(0)
            if not head:
                raise InputError(f"{self.path}: is empty")
            with av.open(file, format=container_of(head, str(self.path), self.kinds)) as container:
                yield container
