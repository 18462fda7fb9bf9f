"""What is exported of one picture, and what every writer does with it."""

from __future__ import annotations

import json
import shutil
import tempfile
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, TextIO

import numpy as np

from ..files import make_folder, replacing
from ..images import MapPlace
from ..segments import Segments
from .polygons import Polygon, polygons


@dataclass(frozen=True, eq=False)
class Record:
    """One picture's segments, by its file's name."""

    name: str
    """The picture's file name, or its path below the folder that was given: formats refer to it."""
    cut: Segments
    labels: tuple[str, ...] = ()
    """What each mask is; "object" where nothing is said."""
    place: MapPlace | None = None
    """Where the picture lies on the earth."""
    descriptions: tuple[str, ...] = ()
    """What a model said of each, empty where it said nothing; () where none was asked."""

    @property
    def stem(self) -> str:
        """The name without its suffix, with the folders that it has."""
        return PurePath(self.name).with_suffix("").as_posix()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.cut.image.shape[0], self.cut.image.shape[1]

    def polygons(self, row: int) -> list[Polygon]:
        """The parts of a mask, largest first, in the picture's pixels. Raises MissingExtra."""
        mask, x0, y0 = self.cut.part(row)
        start = np.array([x0, y0], np.float64)
        return [Polygon(part.outline + start, [hole + start for hole in part.holes]) for part in polygons(mask)]

    def label(self, row: int) -> str:
        return self.labels[row] if self.labels else "object"

    def described(self, row: int) -> dict[str, str]:
        """What formats with names for everything add of a mask: its `description`, if there is one."""
        return {"description": self.descriptions[row]} if any(self.descriptions[row : row + 1]) else {}


class Writer(ABC):
    """Segments of one picture after another into the files of a format."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def place(self, record: Record, ending: str) -> Path:
        """Where a picture's own file goes; its folder is made. Raises OutputError."""
        path = self.folder / f"{record.stem}{ending}"
        make_folder(path.parent)
        return path

    @abstractmethod
    def add(self, record: Record) -> list[Path]:
        """Takes one picture; gives the files that are complete with it."""

    def close(self) -> list[Path]:
        """Finishes files that hold many pictures."""
        return []


class Spool:
    """The items of a JSON list that may be too long for memory: kept in a nameless file until they are written."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  # closed when it is poured out
        self.count = 0

    def add(self, value: Any) -> None:
        self._file.write(", " if self.count else "")
        self._file.write(json.dumps(value))
        self.count += 1

    def pour(self, target: TextIO) -> None:
        """Writes the list, and is empty and closed then."""
        self._file.seek(0)
        target.write("[")
        shutil.copyfileobj(self._file, target)
        target.write("]")
        self._file.close()


def write_text(path: Path, text: str) -> Path:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def write_json(path: Path, value: Any) -> Path:
    return write_text(path, json.dumps(value) + "\n")
