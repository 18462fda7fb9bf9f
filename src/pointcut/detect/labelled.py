"""Boxes by picture, as label files have them, and which picture is meant by a name in one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import PurePosixPath
from typing import Any

Box = tuple[float, float, float, float]

UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")
"""What Label Studio puts before the name of a file that is uploaded."""
UPLOADS = "upload"
"""The folder that it keeps them in, project by project."""


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


class LabelFile:
    """Boxes by picture."""

    def __init__(self, found: dict[str, Labelled]) -> None:
        self.found = found
        self._by_stem: dict[str, list[str]] = {}
        for name in found:
            stem = PurePosixPath(name).stem
            for alias in {stem, UPLOADED.sub("", stem, count=1)}:
                self._by_stem.setdefault(alias, []).append(name)

    @property
    def names(self) -> list[str]:
        """Of the pictures, as the file has them."""
        return list(self.found)

    def of(self, name: str) -> Labelled | None:
        """The boxes of one picture. A file may name it by more of its path than `name` or by less, and (YOLO) by another
        ending; None where it is not named, or more than one might be meant."""
        if name in self.found:
            return self.found[name]
        path = PurePosixPath(name)
        meant = [one for one in self._by_stem.get(path.stem, []) if _agree(_folders(name), _folders(one))]
        exactly = [one for one in meant if UPLOADED.sub("", PurePosixPath(one).name, count=1) == path.name]
        meant = exactly or meant
        return self.found[meant[0]] if len(meant) == 1 else None


def _folders(name: str) -> list[str]:
    """The folders of a name, the innermost first, up to that which holds all pictures or all labels of a data set. Label Studio
    keeps those of nothing that is uploaded."""
    parts = PurePosixPath(name).parts[:-1]
    return [] if UPLOADS in parts else list(takewhile(lambda part: part not in ("images", "labels"), reversed(parts)))


def _agree(some: list[str], others: list[str]) -> bool:
    """Whether two names say the same as far as both go."""
    return all(a == b for a, b in zip(some, others, strict=False))
