"""What every store promises, and how one is opened."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from .entries import Entry, Hit, Where

KINDS = ("lance", "exact")


@dataclass(frozen=True)
class About:
    """Whose vectors an index holds."""

    encoder: str
    """The model, and a digest of its weights."""
    dimension: int


class Store(ABC):
    """Entries and their vectors. Nothing is kept open between calls."""

    kind: str

    def __init__(self, place: str, about: About) -> None:
        self.place, self.about = place, about

    @abstractmethod
    def add(self, entries: Sequence[Entry], vectors: np.ndarray) -> int:
        """All of them or none; those whose id is there already are left as they are. Gives how many are new.

        vectors: (N, D) float32 of length one. Raises InputError for another D, OutputError.
        """

    @abstractmethod
    def search(
        self, vector: np.ndarray, count: int = 10, where: Where | None = None, skip: int = 0, *, exact: bool = False
    ) -> list[Hit]:
        """The entries most like a vector (D,), best first, after the first `skip`.

        exact: look at all of them, where the store would look at some.
        """

    @abstractmethod
    def entries(self, where: Where | None = None, count: int | None = None, skip: int = 0) -> list[Entry]:
        """Entries in order of their pictures' names, then of their areas, largest first."""

    def entry(self, entry_id: str) -> Entry | None:
        """The one of that id, if there is one."""
        return next(iter(self.entries(Where(ids=(entry_id,)))), None)

    def meeting(self, where: Where, count: int, skip: int = 0) -> list[Hit]:
        """Entries by conditions alone, in the order of `entries`: as alike as can be."""
        return [Hit(entry, 1.0) for entry in self.entries(where, count, skip)]

    @abstractmethod
    def vector_of(self, entry_id: str) -> np.ndarray:
        """(D,): an entry's own. Raises InputError where there is none."""

    @abstractmethod
    def remove(self, where: Where) -> int:
        """Gives how many are gone. Raises OutputError."""

    @abstractmethod
    def describe(self, descriptions: dict[str, str]) -> None:
        """Sets what a model said of entries, by their ids. Raises OutputError."""

    @abstractmethod
    def pictures(self) -> set[str]:
        """The SHA-256 of the pictures that have entries."""

    @abstractmethod
    def compact(self) -> None:
        """Takes what was removed and what piled up out of the files, and trains the approximate search if there are enough."""

    @abstractmethod
    def __len__(self) -> int: ...

    def check(self, vectors: np.ndarray) -> np.ndarray:
        """(N, D) or (D,) float32. Raises InputError."""
        vectors = np.ascontiguousarray(vectors, np.float32)
        if vectors.shape[-1] != self.about.dimension:
            raise InputError(
                f"{self.place}: holds vectors of {self.about.dimension} numbers ({self.about.encoder}), got {vectors.shape[-1]}"
            )
        return vectors

    def stats(self) -> dict[str, Any]:
        """For programs."""
        about = {"place": self.place, "kind": self.kind, "encoder": self.about.encoder, "dimension": self.about.dimension}
        return about | {"segments": len(self), "pictures": len(self.pictures())}


def open_store(place: str | Path, encoder: str | None = None, dimension: int | None = None, kind: str | None = None) -> Store:
    """Opens an index, or makes it where `encoder` and `dimension` say whose vectors it is to hold.

    place: a folder, or for LanceDB an address of object storage (`s3://...`). kind: `lance` or `exact`; None: what is there, or
    for a new one LanceDB where it is installed. Raises InputError (nothing there; vectors of another model), MissingExtra,
    OutputError.
    """
    from .exact import ExactStore
    from .lance import LanceStore, installed

    if kind is not None and kind not in KINDS:
        raise InputError(f"an index is {' or '.join(KINDS)}, got {kind!r}")
    place = str(place)
    found = find_store(place)
    if found is not None:
        _check(place, found.about, encoder, dimension, found.kind, kind)
        return found
    if encoder is None or dimension is None:
        raise InputError(f"{place}: there is no index; `pointcut index add PHOTOS --index {place}` makes one")
    chosen = kind or ("lance" if installed() or "://" in place else "exact")
    return (LanceStore if chosen == "lance" else ExactStore).make(place, About(encoder, dimension))


def find_store(place: str | Path) -> Store | None:
    """The index that is there, whosever vectors it holds. Raises InputError (broken), MissingExtra."""
    from .exact import ExactStore
    from .lance import LanceStore

    for candidate in (ExactStore, LanceStore):
        about = candidate.find(str(place))
        if about is not None:
            return candidate(str(place), about)
    return None


def _check(place: str, about: About, encoder: str | None, dimension: int | None, found: str, kind: str | None) -> None:
    if encoder not in (None, about.encoder) or dimension not in (None, about.dimension):
        raise InputError(
            f"{place}: holds vectors of {about.encoder}, which cannot be compared with those of {encoder}; use that model, or "
            "another --index"
        )
    if kind is not None and kind != found:
        raise InputError(f"{place}: is of kind {found}, not {kind}; leave --store out, or choose another --index")
