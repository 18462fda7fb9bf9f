"""The work on one picture: file to row. Every engine calls this, so that all give the same."""

from __future__ import annotations

import hashlib
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..arrange import distinct, without_small_regions
from ..automatic.config import AutomaticConfig, adapted_config
from ..describe import Describer, Describing
from ..detect import Detector, open_detector
from ..errors import InputError, OutputError, PointcutError, UnreadableImage
from ..export import FORMATS, Record, open_writers
from ..images import MapPlace, Reading
from ..library import Kept, kept_of
from ..likeness import Likeness, likeness_at
from ..pipeline import Found, Part, Preparation
from ..reading import read_picture
from ..reading.large import open_large
from ..rle import Rle
from ..segment.segmenter import Segmenter, load
from ..segments import Segments
from ..tiles import Tiling, everything_in, segment_in
from ..tiles.prompted import black
from .inputs import Pointed, Task
from .places import on_disk, read_bytes


class Done(NamedTuple):
    """What came of a picture."""

    row: dict[str, Any]
    """Of the journal."""
    seconds: dict[str, float]
    """That its steps took."""
    kept: Kept | None = None
    """What goes into an index, if there is one."""


NO_SCORES = np.zeros(0, np.float32)

DRAWN = frozenset({"overlay", "cutout", "png", "npz"})
"""Formats that hold every pixel of a picture."""

TOGETHER = frozenset({"coco", "yolo", "labelstudio", "parquet"})
"""Formats whose files tell of many pictures: they are written from the journal, in the order of the pictures."""


@dataclass(frozen=True)
class Indexed:
    """An index of segments."""

    place: str
    """A folder, or s3://..."""
    words_model: str | None = None
    """An image-text model, which makes it searchable by meaning; None: the segmenting model's own vectors."""

    def open(self, model: Segmenter) -> Likeness:
        """Raises MissingExtra, ModelError, and InputError for an index of another model."""
        return likeness_at(self.place, model, self.words_model)


@dataclass(frozen=True)
class BatchJob:
    """What is done with every picture."""

    model: str
    precision: str
    formats: tuple[str, ...]
    pointed: Pointed | None = None
    """The same for all pictures that have none of their own; None: everything is looked for."""
    search: tuple[tuple[str, Any], ...] = ()
    """Values of `AutomaticConfig` that differ from the model's default; its `min_mask_region_area` goes for all masks."""
    distinct: bool = False
    """Of everything each thing once, and nothing tiny (`arrange.distinct`)."""
    text: str | None = None
    """What a detector looks for in pictures that nothing is pointed at on."""
    detector: str | None = None
    """`NAME` or `NAME:MODEL`, see `detect.open_detector`; None: none is asked."""
    side: int | None = None
    """Of the model's square, where it differs from the model's own."""
    preparation: Preparation = Preparation()
    reading: Reading = Reading()
    tiling: Tiling | None = None
    """Pictures are read and searched in tiles; None: each is looked at as one."""
    describe: Describing | None = None
    """Who says what each segment is; None: nobody."""
    index: Indexed | None = None
    """Where segments go to be found again; None: nowhere."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.formats if name not in FORMATS]
        if unknown:
            raise InputError(f"unknown format {unknown[0]!r}; there are {', '.join(FORMATS)}")
        if self.tiling is not None:
            whole = [name for name in self.formats if name in DRAWN]
            if whole:
                raise InputError(
                    f"{whole[0]} draws the whole picture, which tiles are there to avoid; choose coco, geojson, ..."
                )
            if self.detector or self.preparation != Preparation():
                raise InputError("tiles go with neither a detector nor a crop, a long side or zooming in")
            if self.describe or self.index:
                raise InputError("tiles go with neither descriptions nor an index")
        if self.index is not None and self.preparation.crop is not None:
            raise InputError("an index goes without a crop")

    @property
    def config(self) -> AutomaticConfig:
        return adapted_config(self.model, dict(self.search))

    @property
    def told(self) -> dict[str, Any]:
        """What the journal's head says of it: another job in the same folder is refused by it."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Worker:
    """Who does a job: opened once in each process, then called for one picture after another, from several threads."""

    job: BatchJob
    model: Segmenter
    detector: Detector | None = None
    describer: Describer | None = None
    likeness: Likeness | None = None

    @classmethod
    def open(cls, job: BatchJob, device: str) -> Worker:
        """Raises ModelError, DeviceUnavailable, MissingExtra, InputError."""
        model = load(job.model, device=device, precision=job.precision, side=job.side)  # type: ignore[arg-type]  # checked there
        return cls(
            job,
            model,
            open_detector(job.detector, str(model.device)) if job.detector else None,
            job.describe.open() if job.describe else None,
            job.index.open(model) if job.index else None,
        )

    def __call__(self, task: Task, folder: Path) -> Done:
        """One picture, from its file to its row of the journal, and the seconds that its steps took.

        Its own files (overlays, label pictures, ...) are written into the folder on the way. One that cannot be done gives a
        row that says why. Raises OutputError: that concerns all pictures.
        """
        row: dict[str, Any] = {"name": task.name}
        clock = Clock()
        kept: Kept | None = None
        try:
            if self.job.tiling:
                found, place = self._in_tiles(task, row, clock)
            else:
                found, place, kept = self._at_once(task, row, clock)
            own = [name for name in self.job.formats if name not in TOGETHER]
            if own:
                open_writers(folder, own).add(Record(task.name, found.cut, found.labels, place, found.texts))
            row["masks"] = masks_of(found)
            clock.lap("write")
        except OutputError:
            raise
        except PointcutError as error:
            row |= {"error": type(error).__name__, "message": str(error)}
        except Exception as error:  # one picture in a million must not end the night's work
            row |= {
                "error": type(error).__name__,
                "message": f"{task.name}: a fault of Pointcut's own ({error}); please report it",
            }
        return Done(row, clock.seconds, None if "error" in row else kept)

    def _at_once(self, task: Task, row: dict[str, Any], clock: Clock) -> tuple[Found, MapPlace | None, Kept | None]:
        """A picture that is read whole: detect, segment, describe, and vectors for the index. What is known of it goes into the
        row."""
        data = read_bytes(task.path)
        row |= {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        picture = read_picture(data, replace(self.job.reading, page=task.page), task.name)
        row |= {"height": picture.pixels.shape[0], "width": picture.pixels.shape[1]} | picture.told()
        clock.lap("read")
        part = self.job.preparation.encode(self.model, picture.pixels)
        clock.lap("encode")
        found, kept = self._masks(part, task.pointed or self.job.pointed), None
        clock.lap("segment")
        if self.describer is not None:
            found = replace(found, descriptions=tuple(self.describer.each(found.cut)))
            clock.lap("describe")
        if self.likeness is not None:
            kept = kept_of(self.likeness, part.photo, str(task.path), row["sha256"], found.cut, found.labels, found.texts)
            clock.lap("index")
        return found, picture.place, kept

    def _in_tiles(self, task: Task, row: dict[str, Any], clock: Clock) -> tuple[Found, MapPlace | None]:
        """A picture that is read in parts."""
        with on_disk(task.path) as path, open_large(path, replace(self.job.reading, page=task.page)) as picture:
            row |= digest_of(path)
            row |= {"height": picture.height, "width": picture.width} | picture.told()
            clock.lap("read")
            size, pointed = (picture.height, picture.width), task.pointed or self.job.pointed
            if pointed is None:
                cut = everything_in(self.model, picture, self.job.tiling, self.job.config)
                clock.lap("segment")
                return Found(cut, (), NO_SCORES), picture.place
            clicks = zip(pointed.points, pointed.labels, strict=True)
            answers = [segment_in(self.model, picture, points, labels) for points, labels in clicks]
            if pointed.boxes:
                answers += [segment_in(self.model, picture, boxes=box) for box in pointed.boxes_in(size)]
            least = self.job.config.min_mask_region_area
            cuts = [answer.best.without_small_regions(least).placed for answer in answers]
            stored, figures = [cut.rle()[0] for cut in cuts], [cut.figures(0) for cut in cuts]
            cut = Segments.read_back(black(size), stored, figures, range(len(cuts)))
            clock.lap("segment")
            return Found(cut, pointed.names, NO_SCORES), picture.place

    def _masks(self, part: Part, pointed: Pointed | None) -> Found:
        least = self.job.config.min_mask_region_area
        if pointed is None and self.detector is not None:
            found = part.segment_found(self.detector, self.job.text)
            return replace(found, cut=without_small_regions(found.cut, least))
        if pointed is None:
            cut = part.segment_everything(self.job.config)
            return Found(distinct(cut) if self.job.distinct else cut, (), NO_SCORES)
        cut = without_small_regions(part.segment(*pointed.prompts_in(part.whole.shape[:2])).best, least)
        return Found(cut, tuple(pointed.names[i] for i in cut.objects), NO_SCORES)


def digest_of(path: Path) -> dict[str, Any]:
    """A file's SHA-256 and length, without holding it in memory. Raises UnreadableImage."""
    try:
        with path.open("rb") as file:
            return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "bytes": path.stat().st_size}
    except OSError as error:
        raise UnreadableImage(f"{path}: cannot be read ({error.strerror})") from None


def masks_of(found: Found) -> list[dict[str, Any]]:
    """The masks as the journal keeps them."""
    rows = []
    for i, mask in enumerate(found.cut.rle()):
        row = {"object": int(found.cut.objects[i])} | found.cut.figures(i) | {"counts": mask["counts"]}
        if found.labels:
            row["label"] = found.labels[i]
        if len(found.box_scores):
            row["box_score"] = round(float(found.box_scores[i]), 4)
        if found.descriptions:
            row |= {name: text for name, text in found.descriptions[i].told().items() if text}
        rows.append(row)
    return rows


def record_of(row: dict[str, Any]) -> Record:
    """A row of the journal as what writers take; its picture is black, and takes no memory."""
    size, masks = (row["height"], row["width"]), row["masks"]
    stored = [Rle(size=list(size), counts=mask["counts"]) for mask in masks]
    cut = Segments.read_back(black(size), stored, masks, [mask["object"] for mask in masks])
    labels, texts = (
        tuple(mask.get(name, nothing) for mask in masks) for name, nothing in (("label", "object"), ("description", ""))
    )
    return Record(row["name"], cut, labels, descriptions=texts)


class Clock:
    """Where the time went."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = now - self._since
        self._since = now
