"""Boxes that are written down already: COCO, Label Studio, YOLO, or any JSON that names pictures and their boxes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from ..errors import InputError
from .labelled import LabelFile, Labelled
from .yolo import yolo


def boxes_in(source: Path) -> LabelFile:
    """Those of a COCO file, a Label Studio export, another JSON, or a folder of YOLO labels. Raises InputError.

    Another JSON is `{"a.jpg": [[x0, y0, x1, y1], ...]}`, or a list of `{"image": "a.jpg", "boxes": [...], "labels": [...]}`.
    """
    return LabelFile(yolo(source) if source.is_dir() else _json(source))


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
            return _label_studio((task["data"], _regions(task)) for task in document)
        if "boxes" not in document[0]:
            return _label_studio((task, _regions_in_short(task)) for task in document)
        return _plain(document)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, StopIteration, RecursionError) as error:
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


def _label_studio(tasks: Iterable[tuple[dict[str, Any], list[dict[str, Any]]]]) -> dict[str, Labelled]:
    """What is known of each task, and its regions' values, each with the picture's size."""
    found: dict[str, Labelled] = {}
    for data, regions in tasks:
        for value in regions:
            labels = value.get("rectanglelabels")
            if labels is None:
                continue
            width, height = value["original_width"], value["original_height"]
            x, y = value["x"] * width / 100, value["y"] * height / 100
            box = (x, y, x + value["width"] * width / 100, y + value["height"] * height / 100)
            found.setdefault(_picture(data), Labelled()).add(box, labels[0] if labels else None)
    return found


def _regions(task: dict[str, Any]) -> list[dict[str, Any]]:
    """Of a task of the export "JSON"."""
    answers = (task.get("annotations") or task.get("predictions") or [{"result": []}])[0]["result"]
    return [region | region["value"] for region in answers if "value" in region]


def _regions_in_short(task: dict[str, Any]) -> list[dict[str, Any]]:
    """Of a task of the export "JSON-MIN"."""
    return [one for value in task.values() if isinstance(value, list) for one in value if "original_width" in one]


def _picture(data: dict[str, Any]) -> str:
    """The path of a task's picture, from its address: uploaded, in local storage, or elsewhere. Raises StopIteration."""
    addresses = [value for value in data.values() if isinstance(value, str)]
    paths = [parse_qs(urlsplit(one).query).get("d", [unquote(urlsplit(one).path)])[0] for one in addresses]
    return (next((path for path in paths if PurePosixPath(path).suffix), None) or next(iter(paths))).lstrip("/")


def _plain(rows: Iterable[dict[str, Any]]) -> dict[str, Labelled]:
    found: dict[str, Labelled] = {}
    for row in rows:
        boxes = row["boxes"]
        labels = row.get("labels") or [None] * len(boxes)
        for box, label in zip(boxes, labels, strict=True):
            found.setdefault(row["image"], Labelled()).add(box, label)
    return found
