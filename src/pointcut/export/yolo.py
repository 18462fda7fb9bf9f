"""YOLO segmentation: a text file a picture, `class x y x y ...` in shares of the width and height, one line a connected part.

Source of the format: https://docs.ultralytics.com/datasets/segment/. A line holds one outline: a mask of several parts becomes
several lines, and holes are lost.
"""

from __future__ import annotations

import json
from pathlib import Path

from ..files import make_folder
from .record import Record, Writer, write_text


class YoloWriter(Writer):
    """`labels/STEM.txt`; `data.yaml`, which names the classes; `descriptions/STEM.txt`, line for line, if a model said any."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.classes: dict[str, int] = {}

    def add(self, record: Record) -> list[Path]:
        height, width = record.size
        lines, notes = [], []
        for row in range(len(record.cut)):
            number = self.classes.setdefault(record.label(row), len(self.classes))
            for part in record.polygons(row):
                shares = (part.outline / (width, height)).clip(0, 1).ravel()
                lines.append(f"{number} " + " ".join(f"{v:.6f}" for v in shares))
                notes.append(" ".join(record.described(row).get("description", "").split()))
        return [self._list(record, "labels", lines)] + ([self._list(record, "descriptions", notes)] if any(notes) else [])

    def _list(self, record: Record, kind: str, lines: list[str]) -> Path:
        path = self.folder / kind / f"{record.stem}.txt"
        make_folder(path.parent)
        return write_text(path, "".join(line + "\n" for line in lines))

    def close(self) -> list[Path]:
        names = "".join(f"  {number}: {json.dumps(name)}\n" for name, number in self.classes.items())
        return [write_text(self.folder / "data.yaml", f"path: .\ntrain: images\nval: images\nnames:\n{names or '  {}'}")]
