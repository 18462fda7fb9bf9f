"""A folder of plain files, searched whole: for tens of thousands of segments, and what the other store is tested against.

`pointcut.index.json` says whose vectors they are and which pair of files counts: `N.jsonl`, a line for what was added, removed
or described at once, and `N.f32`, the vectors in the order in which their entries were added. A line counts when it ends in a
newline, and vectors when their line does: what a killed process left beyond is cut off by the next one that writes.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from ..errors import InputError
from ..files import make_folder, replacing, writing
from .entries import Entry, Hit, Where
from .store import About, Store

ABOUT = "pointcut.index.json"
VERSION = 1


class ExactStore(Store):
    """See the module. Reading sees what others have added since, at each call."""

    kind = "exact"

    def __init__(self, place: str, about: About) -> None:
        super().__init__(place, about)
        self.folder = Path(place)
        self._lock = FileLock(self.folder / ".pointcut.index.lock")
        self._forget()
        self._catch_up()

    @classmethod
    def find(cls, place: str) -> About | None:
        """Whose vectors a folder holds; None if there is no such index."""
        try:
            told = json.loads((Path(place) / ABOUT).read_text())
        except OSError:
            return None
        except ValueError:
            raise InputError(f"{place}: {ABOUT} is broken") from None
        if told.get("version") != VERSION:
            raise InputError(f"{place}: was written by another version of Pointcut ({told.get('version')})")
        return About(told["encoder"], told["dimension"])

    @classmethod
    def make(cls, place: str, about: About) -> ExactStore:
        folder = Path(place)
        make_folder(folder)
        with FileLock(folder / ".pointcut.index.lock"):
            if cls.find(place) is None:
                _write_about(folder, about, 0)
        return cls(place, about)

    def _forget(self) -> None:
        self._generation = -1
        self._read = 0
        """Bytes of the lines that were taken in."""
        self._rows: list[Entry | None] = []
        """In the order of the vectors; None: removed."""
        self._places: dict[str, int] = {}

    def _files(self, generation: int) -> tuple[Path, Path]:
        return self.folder / f"{generation}.jsonl", self.folder / f"{generation}.f32"

    def _catch_up(self) -> None:
        """Takes in the lines that were written since."""
        generation = json.loads((self.folder / ABOUT).read_text())["generation"]
        if generation != self._generation:
            self._forget()
            self._generation = generation
        path, _ = self._files(generation)
        if not path.is_file():
            return
        with path.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._take(json.loads(line))
                self._read += len(line)

    def _take(self, line: dict[str, Any]) -> None:
        for told in line.get("added", ()):
            entry = Entry(**told | {"thumbnail": base64.b64decode(told["thumbnail"])})
            self._places[entry.id] = len(self._rows)
            self._rows.append(entry)
        for entry_id in line.get("removed", ()):
            place = self._places.pop(entry_id, None)
            if place is not None:
                self._rows[place] = None
        for entry_id, text in line.get("described", {}).items():
            place = self._places.get(entry_id)
            known = None if place is None else self._rows[place]
            if place is not None and known is not None:
                self._rows[place] = replace(known, description=text)

    def _vectors(self) -> np.ndarray:
        """(rows, D) float32, mapped."""
        _, path = self._files(self._generation)
        shape = len(self._rows), self.about.dimension
        return np.memmap(path, np.float32, "r", shape=shape) if self._rows else np.zeros(shape, np.float32)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Alone, up to date, and without what a killed process left. Raises OutputError."""
        with writing(self.place), self._lock:
            self._catch_up()
            for path, length in zip(self._files(self._generation), (self._read, self._vector_bytes()), strict=True):
                with path.open("ab") as file:
                    file.truncate(length)
            yield

    def _vector_bytes(self) -> int:
        return 4 * self.about.dimension * len(self._rows)

    def _append(self, path: Path, data: bytes) -> None:
        with path.open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def _say(self, line: dict[str, Any]) -> None:
        data = (json.dumps(line) + "\n").encode()
        self._append(self._files(self._generation)[0], data)
        self._take(line)
        self._read += len(data)

    def add(self, entries: Sequence[Entry], vectors: np.ndarray) -> int:
        vectors = self.check(vectors)
        with self._writing():
            first = {entry.id: row for row, entry in reversed(list(enumerate(entries))) if entry.id not in self._places}
            rows = sorted(first.values())
            if rows:
                self._append(self._files(self._generation)[1], vectors[rows].tobytes())
                self._say({"added": [_told(entries[row]) for row in rows]})
        return len(rows)

    def search(
        self, vector: np.ndarray, count: int = 10, where: Where | None = None, skip: int = 0, *, exact: bool = False
    ) -> list[Hit]:
        del exact  # it always is
        vector = self.check(vector)
        self._catch_up()
        rows = [row for row, entry in enumerate(self._rows) if entry and (where is None or where.admits(entry))]
        if not rows:
            return []
        vectors = self._vectors()
        likeness = (vectors if len(rows) == len(self._rows) else vectors[rows]) @ vector
        wanted = min(len(rows), skip + count)
        best = np.argpartition(-likeness, wanted - 1)[:wanted]
        best = best[np.argsort(-likeness[best], kind="stable")][skip:]
        hits = [(self._rows[rows[i]], float(likeness[i])) for i in best]
        return [Hit(entry, similarity) for entry, similarity in hits if entry]

    def entries(self, where: Where | None = None, count: int | None = None, skip: int = 0) -> list[Entry]:
        self._catch_up()
        found = [entry for entry in self._rows if entry and (where is None or where.admits(entry))]
        found.sort(key=lambda entry: (entry.image, -entry.area, entry.id))
        return found[skip : None if count is None else skip + count]

    def vector_of(self, entry_id: str) -> np.ndarray:
        self._catch_up()
        if entry_id not in self._places:
            raise InputError(f"{self.place}: holds no segment {entry_id}")
        return np.array(self._vectors()[self._places[entry_id]])

    def remove(self, where: Where) -> int:
        with self._writing():
            gone = [entry.id for entry in self._rows if entry and where.admits(entry)]
            if gone:
                self._say({"removed": gone})
        return len(gone)

    def describe(self, descriptions: dict[str, str]) -> None:
        with self._writing():
            self._say({"described": descriptions})

    def pictures(self) -> set[str]:
        self._catch_up()
        return {entry.sha256 for entry in self._rows if entry}

    def compact(self) -> None:
        with self._writing():
            old, new = self._generation, self._generation + 1
            kept = [row for row, entry in enumerate(self._rows) if entry]
            lines, vectors = self._files(new)
            with replacing(vectors) as temporary:
                temporary.write_bytes(np.ascontiguousarray(self._vectors()[kept]).tobytes())
            with replacing(lines) as temporary, temporary.open("w", encoding="utf-8") as file:
                for row in kept:
                    entry = self._rows[row]
                    if entry:
                        file.write(json.dumps({"added": [_told(entry)]}) + "\n")
            _write_about(self.folder, self.about, new)  # from here on the new files count
            for path in self._files(old):
                path.unlink(missing_ok=True)
            self._catch_up()

    def __len__(self) -> int:
        self._catch_up()
        return len(self._places)


def _told(entry: Entry) -> dict[str, Any]:
    return vars(entry) | {"thumbnail": base64.b64encode(entry.thumbnail).decode()}


def _write_about(folder: Path, about: About, generation: int) -> None:
    told = {"version": VERSION, "generation": generation, "encoder": about.encoder, "dimension": about.dimension}
    with replacing(folder / ABOUT) as temporary:
        temporary.write_text(json.dumps(told) + "\n")
