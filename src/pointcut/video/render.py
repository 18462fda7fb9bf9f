"""A journal and its film to what people look at and take away: films, label pictures, a contact sheet."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .. import draw
from ..errors import InputError, OutputError
from ..files import make_folder, replacing
from ..segments import Segments
from .films import pyav
from .frames import CONTACT_SHEET, Frames
from .job import rows, segments_of

FORMATS = ("overlay.mp4", "cutout.webm", "cutout", "masks", "coco", "json")
TICKS = 1000
"""Time in films is counted in milliseconds, so that a variable rate stays what it was."""
USUAL_RATE = 24.0
"""Frames a second where the source does not tell."""
SHEET = (4, 3)
"""Columns and rows of the contact sheet."""


class Rendering(ABC):
    """One kind of result, made frame after frame; `close` finishes it."""

    @abstractmethod
    def add(self, index: int, seconds: float, cut: Segments) -> None:
        """Takes the next frame."""

    @abstractmethod
    def close(self) -> Path:
        """Finishes, and says where the result is."""


class Film(Rendering):
    """A film: an overlay as H.264, or a cut-out with transparency as VP9. It gets its name when it is complete."""

    def __init__(self, path: Path, cutout: bool) -> None:
        av = pyav()
        self.path, self.cutout = path, cutout
        self._replacing = replacing(path)
        temporary = self._replacing.__enter__()
        self.container = av.open(str(temporary), "w", format="webm" if cutout else "mp4")
        self.stream = self.container.add_stream("libvpx-vp9" if cutout else "libx264", rate=round(USUAL_RATE))
        self.stream.pix_fmt = "yuva420p" if cutout else "yuv420p"
        self.stream.codec_context.time_base = Fraction(1, TICKS)
        self.stream.options = (
            {"crf": "24", "b": "0", "row-mt": "1", "cpu-used": "6"} if cutout else {"crf": "20", "preset": "veryfast"}
        )
        self.started = False

    def add(self, index: int, seconds: float, cut: Segments) -> None:  # noqa: ARG002
        av = pyav()
        picture = draw.cutout(cut.image, cut.union) if self.cutout else draw.overlay(cut.image, cut.masks)
        pixels = np.asarray(picture)
        pixels = pixels[: pixels.shape[0] // 2 * 2 or 2, : pixels.shape[1] // 2 * 2 or 2]  # both codecs want even sizes
        if not self.started:
            self.stream.height, self.stream.width = pixels.shape[:2]
            self.started = True
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgba" if self.cutout else "rgb24")
        frame = frame.reformat(format=self.stream.pix_fmt)
        frame.pts, frame.time_base = round(seconds * TICKS), Fraction(1, TICKS)
        self.container.mux(self.stream.encode(frame))

    def close(self) -> Path:
        if self.started:
            self.container.mux(self.stream.encode())
        self.container.close()
        self._replacing.__exit__(None, None, None)
        return self.path


class Pictures(Rendering):
    """A folder with one PNG a frame: label pictures (0 nothing, else the object's id), or cut-outs with transparency."""

    def __init__(self, folder: Path, cutout: bool) -> None:
        self.folder, self.cutout = folder, cutout
        make_folder(folder)

    def add(self, index: int, seconds: float, cut: Segments) -> None:  # noqa: ARG002
        if self.cutout:
            picture = draw.cutout(cut.image, cut.union)
        else:
            if cut.objects.max(initial=0) > 255:
                raise OutputError("a label picture holds ids up to 255; give smaller ids, or use coco or json")
            labels = np.zeros(cut.image.shape[:2], np.uint8)
            for row, object_id in enumerate(cut.objects):
                labels[cut.mask(row)] = object_id
            picture = Image.fromarray(labels)
            picture.putpalette([0, 0, 0, *draw.distinct_colours(255).astype(np.uint8).ravel().tolist()])
        draw.save(picture, self.folder / f"{index:06d}.png")

    def close(self) -> Path:
        return self.folder


class Coco(Rendering):
    """One COCO file; each object is a category, each frame a picture."""

    def __init__(self, folder: Path, stem: str) -> None:
        from ..export.coco import CocoWriter

        self.writer, self.stem = CocoWriter(folder), stem
        self.target = folder / f"{stem}.coco.json"

    def add(self, index: int, seconds: float, cut: Segments) -> None:  # noqa: ARG002
        from ..export.record import Record

        labels = tuple(f"object {object_id}" for object_id in cut.objects)
        self.writer.add(Record(f"{self.stem}_{index:06d}.jpg", cut, labels))

    def close(self) -> Path:
        (written,) = self.writer.close()
        return written.replace(self.target)


class Sheet(Rendering):
    """A picture with some of the frames, to see at a glance whether the object was kept."""

    def __init__(self, path: Path, frames: int) -> None:
        self.path = path
        count = SHEET[0] * SHEET[1]
        self.wanted = set(np.linspace(0, max(0, frames - 1), count).round().astype(int).tolist())
        self.seen = 0
        self.tiles: list[Image.Image] = []

    def add(self, index: int, seconds: float, cut: Segments) -> None:  # noqa: ARG002
        if self.seen in self.wanted:
            tile = draw.overlay(cut.image, cut.masks)
            tile.thumbnail((480, 480))
            self.tiles.append(tile)
        self.seen += 1

    def close(self) -> Path:
        draw.save(draw.sheet(self.tiles, columns=SHEET[0]), self.path)
        return self.path


def render(journal: Path, frames: Frames, folder: Path, stem: str, formats: Sequence[str]) -> list[Path]:
    """Makes what was asked for of a finished journal, and a contact sheet. Raises InputError, MissingExtra, OutputError."""
    check_formats(formats)
    total = sum(1 for _ in rows(journal))
    if not total:
        raise InputError(f"{journal}: no frame was tracked")
    kinds: dict[str, Rendering] = {"sheet": Sheet(folder / f"{stem}{CONTACT_SHEET}", total)}
    for name in formats:
        if name in ("overlay.mp4", "cutout.webm"):
            kinds[name] = Film(folder / f"{stem}.{name}", cutout=name == "cutout.webm")
        elif name in ("cutout", "masks"):
            kinds[name] = Pictures(folder / f"{stem}.{name}", cutout=name == "cutout")
        elif name == "coco":
            kinds[name] = Coco(folder, stem)
    first: float | None = None
    for row in rows(journal):
        image = frames[row["frame"]]
        seconds = row["seconds"] if row["seconds"] is not None else row["frame"] / USUAL_RATE
        first = seconds if first is None else first
        for rendering in kinds.values():
            rendering.add(row["frame"], seconds - first, segments_of(row, image))
    return [rendering.close() for rendering in kinds.values()] + [journal]


def check_formats(formats: Sequence[str]) -> None:
    """Raises InputError for a name that is not a format, MissingExtra for a film without PyAV."""
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise InputError(f"unknown format {unknown[0]!r}; there are {', '.join(FORMATS)}")
    if {"overlay.mp4", "cutout.webm"}.intersection(formats):
        pyav()


def summary(journal: Path) -> dict[str, Any]:
    """For programs: how many frames, and in how many each object was seen."""
    frames, seen = 0, dict[int, int]()
    for row in rows(journal):
        frames += 1
        for one in row["objects"]:
            seen[one["id"]] = seen.get(one["id"], 0) + (not one["occluded"] and one["area"] > 0)
    return {"frames": frames, "seen": {str(object_id): count for object_id, count in seen.items()}}
