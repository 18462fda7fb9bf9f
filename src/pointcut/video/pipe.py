"""A film that comes through a pipe: followed while it arrives, and kept in a file so that it can be read again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..errors import InputError, OutputError
from .bank import POINTERS
from .films import HEAD, FilmFrames, container_of


class Passing:
    """What FFmpeg reads of a pipe, where it cannot go back; it is written to a file on its way."""

    def __init__(self, pipe: BufferedIOBase, file: IO[bytes]) -> None:
        self.pipe, self.file = pipe, file
        self.head = self.unread = self._past(pipe.read(HEAD))
        self.stopped = False

    def read(self, most: int) -> bytes:
        """What has arrived, at most so much; nothing at the end, or after Ctrl-C, which FFmpeg would make an error of."""
        if self.unread:
            some, self.unread = self.unread[:most], self.unread[most:]
            return some
        try:
            return b"" if self.stopped else self._past(self.pipe.read1(most))
        except KeyboardInterrupt:
            self.stopped = True
            return b""

    def finish(self) -> None:
        """Lets the rest pass, and closes the file."""
        while not self.stopped and self._past(self.pipe.read1()):
            pass
        self.file.close()

    def _past(self, some: bytes) -> bytes:
        try:
            self.file.write(some)
        except OSError as error:
            raise OutputError(f"{self.file.name}: the film cannot be kept there ({error.strerror})") from None
        return some


class PipedFilm(FilmFrames):
    """A film's frames as they arrive. To go further back than to the last of them, it waits for the end and reads the file.

    path: the file. Whether the film is a short one is known once so many frames have arrived, which are kept for that.
    """

    live = True
    keeps = POINTERS

    def __init__(self, pipe: BufferedIOBase, path: Path, *, max_pixels: int) -> None:
        """Raises InputError for what is no film, ImageTooLarge."""
        self._passing: Passing | None = Passing(pipe, path.open("wb"))
        self._fresh = True
        super().__init__(path, max_pixels=max_pixels)

    def announced(self, most: int | None = None) -> int:
        if self._passing is None or most is None:
            self._arrive()
            return super().announced(most)
        try:
            self._at(most - 1)
        except IndexError:
            return self._next
        return most

    def _decoded(self) -> Iterator[tuple[np.ndarray, float | None]]:
        if self._fresh:
            self._fresh = False
            frames = super()._decoded()
            if first := next(frames, None):
                yield first
                yield from frames
                if self._passing is not None and self._passing.stopped:
                    self.broken = None  # that it ends too soon is what was wanted
                return
            self.broken = None  # an mp4 that says at its end what is in it cannot be read as it comes
        self._arrive()
        yield from super()._decoded()

    @contextmanager
    def _container(self, av: Any) -> Iterator[Any]:
        if self._passing is None:
            with super()._container(av) as container:
                yield container
            return
        if not self._passing.head:
            raise InputError("nothing came through the pipe, where a film was expected")
        with av.open(
            self._passing, format=container_of(self._passing.head, "what came through the pipe", self.kinds)
        ) as container:
            yield container

    def stop(self) -> bool:
        """Takes what has arrived for the whole film. False if it had arrived already."""
        if self._passing is None:
            return False
        self._passing.stopped = True
        self._arrive()
        return True

    def _arrive(self) -> None:
        """Waits for the film's end: from here on it is a file."""
        if self._passing is not None:
            self._passing.finish()
            self._passing = None
