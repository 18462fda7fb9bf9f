"""What is exported of one picture, and what every writer does with it."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from ..files import replacing
from ..segments import Segments


@dataclass(frozen=True, eq=False)
class Record:
    """One picture's segments, by its file's name."""

    name: str
    """The picture's file name: formats refer to it."""
    cut: Segments
    labels: tuple[str, ...] = ()
    """What each mask is; "object" where nothing is said."""

    @property
    def stem(self) -> str:
        return PurePath(self.name).stem

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.cut.image.shape[0], self.cut.image.shape[1]

    def label(self, row: int) -> str:
        return self.labels[row] if self.labels else "object"


class Writer(ABC):
    """Segments of one picture after another into the files of a format."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def add(self, record: Record) -> list[Path]:
        """Takes one picture; gives the files that are complete with it."""

    def close(self) -> list[Path]:
        """Finishes files that hold many pictures."""
        return []


def write_text(path: Path, text: str) -> Path:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def write_json(path: Path, value: Any) -> Path:
    return write_text(path, json.dumps(value) + "\n")
