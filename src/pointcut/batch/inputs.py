"""What is to be done: pictures from folders, names and lists, and what is pointed at on each, from tables and label files."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from ..errors import InputError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".ppm", ".pgm"})
"""Of files that are taken out of a folder."""

TABLES = frozenset({".csv", ".tsv", ".parquet"})


@dataclass(frozen=True)
class Pointed:
    """What is pointed at on one picture: one object for each."""

    points: tuple[tuple[tuple[float, float], ...], ...] = ()
    labels: tuple[tuple[int, ...], ...] = ()
    boxes: tuple[tuple[float, float, float, float], ...] = ()
    names: tuple[str, ...] = ()
    """What each object is."""

    def __add__(self, other: Pointed) -> Pointed:
        """Both: objects by points and objects by boxes do not mix on one picture. Raises InputError."""
        if (self.points and other.boxes) or (self.boxes and other.points):
            raise InputError("a picture has objects with points and objects with boxes; give each object a box, or each points")
        return Pointed(
            self.points + other.points, self.labels + other.labels, self.boxes + other.boxes, self.names + other.names
        )


@dataclass(frozen=True)
class Task:
    """One picture."""

    name: str
    """Its path below the folder that was given, or its file's name; results are called after it."""
    path: Path
    pointed: Pointed | None = None
    """None: what the job says."""


def tasks_in(sources: Iterable[str]) -> list[Task]:
    """Pictures of folders (with those below, in order of their names), single files, and tables, each once.

    Raises InputError for a source that is not there, and where two pictures would be called the same.
    """
    found: dict[str, Task] = {}
    for source in sources:
        path = Path(source)
        if path.is_dir():
            pictures = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
            tasks: Iterable[Task] = (Task(p.relative_to(path).as_posix(), p) for p in pictures)
        elif path.suffix.lower() in TABLES:
            tasks = tasks_of_table(path)
        else:
            tasks = [Task(path.name, path)]  # if it is not there, its row will say so
        for task in tasks:
            known = found.get(task.name)
            if known is not None and known.path != task.path:
                raise InputError(f"{known.path} and {task.path} would be called the same: {task.name}; give the folder above")
            found[task.name] = task
    return list(found.values())


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
        place = path.parent / image
        yield Task(PurePath(image).name if Path(image).is_absolute() else PurePath(image).as_posix(), place, pointed)


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
    """The same pictures with the boxes of a COCO file, a Label Studio export, or a folder of YOLO labels.

    Pictures without boxes there are left out. YOLO's shares of the picture are told as such: see `Yolo`. Raises InputError.
    """
    boxes = yolo_boxes(source) if source.is_dir() else json_boxes(source)
    kept = [replace(task, pointed=found) for task in tasks if (found := _of(task, boxes)) is not None]
    if not kept:
        raise InputError(
            f"{source}: has boxes for none of the {len(tasks)} pictures; it names {', '.join(list(boxes)[:3]) or 'none'}"
        )
    return kept


def _of(task: Task, boxes: dict[str, Pointed]) -> Pointed | None:
    """A label file names pictures by path, by file name, or (YOLO) without suffix."""
    path = PurePath(task.name)
    keys = (task.name, path.name, path.with_suffix("").as_posix(), path.stem)
    return next((boxes[key] for key in keys if key in boxes), None)


def json_boxes(path: Path) -> dict[str, Pointed]:
    """COCO's `bbox`, or the rectangles of Label Studio tasks, by picture. Raises InputError."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return _coco(document) if isinstance(document, dict) else _label_studio(document)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(f"{path}: neither a COCO file nor a Label Studio export ({type(error).__name__}: {error})") from None


def _coco(document: dict[str, Any]) -> dict[str, Pointed]:
    files = {image["id"]: image["file_name"] for image in document["images"]}
    names = {category["id"]: category["name"] for category in document.get("categories", [])}
    found: dict[str, Pointed] = {}
    for annotation in document["annotations"]:
        x, y, width, height = (float(v) for v in annotation["bbox"])
        one = Pointed(boxes=((x, y, x + width, y + height),), names=(names.get(annotation.get("category_id"), "object"),))
        file = files[annotation["image_id"]]
        found[file] = found.get(file, Pointed()) + one
    return found


def _label_studio(tasks: list[dict[str, Any]]) -> dict[str, Pointed]:
    found: dict[str, Pointed] = {}
    for task in tasks:
        address = next(value for value in task["data"].values() if isinstance(value, str))
        answers = (task.get("annotations") or task.get("predictions") or [{"result": []}])[0]["result"]
        for region in answers:
            if region["type"] != "rectanglelabels":
                continue
            value, width, height = region["value"], region["original_width"], region["original_height"]
            x, y = value["x"] * width / 100, value["y"] * height / 100
            box = (x, y, x + value["width"] * width / 100, y + value["height"] * height / 100)
            file = PurePath(address.partition("?")[0]).name
            found[file] = found.get(file, Pointed()) + Pointed(boxes=(box,), names=(value["rectanglelabels"][0],))
    return found


class Shares(tuple[float, float, float, float]):
    """A box in shares of the picture's width and height, as YOLO writes it: x0, y0, x1, y1."""


def yolo_boxes(folder: Path) -> dict[str, Pointed]:
    """YOLO's detection labels (`class cx cy w h` a line), by the picture's stem; `data.yaml` is not read: classes are numbers.

    Raises InputError.
    """
    found: dict[str, Pointed] = {}
    for path in sorted(folder.rglob("*.txt")):
        pointed = Pointed()
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            try:
                kind, cx, cy, width, height = line.split()[:5]
                x, y, w, h = float(cx), float(cy), float(width), float(height)
            except ValueError:
                raise InputError(f"{path}, line {number}: expected class cx cy w h, got {line!r}") from None
            box = Shares((x - w / 2, y - h / 2, x + w / 2, y + h / 2))
            pointed += Pointed(boxes=(box,), names=(kind,))
        if pointed.boxes:
            found[path.relative_to(folder).with_suffix("").as_posix()] = pointed
    if not found:
        raise InputError(f"{folder}: holds no YOLO labels (class cx cy w h in .txt files)")
    return found
