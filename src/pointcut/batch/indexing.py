"""Segments of a batch on their way into an index: one writer, a thousand segments at a time."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import numpy as np

from ..index import Store, open_store
from ..library import TOGETHER, Kept
from .journal import Journal
from .work import Done, Indexed

PICTURES = 200
"""That wait at most: some have no segments."""


class Indexing:
    """A context around a run. A picture's row waits until its segments are in the index, and goes into the journal then: what a
    killed run had not written is done again, and what it had is known by its content.
    """

    def __init__(self, journal: Journal, index: Indexed | None) -> None:
        self.journal, self.index = journal, index
        self._rows: list[dict[str, Any]] = []
        self._kept: list[Kept] = []
        self._store: Store | None = None

    def take(self, done: Done) -> None:
        """One picture. Raises OutputError, InputError (an index of another model)."""
        self._rows.append(done.row)
        if done.kept is not None and len(done.kept.entries):
            self._kept.append(done.kept)
        waiting = sum(len(kept.entries) for kept in self._kept)
        if self.index is None or waiting >= TOGETHER or len(self._rows) >= PICTURES:
            self.settle()

    def settle(self) -> None:
        """Writes what waits."""
        if self.index is not None and self._kept:
            first = self._kept[0]
            self._store = self._store or open_store(self.index.place, first.encoder, first.dimension)
            entries = [entry for kept in self._kept for entry in kept.entries]
            if self._store.add(entries, np.concatenate([kept.vectors for kept in self._kept])) < len(entries):
                self._store.describe({entry.id: entry.description for entry in entries if entry.description})
            self._kept = []
        rows, self._rows = self._rows, []
        for row in rows:
            self.journal.add(row)

    def __enter__(self) -> Indexing:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None or issubclass(kind, KeyboardInterrupt):
            self.settle()
            if self._store is not None and kind is None:
                self._store.compact()
