"""Boxes that are written down already: COCO, Label Studio, YOLO, or any JSON that names pictures and their boxes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from ..errors import InputError

Box = tuple[float, float, float, float]


@dataclass
class Labelled:
    """The boxes of one picture."""

    boxes: list[Box] = field(default_factory=list)
    """x0, y0, x1, y1 in pixels, or in shares of width and height."""
    labels: list[str] = field(default_factory=list)
    shares: bool = False
    """Whether boxes are told in shares of the picture, as YOLO does."""

    def add(self, box: Iterable[Any], label: object) -> None:
        """Raises ValueError or TypeError for what is not four numbers."""
        x0, y0, x1, y1 = (float(value) for value in box)
        self.boxes.append((x0, y0, x1, y1))
        self.labels.append(str(label or "object"))


def boxes_in(source: Path) -> dict[str, Labelled]:
    """By picture: of a COCO file, a Label Studio export, another JSON, or a folder of YOLO labels. Raises InputError.

    Another JSON is `{"a.jpg": [[x0, y0, x1, y1], ...]}`, or a list of `{"image": "a.jpg", "boxes": [...], "labels": [...]}`.
    """
    return _yolo(source) if source.is_dir() else _json(source)


def boxes_of(name: str, boxes: dict[str, Labelled]) -> Labelled | None:
    """Those of one picture: a label file names it by path, by file name, or (YOLO) without suffix."""
    path = PurePath(name)
    keys = (name, path.name, path.with_suffix("").as_posix(), path.stem)
    return next((boxes[key] for key in keys if key in boxes), None)


def _json(path: Path) -> dict[str, Labelled]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if not document:
            raise ValueError("it is empty")
        if isinstance(document, dict) and "annotations" in document:
            return _coco(document)
        if isinstance(document, dict):
            return _plain({"image": name, "boxes": boxes} for name, boxes in document.items())
        if "data" in document[0]:
            return _label_studio(document)
        return _plain(document)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise InputError(
            f"{path}: neither a COCO file nor a Label Studio export nor boxes by picture ({type(error).__name__}: {error})"
        ) from None


def _coco(document: dict[str, Any]) -> dict[str, Labelled]:
    files = {image["id"]: image["file_name"] for image in document["images"]}
    names = {category["id"]: category["name"] for category in document.get("categories", [])}
    found: dict[str, Labelled] = {}
    for annotation in document["annotations"]:
        x, y, width, height = (float(v) for v in annotation["bbox"])
        its = found.setdefault(files[annotation["image_id"]], Labelled())
        its.add((x, y, x + width, y + height), names.get(annotation.get("category_id")))
    return found


def _label_studio(tasks: list[dict[str, Any]]) -> dict[str, Labelled]:
    found: dict[str, Labelled] = {}
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
            found.setdefault(file, Labelled()).add(box, value["rectanglelabels"][0])
    return found


def _plain(rows: Iterable[dict[str, Any]]) -> dict[str, Labelled]:
    found: dict[str, Labelled] = {}
    for row in rows:
        boxes = row["boxes"]
        labels = row.get("labels") or [None] * len(boxes)
        for box, label in zip(boxes, labels, strict=True):
            found.setdefault(row["image"], Labelled()).add(box, label)
    return found


def _yolo(folder: Path) -> dict[str, Labelled]:
    """`class cx cy w h` a line, by the picture's stem; `data.yaml` is not read: classes are numbers."""
    found: dict[str, Labelled] = {}
    for path in sorted(folder.rglob("*.txt")):
        its = Labelled(shares=True)
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            try:
                kind, cx, cy, width, height = line.split()[:5]
                x, y, w, h = float(cx), float(cy), float(width), float(height)
            except ValueError:
                raise InputError(f"{path}, line {number}: expected class cx cy w h, got {line!r}") from None
            its.add((x - w / 2, y - h / 2, x + w / 2, y + h / 2), kind)
        if its.boxes:
            found[path.relative_to(folder).with_suffix("").as_posix()] = its
    if not found:
        raise InputError(f"{folder}: holds no YOLO labels (class cx cy w h in .txt files)")
    return found
