"""What a run has done, a line a picture, in a folder that belongs to one run at a time.

A line counts when it ends in a newline. A killed run leaves at most half a line, which the next one cuts off; what follows is
done again, to the same bytes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple

from filelock import FileLock, Timeout

from ..errors import OutputError
from ..files import make_folder, sweep, writing

NAME = "pointcut.batch.jsonl"
EVERY = 50
"""Lines between two calls to have them on the disk."""


class Line(NamedTuple):
    """Where a picture's line is."""

    place: int
    bytes: int | None
    """How long the picture's file was."""


class Journal:
    """The journal of one job in one folder. A context: inside it no other run works there.

    `done` tells where each picture's line is, by name; of failed ones only if they are not to be tried again.
    """

    def __init__(self, folder: Path, told: dict[str, Any], *, fresh: bool = False, retry: bool = False) -> None:
        self.folder, self.told, self.fresh, self.retry = folder, told, fresh, retry
        self.path = folder / NAME
        self.done: dict[str, Line] = {}
        self._lock = FileLock(folder / ".pointcut.lock")
        self._file: IO[bytes] | None = None
        self._unsettled = 0

    def __enter__(self) -> Journal:
        make_folder(self.folder)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise OutputError(
                f"{self.folder}: another run is working in this folder; wait for it, or choose another --out"
            ) from None
        except OSError as error:
            raise OutputError(f"{self.folder}: cannot be written ({error.strerror})") from None
        try:
            sweep(self.folder)
            self._open()
        except BaseException:
            self._lock.release()
            raise
        return self

    def _open(self) -> None:
        head = json.dumps(self.told) + "\n"
        with writing(self.path):
            if self.fresh or not self.path.is_file() or not self.path.stat().st_size:
                self.path.write_text(head, encoding="utf-8")
            keep = self._survey(head)
            self._file = self.path.open("r+b")
            self._file.truncate(keep)
            self._file.seek(keep)

    def _survey(self, head: str) -> int:
        """Reads what is there; gives where the whole lines end. Raises OutputError for another job's journal."""
        with self.path.open("rb") as file:
            first = file.readline().decode("utf-8", "replace")
            if not first.endswith("\n"):
                self.path.write_text(head, encoding="utf-8")  # killed at its first line
                return len(head.encode())
            if first != head:
                raise OutputError(
                    f"{self.path}: holds another job (other model, formats or prompts); choose another --out, or --fresh"
                )
            place = len(first.encode())
            for line in file:
                if not line.endswith(b"\n"):
                    break
                row = json.loads(line)
                if "error" in row and self.retry:
                    self.done.pop(row["name"], None)
                else:
                    self.done[row["name"]] = Line(place, row.get("bytes"))
                place += len(line)
        return place

    def add(self, row: dict[str, Any]) -> None:
        """Raises OutputError, and leaves no half line behind then."""
        assert self._file is not None
        place, line = self._file.tell(), (json.dumps(row) + "\n").encode()
        try:
            self._file.write(line)
            self._unsettled += 1
            if self._unsettled >= EVERY:
                self._settle()
        except OSError as error:
            raise OutputError(
                f"{self.path}: cannot be written ({error.strerror}); what was done is kept, run it again"
            ) from None
        self.done[row["name"]] = Line(place, row.get("bytes"))

    def _settle(self) -> None:
        assert self._file is not None
        self._file.flush()
        os.fsync(self._file.fileno())
        self._unsettled = 0

    def rows(self, names: list[str]) -> Iterator[dict[str, Any]]:
        """The rows of these pictures, in this order."""
        if self._file is not None:
            self._settle()
        with self.path.open("rb") as file:
            for name in names:
                if name in self.done:
                    file.seek(self.done[name].place)
                    yield json.loads(file.readline())

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if self._file is not None:
                self._file.close()
        except OSError as problem:
            if kind is None:
                raise OutputError(f"{self.path}: cannot be written ({problem.strerror})") from None
        finally:
            self._lock.release()
