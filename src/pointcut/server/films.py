"""Films that are open: each in a temporary folder, with its tracker and what was found so far."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..errors import InputError, PointcutError
from ..segment.segmenter import Segmenter
from ..video.films import USUAL, FilmFrames
from ..video.job import row_of
from ..video.render import render
from ..video.tracker import TrackedFrame, Tracker
from .config import Limits
from .problems import Problem
from .shelter import Shelter

RENDERED = {"overlay.mp4": "video/mp4", "cutout.webm": "video/webm", "coco": "application/json", "json": "application/x-ndjson"}
"""What can be taken away, and its media type."""


@dataclass(eq=False)
class Film:
    """One film. All but `used` belongs to the lane of films."""

    id: str
    owner: str
    folder: TemporaryDirectory[str]
    tracker: Tracker
    model: str
    frames: int
    rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    """What was found, by frame."""
    tracking: bool = False
    used: float = field(default_factory=time.monotonic)

    @property
    def source(self) -> FilmFrames:
        assert isinstance(self.tracker.frames, FilmFrames)
        return self.tracker.frames

    def found(self, frame: TrackedFrame) -> dict[str, Any]:
        """Keeps a frame's row; gives it."""
        row = self.rows[frame.index] = row_of(frame)
        self.used = time.monotonic()
        return row

    def forget(self, object_id: int | None) -> None:
        """Forgets an object, or all of them. Raises InputError."""
        if object_id is None:
            self.tracker.reset()
            self.rows.clear()
            return
        self.tracker.remove(object_id)
        for row in self.rows.values():
            row["objects"] = [one for one in row["objects"] if one["id"] != object_id]

    def rendered(self, kind: str) -> Path:
        """What was found so far as a file, in the film's folder. Raises Problem or what `render` raises."""
        if not any(row["objects"] for row in self.rows.values()):
            raise Problem(422, "nothing_tracked", "nothing was followed yet: prompt, then track")
        folder = Path(self.folder.name)
        journal = folder / "pointcut.track.jsonl"
        head = json.dumps({"video": "film", "model": self.model}) + "\n"
        journal.write_text(head + "".join(json.dumps(self.rows[i]) + "\n" for i in sorted(self.rows)))
        if kind == "json":
            return journal
        files = render(journal, self.source, folder, "pointcut", [kind])
        return next(path for path in files if path.name.endswith(kind if "." in kind else f"{kind}.json"))


class Films:
    """Those that are open: a few, and none for longer than it is used."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.shelter = Shelter()
        self._open: dict[str, Film] = {}
        self._arriving = 0

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """A place for a film while it is uploaded. Raises Problem 429 if there is none."""
        self.sweep()
        if len(self._open) + self._arriving >= self.limits.films:
            raise Problem(
                429, "busy", f"{self.limits.films} films are open; close one (DELETE /v1/videos/ID), or try again later"
            )
        self._arriving += 1
        try:
            yield
        finally:
            self._arriving -= 1

    def open(self, owner: str, key: str, folder: TemporaryDirectory[str], path: Path, model: Segmenter) -> Film:
        """key: what the film's id begins with, so that a proxy that sent the upload here sends the rest here too.

        Raises Problem or what reading a film raises; its path is not told."""
        try:
            frames = FilmFrames(path, max_pixels=self.limits.pixels, kinds=USUAL)
            tracker = model.track(frames)
            count = frames.announced()
        except InputError as error:
            raise type(error)(str(error).replace(str(path), "the film")) from None
        film = Film(f"{key}-{secrets.token_hex(12)}", owner, folder, tracker, model.name, count)
        self._open[film.id] = film
        return film

    def get(self, owner: str, film_id: str) -> Film:
        """Raises Problem 404 for what is not, or not any more, or not this owner's."""
        self.sweep()
        film = self._open.get(film_id)
        if film is None or film.owner != owner:
            raise Problem(
                404, "no_such_video", "no film is open under this id; films that nobody uses are closed: upload it again"
            )
        film.used = time.monotonic()
        return film

    def close(self, film: Film) -> None:
        self._open.pop(film.id, None)
        film.folder.cleanup()

    def sweep(self) -> None:
        """Closes what was not used for long."""
        now = time.monotonic()
        for film in list(self._open.values()):
            if now - film.used > self.limits.idle and not film.tracking:
                self.close(film)

    def close_all(self) -> None:
        for film in list(self._open.values()):
            self.close(film)
        self.shelter.close()


def without_path(error: PointcutError, film: Film) -> PointcutError:
    """The same error without the temporary file's name."""
    return type(error)(str(error).replace(str(film.source.path), "the film"))
