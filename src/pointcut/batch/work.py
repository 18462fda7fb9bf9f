"""The work on one picture: file to row. Every engine calls this, so that all give the same."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..automatic.config import AutomaticConfig, default_config
from ..errors import InputError, OutputError, PointcutError, UnreadableImage
from ..export import FORMATS, Record, open_writers
from ..images import MAX_PIXELS, open_image
from ..rle import Rle
from ..segment.segmenter import Segmenter
from ..segment.session import EncodedImage
from ..segments import Segments
from .inputs import Pointed, Shares, Task

TOGETHER = frozenset({"coco", "yolo", "labelstudio", "parquet"})
"""Formats whose files tell of many pictures: they are written from the journal, in the order of the pictures."""


@dataclass(frozen=True)
class BatchJob:
    """What is done with every picture."""

    model: str
    precision: str
    formats: tuple[str, ...]
    pointed: Pointed | None = None
    """The same for all pictures that have none of their own; None: everything is looked for."""
    search: tuple[tuple[str, Any], ...] = ()
    """Values of `AutomaticConfig` that differ from the model's default."""
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        unknown = [name for name in self.formats if name not in FORMATS]
        if unknown:
            raise InputError(f"unknown format {unknown[0]!r}; there are {', '.join(FORMATS)}")

    @property
    def config(self) -> AutomaticConfig:
        return AutomaticConfig(**{**vars(default_config(self.model)), **dict(self.search)})

    @property
    def told(self) -> dict[str, Any]:
        """What the journal's head says of it: another job in the same folder is refused by it."""
        return asdict(self)


def row_of(task: Task, job: BatchJob, model: Segmenter, folder: Path) -> tuple[dict[str, Any], dict[str, float]]:
    """One picture, from its file to its row of the journal, and the seconds that its steps took.

    Its own files (overlays, label pictures, ...) are written on the way. One that cannot be done gives a row that says why.
    Raises OutputError: that concerns all pictures.
    """
    row: dict[str, Any] = {"name": task.name}
    clock = Clock()
    try:
        data = _read(task.path)
        row |= {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        pixels = open_image(data, max_pixels=job.max_pixels)
        row |= {"height": pixels.shape[0], "width": pixels.shape[1]}
        clock.lap("read")
        photo = model.encode(pixels)
        clock.lap("encode")
        cut, names = segmented(photo, task.pointed or job.pointed, job)
        clock.lap("segment")
        own = [name for name in job.formats if name not in TOGETHER]
        if own:
            open_writers(folder, own).add(Record(task.name, cut, names))
        row["masks"] = masks_of(cut, names)
        clock.lap("write")
    except OutputError:
        raise
    except PointcutError as error:
        row |= {"error": type(error).__name__, "message": str(error).replace("image data", task.name)}
    return row, clock.seconds


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImage(f"{path}: cannot be read ({error.strerror})") from None


def segmented(photo: EncodedImage, pointed: Pointed | None, job: BatchJob) -> tuple[Segments, tuple[str, ...]]:
    """The masks, and what each is."""
    if pointed is None:
        return photo.segment_everything(job.config), ()
    points = [list(one) for one in pointed.points] or None
    labels = [list(one) for one in pointed.labels] or None
    boxes = [in_pixels(box, photo.size) for box in pointed.boxes] or None
    cut = photo.segment(points, labels, boxes).best
    return cut, tuple(pointed.names[i] for i in cut.objects)


def in_pixels(box: Sequence[float], size: tuple[int, int]) -> tuple[float, ...]:
    height, width = size
    scale = (width, height, width, height) if isinstance(box, Shares) else (1, 1, 1, 1)
    return tuple(v * s for v, s in zip(box, scale, strict=True))


def masks_of(cut: Segments, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """The masks as the journal keeps them."""
    rows = []
    for i, mask in enumerate(cut.rle()):
        row = {"object": int(cut.objects[i])} | cut.figures(i) | {"counts": mask["counts"]}
        rows.append(row | {"label": names[i]} if names else row)
    return rows


def record_of(row: dict[str, Any]) -> Record:
    """A row of the journal as what writers take; its picture is black, and takes no memory."""
    size, masks = [row["height"], row["width"]], row["masks"]
    stored = [Rle(size=size, counts=mask["counts"]) for mask in masks]
    cut = Segments.read_back(np.broadcast_to(np.uint8(0), (*size, 3)), stored, masks, [mask["object"] for mask in masks])
    return Record(row["name"], cut, tuple(mask.get("label", "object") for mask in masks))


class Clock:
    """Where the time went."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = now - self._since
        self._since = now
