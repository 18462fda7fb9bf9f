"""What is kept of a segment, and how some are asked for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..errors import InputError


@dataclass(frozen=True)
class Entry:
    """One segment of one picture."""

    id: str
    """Of the picture's content and the mask: the same segment has the same."""
    image: str
    """The picture's name: a path, or an address."""
    sha256: str
    """Of the picture's file."""
    height: int
    width: int
    counts: str
    """The mask: COCO's compressed run lengths."""
    x0: float
    y0: float
    x1: float
    y1: float
    """Its box."""
    area: int
    score: float
    stability: float
    label: str = ""
    description: str = ""
    """What a model said of it."""
    added: str = ""
    """When, as 2026-11-21T12:00:00+00:00."""
    thumbnail: bytes = b""
    """A small JPEG of the box."""


def entry_id(sha256: str, counts: str) -> str:
    """32 hexadecimal digits."""
    return hashlib.sha256(f"{sha256}/{counts}".encode()).hexdigest()[:32]


class Hit(NamedTuple):
    """An entry that was found."""

    entry: Entry
    similarity: float
    """The cosine between it and what was asked for, -1 to 1."""


@dataclass(frozen=True)
class Where:
    """Which entries are meant: those that meet every condition. Raises InputError."""

    min_area: int | None = None
    max_area: int | None = None
    """Pixels."""
    label: str | None = None
    path: str | None = None
    """What the picture's name begins with."""
    words: str | None = None
    """What stands in its label or description, in small or large letters."""
    since: str | None = None
    until: str | None = None
    """When it was added: a date (2026-11-21) or time; until is not included."""
    ids: tuple[str, ...] = ()
    """These only; none given: any."""
    not_sha256: str | None = None
    """Not of this picture."""

    def __post_init__(self) -> None:
        if self.min_area is not None and self.max_area is not None and self.min_area > self.max_area:
            raise InputError(f"no area is at least {self.min_area} and at most {self.max_area} pixels")

    @property
    def everything(self) -> bool:
        return self == Where()

    def admits(self, entry: Entry) -> bool:
        """Whether an entry meets all conditions."""
        wanted = (
            self.min_area is None or entry.area >= self.min_area,
            self.max_area is None or entry.area <= self.max_area,
            self.label is None or entry.label == self.label,
            self.path is None or entry.image.startswith(self.path),
            self.words is None or self.words.lower() in f"{entry.label}\n{entry.description}".lower(),
            self.since is None or entry.added >= self.since,
            self.until is None or entry.added < self.until,
            not self.ids or entry.id in self.ids,
            self.not_sha256 is None or entry.sha256 != self.not_sha256,
        )
        return all(wanted)

    def sql(self) -> str:
        """The same for LanceDB; empty where everything is meant."""
        conditions = [
            None if self.min_area is None else f"area >= {int(self.min_area)}",
            None if self.max_area is None else f"area <= {int(self.max_area)}",
            None if self.label is None else f"label = {_quoted(self.label)}",
            None if self.path is None else f"starts_with(image, {_quoted(self.path)})",
            None if self.words is None else f"contains(lower(concat(label, '\n', description)), {_quoted(self.words.lower())})",
            None if self.since is None else f"added >= {_quoted(self.since)}",
            None if self.until is None else f"added < {_quoted(self.until)}",
            f"id IN ({', '.join(map(_quoted, self.ids))})" if self.ids else None,
            None if self.not_sha256 is None else f"sha256 != {_quoted(self.not_sha256)}",
        ]
        return " AND ".join(condition for condition in conditions if condition)


def _quoted(text: str) -> str:
    """A string of SQL: only the quote itself has a meaning within, and is doubled."""
    return "'" + text.replace("'", "''") + "'"


def told(entry: Entry) -> dict[str, Any]:
    """For programs: all but the thumbnail."""
    document = vars(entry) | {"box_xyxy": [entry.x0, entry.y0, entry.x1, entry.y1]}
    return {name: value for name, value in document.items() if name not in ("thumbnail", "x0", "y0", "x1", "y1")}
