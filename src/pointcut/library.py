"""Pictures into an index of segments, and questions to it.

library = Library("library", pointcut.load("nano"))
library.add("a.jpg", Path("a.jpg").read_bytes())
library.flush()
hits = library.search(library.vectors(photo, photo.segment(points=[(225, 110)]).best)[0])
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from . import draw
from .arrange import distinct
from .embed import Embedder, source_of
from .files import as_text
from .index import Entry, Hit, Store, Where, entry_id, find_store, open_store
from .likeness import Likeness, likeness_at, vector_of, wordless
from .reading import read_picture
from .segment.devices import choose_device
from .segment.segmenter import Segmenter
from .segment.session import EncodedImage
from .segments import Segments

TOGETHER = 1000
"""Entries that are written at once."""

THUMBNAIL = 160
"""The longer side of the small pictures, in pixels."""

Cut = Callable[[EncodedImage], "tuple[Segments, Sequence[str]]"]
"""An encoded picture to its masks, and what each is (or nothing)."""


def everything(photo: EncodedImage) -> tuple[Segments, Sequence[str]]:
    """Automatic masks, each thing once."""
    return distinct(photo.segment_everything()), ()


class Kept(NamedTuple):
    """A picture's segments on their way into an index."""

    encoder: str
    entries: list[Entry]
    vectors: np.ndarray


def kept_of(
    likeness: Likeness,
    photo: EncodedImage,
    name: str,
    sha256: str,
    cut: Segments,
    labels: Sequence[str] = (),
    descriptions: Sequence[str] = (),
) -> Kept:
    """The segments of a picture's file, with their vectors. labels and descriptions: of each, or none."""
    entries = entries_of(name, sha256, cut, labels, descriptions)
    return Kept(likeness.name, entries, likeness.vectors(photo, cut))


class Intake:
    """Segments on their way into an index, many written at a time. The index is made with the first of them."""

    def __init__(self, place: str | Path, kind: str | None = None) -> None:
        self.place, self.kind = place, kind
        self._kept: list[Kept] = []
        self.store: Store | None = None
        """The index, once something was taken."""

    def take(self, kept: Kept) -> None:
        """Raises InputError (an index of another model), OutputError."""
        self.store = self.store or open_store(self.place, kept.encoder, kept.vectors.shape[1], self.kind)
        self._kept.append(kept)

    @property
    def full(self) -> bool:
        """Whether so many wait that they should be written."""
        return sum(len(kept.entries) for kept in self._kept) >= TOGETHER

    def flush(self) -> int:
        """Writes what waits; gives how many segments are new. Those that were there get their descriptions, if they have any.

        Raises OutputError.
        """
        entries = [entry for kept in self._kept for entry in kept.entries]
        added = 0
        if self.store is not None and entries:
            added = self.store.add(entries, np.concatenate([kept.vectors for kept in self._kept]))
            descriptions = {entry.id: entry.description for entry in entries if entry.description}
            if added < len(entries) and descriptions:
                self.store.describe(descriptions)
        self._kept = []  # what could not be written still waits
        return added


class Library:
    """An index and the model that cuts out what it holds. Entries are written a thousand at a time: `flush` writes the last
    ones."""

    def __init__(self, place: str | Path, model: Segmenter, kind: str | None = None, words_model: str | None = None) -> None:
        """place: a folder or an address, see `index.open_store`; it is made with the first picture. words_model: an image-text
        model whose vectors it is to hold; by default those that are there, or the model's own. Raises as `likeness_at` does."""
        self.place, self.model, self.kind = place, model, kind
        self.likeness = likeness_at(place, model, words_model)
        self._intake = Intake(place, kind)
        self._known: set[str] | None = None
        """The pictures that have segments here; None: not looked up yet."""

    @property
    def store(self) -> Store:
        """The index. Raises InputError where there is none yet."""
        if self._intake.store is None:
            self._intake.store = open_store(self.place, self.likeness.name, kind=self.kind)
        return self._intake.store

    def _pictures(self) -> set[str]:
        """The SHA-256 of the pictures that have segments here."""
        if self._known is None:
            self._known = self.store.pictures() if find_store(self.place) else set()
        return self._known

    def add(self, name: str, data: bytes, cut: Cut = everything) -> int | None:
        """The segments of one picture's file; gives how many, or None where the index has it already.

        Raises UnreadableImage, ImageTooLarge, InputError (an index of another model), OutputError.
        """
        sha256 = hashlib.sha256(data).hexdigest()
        known = self._pictures()
        if sha256 in known:
            return None
        photo = self.model.encode(read_picture(data, name=name).pixels)
        found, labels = cut(photo)
        self._intake.take(kept_of(self.likeness, photo, name, sha256, found, labels))
        known.add(sha256)
        if self._intake.full:
            self.flush()
        return len(found)

    def flush(self) -> int:
        """Writes what was added; gives how many segments are new. Raises OutputError."""
        return self._intake.flush()

    def vectors(self, photo: EncodedImage, cut: Segments) -> np.ndarray:
        """(N, D) float32 of length one: what each segment looks like to the model."""
        return self.likeness.vectors(photo, cut)

    def whole(self, photo: EncodedImage) -> np.ndarray:
        """(D,): what a whole picture looks like."""
        return vector_of(self.likeness, photo)

    def search(
        self, vector: np.ndarray, count: int = 10, where: Where | None = None, skip: int = 0, *, exact: bool = False
    ) -> list[Hit]:
        """The segments most like a vector (D,), best first. Raises InputError."""
        return self.store.search(vector, count, where, skip, exact=exact)


def search_by_meaning(
    place: str | Path,
    text: str,
    count: int = 10,
    where: Where | None = None,
    skip: int = 0,
    *,
    device: str = "auto",
    exact: bool = False,
) -> list[Hit]:
    """The segments that a text fits best, in an index that was made with an image-text model.

    Raises InputError (no index; one that knows no words; other weights than it was made with), MissingExtra, ModelError.
    """
    encoder = open_store(place).about.encoder
    source = source_of(encoder)
    if source is None:
        raise wordless(encoder)
    embedder = Embedder.open(source, str(choose_device(device)))
    return open_store(place, embedder.name).search(embedder.words([text])[0], count, where, skip, exact=exact)


def entries_of(
    name: str, sha256: str, cut: Segments, labels: Sequence[str] = (), descriptions: Sequence[str] = ()
) -> list[Entry]:
    """A picture's segments as they are kept."""
    now, (height, width) = datetime.now(UTC).isoformat(timespec="seconds"), cut.image.shape[:2]
    found = []
    for row, mask in enumerate(cut.rle()):
        x0, y0, x1, y1 = cut.boxes_xyxy[row].tolist()
        entry = Entry(
            id=entry_id(sha256, mask["counts"]),
            image=as_text(name),
            sha256=sha256,
            height=height,
            width=width,
            counts=mask["counts"],
            x0=x0,
            y0=y0,
            x1=x1,
            y1=y1,
            area=int(cut.areas[row]),
            score=round(float(cut.scores[row]), 4),
            stability=round(float(cut.stability[row]), 4),
            label=as_text(labels[row]) if labels else "",
            description=as_text(descriptions[row]) if descriptions else "",
            added=now,
            thumbnail=thumbnail(cut, row),
        )
        found.append(entry)
    return found


def thumbnail(cut: Segments, row: int) -> bytes:
    """A small JPEG of a mask's box and a little around it, dimmed beside the mask."""
    return draw.jpeg(cut.close_up(row, context=0.125, background="dim", side=THUMBNAIL), quality=80)


def contact_sheet(hits: Sequence[Hit]) -> Image.Image:
    """What was found, best first, with likeness and name."""
    tiles = [Image.open(io.BytesIO(hit.entry.thumbnail)).convert("RGB") for hit in hits]
    captions = [f"{hit.similarity:.2f} {Path(hit.entry.image).name}"[:24] for hit in hits]
    return draw.sheet(tiles, captions, columns=6)
