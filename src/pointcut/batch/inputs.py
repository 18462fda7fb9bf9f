"""What is to be done: pictures from folders, names and lists, and what is pointed at on each, from tables and label files."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from ..detect.files import boxes_in
from ..errors import InputError
from ..reading import pages_of
from .places import Place, has_wildcards, is_address, pictures_below, pictures_in, pictures_like

TABLES = frozenset({".csv", ".tsv", ".parquet"})


@dataclass(frozen=True)
class Pointed:
    """What is pointed at on one picture: one object for each."""

    points: tuple[tuple[tuple[float, float], ...], ...] = ()
    labels: tuple[tuple[int, ...], ...] = ()
    boxes: tuple[tuple[float, float, float, float], ...] = ()
    names: tuple[str, ...] = ()
    """What each object is."""
    shares: bool = False
    """Whether boxes are told in shares of the picture's width and height."""

    def __add__(self, other: Pointed) -> Pointed:
        """Both: objects by points and objects by boxes do not mix on one picture. Raises InputError."""
        if (self.points and other.boxes) or (self.boxes and other.points):
            raise InputError("a picture has objects with points and objects with boxes; give each object a box, or each points")
        if self.shares or other.shares:
            raise InputError("boxes in shares of the picture come from one label file, and stand alone")
        return Pointed(
            self.points + other.points, self.labels + other.labels, self.boxes + other.boxes, self.names + other.names
        )

    def prompts_in(self, size: tuple[int, int]) -> tuple[list[Any] | None, list[Any] | None, np.ndarray | None]:
        """Points, labels and boxes as `segment` takes them, in the pixels of a picture of `size` (height, width)."""
        points, labels = [list(one) for one in self.points], [list(one) for one in self.labels]
        return points or None, labels or None, self.boxes_in(size) if self.boxes else None

    def boxes_in(self, size: tuple[int, int]) -> np.ndarray:
        """(N, 4) float32 x0, y0, x1, y1 in the pixels of a picture of `size` (height, width)."""
        height, width = size
        scale = (width, height, width, height) if self.shares else (1, 1, 1, 1)
        return (np.asarray(self.boxes) * scale).astype(np.float32)


@dataclass(frozen=True)
class Task:
    """One picture."""

    name: str
    """Its path below the folder that was given, or its file's name; results are called after it."""
    path: Place
    pointed: Pointed | None = None
    """None: what the job says."""
    page: int = 0
    """Of a file that holds several."""


def tasks_in(sources: Iterable[str], out: Path | None = None) -> list[Task]:
    """Pictures of folders (with those below, in order of their names), patterns (`photos/**/*.jpg`), storages, single files,
    and tables, each once.

    out: where results go; what lies there already of an earlier run is no source (`pictures_in`).
    Raises InputError for a source that cannot be read, and where two pictures would be called the same.
    """
    found: dict[str, Task] = {}
    for source in sources:
        path = Path(source)
        if is_address(source):
            tasks: Iterable[Task] = (Task(name, address) for name, address in pictures_below(source))
        elif path.is_dir():
            tasks = (Task(p.relative_to(path).as_posix(), p) for p in pictures_in(path, out))
        elif path.suffix.lower() in TABLES:
            tasks = tasks_of_table(path)
        elif has_wildcards(source) and not path.exists():
            root, pictures = pictures_like(source, out)
            tasks = (Task(p.relative_to(root).as_posix(), p) for p in pictures)
        else:
            tasks = [Task(path.name, path)]  # if it is not there, its row will say so
        for task in tasks:
            known = found.get(task.name)
            if known is not None and known.path != task.path:
                raise InputError(f"{known.path} and {task.path} would be called the same: {task.name}; give the folder above")
            found[task.name] = task
    return list(found.values())


def with_pages(tasks: Iterable[Task]) -> list[Task]:
    """Every page of a TIFF and every frame of a DICOM file as a picture of its own, called `scan.page3.tif` and so on.

    Of files on a disk: what lies behind addresses would have to be fetched to be counted.
    """
    found = []
    for task in tasks:
        name, count = PurePath(task.name), pages_of(task.path) if isinstance(task.path, Path) else 1
        names = [name.with_name(f"{name.stem}.page{page}{name.suffix}").as_posix() for page in range(count)]
        found += [replace(task, name=names[page], page=page) for page in range(count)] if count > 1 else [task]
    return found


def tasks_of_table(path: Path) -> Iterator[Task]:
    """A table with a column `image` and, for what is pointed at, `x`, `y` and `label` (1 or 0), or `x0`, `y0`, `x1`, `y1`.

    Rows of one picture belong together; `object` tells whose a click is, `name` what it is. Paths begin where the table lies.
    Raises InputError.
    """
    rows: dict[str, list[dict[str, Any]]] = {}
    for number, row in enumerate(_rows(path), start=2):
        if not row.get("image"):
            raise InputError(f"{path}, line {number}: the column image is missing or empty; got {', '.join(row)}")
        rows.setdefault(str(row["image"]), []).append(row | {"line": number})
    for image, its in rows.items():
        pointed = _pointed(its, path) if any(_given(row, "x") or _given(row, "x0") for row in its) else None
        place: Place = image if is_address(image) else path.parent / image
        apart = is_address(image) or Path(image).is_absolute()
        yield Task(PurePath(image).name if apart else PurePath(image).as_posix(), place, pointed)


def _given(row: dict[str, Any], name: str) -> bool:
    return row.get(name) not in (None, "")


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if path.suffix.lower() == ".parquet":
        from ..export.parquet import pyarrow

        _, parquet = pyarrow()
        try:
            for batch in parquet.ParquetFile(path).iter_batches():
                yield from batch.to_pylist()
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read as Parquet ({error})") from None
        return
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            yield from csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a table ({error})") from None


def _pointed(rows: list[dict[str, Any]], path: Path) -> Pointed:
    """The rows of one picture: each object's clicks, or a box each."""
    clicks: dict[str, list[tuple[float, float, int]]] = {}
    names: dict[str, str] = {}
    pointed = Pointed()
    for row in rows:
        try:
            if _given(row, "x0"):
                box = (float(row["x0"]), float(row["y0"]), float(row["x1"]), float(row["y1"]))
                pointed += Pointed(boxes=(box,), names=(str(row.get("name") or "object"),))
            elif _given(row, "x"):
                which = str(row.get("object") or "")
                clicks.setdefault(which, []).append((float(row["x"]), float(row["y"]), int(row.get("label") or 1)))
                names.setdefault(which, str(row.get("name") or "object"))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}, line {row['line']}: expected numbers in x, y or x0, y0, x1, y1 ({error})") from None
    for which, its in clicks.items():
        points, labels = tuple((x, y) for x, y, _ in its), tuple(label for _, _, label in its)
        pointed += Pointed(points=(points,), labels=(labels,), names=(names[which],))
    return pointed


def with_boxes(tasks: list[Task], source: Path) -> list[Task]:
    """The same pictures with the boxes of a file (`detect.files.boxes_in`).

    Pictures without boxes there are left out. Raises InputError.
    """
    boxes = boxes_in(source)
    found = [(task, boxes.of(task.name)) for task in tasks]
    kept = [
        replace(task, pointed=Pointed(boxes=tuple(its.boxes), names=tuple(its.labels), shares=its.shares))
        for task, its in found
        if its is not None
    ]
    if not kept:
        raise InputError(
            f"{source}: has boxes for none of the {len(tasks)} pictures; it names {', '.join(boxes.names[:3]) or 'none'}"
        )
    return kept
