"""Segments of a batch on their way into an index: one writer, a thousand segments at a time."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from ..library import Intake
from .journal import Journal
from .work import Done, Indexed

PICTURES = 200
"""That wait at most: some have no segments."""


class Indexing:
    """A context around a run. A picture's row waits until its segments are in the index, and goes into the journal then: what a
    killed run had not written is done again, and what it had is known by its content.
    """

    def __init__(self, journal: Journal, index: Indexed | None) -> None:
        self.journal = journal
        self._rows: list[dict[str, Any]] = []
        self._intake = Intake(index.place) if index else None

    def take(self, done: Done) -> None:
        """One picture. Raises OutputError, InputError (an index of another model)."""
        self._rows.append(done.row)
        if self._intake is not None and done.kept is not None and done.kept.entries:
            self._intake.take(done.kept)
        if self._intake is None or self._intake.full or len(self._rows) >= PICTURES:
            self.settle()

    def settle(self) -> None:
        """Writes what waits."""
        if self._intake is not None:
            self._intake.flush()
        rows, self._rows = self._rows, []
        for row in rows:
            self.journal.add(row)

    def __enter__(self) -> Indexing:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None or issubclass(kind, KeyboardInterrupt):
            self.settle()
            if kind is None and self._intake is not None and self._intake.store is not None:
                self._intake.store.compact()
