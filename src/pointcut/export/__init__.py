"""Segments to the files that annotators and their tools use: one writer per format.

    with pointcut.export.open_writers("out", ["coco", "yolo"]) as writers:
        for path in paths:
            writers.add(Record(path.name, model.encode(path).segment_everything()))

What each format keeps: docs/formats.md. Nothing is written half: every file gets its name when it is complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from ..errors import InputError
from ..files import make_folder
from ..opencv import opencv
from .coco import CocoWriter
from .files import CutoutWriter, GeoJsonWriter, LabelmeWriter, NpzWriter, OverlayWriter, PngWriter
from .labelstudio import LabelStudioWriter
from .parquet import ParquetWriter
from .record import Record, Writer
from .yolo import YoloWriter

__all__ = ["FORMATS", "Record", "Writer", "Writers", "open_writers"]

FORMATS: dict[str, type[Writer]] = {
    "overlay": OverlayWriter,
    "cutout": CutoutWriter,
    "png": PngWriter,
    "coco": CocoWriter,
    "yolo": YoloWriter,
    "geojson": GeoJsonWriter,
    "labelstudio": LabelStudioWriter,
    "labelme": LabelmeWriter,
    "npz": NpzWriter,
    "parquet": ParquetWriter,
}

OUTLINED = frozenset({"yolo", "geojson", "labelstudio", "labelme"})
"""Formats that hold outlines."""


class Writers:
    """Several formats at once. Leaving the block finishes the files that hold many pictures."""

    def __init__(self, writers: Sequence[Writer]) -> None:
        self._writers = writers
        self._stems: dict[str, str] = {}
        self.files: list[Path] = []

    def add(self, record: Record) -> list[Path]:
        """Writes one picture's segments; the files that are complete come back. Raises InputError or OutputError."""
        first = self._stems.setdefault(record.stem, record.name)
        if first != record.name:
            raise InputError(f"{first} and {record.name} would be written to the same files; name them apart")
        done = [path for writer in self._writers for path in writer.add(record)]
        self.files += done
        return done

    def close(self) -> list[Path]:
        """Writes what holds many pictures, such as a COCO dataset."""
        done = [path for writer in self._writers for path in writer.close()]
        self.files += done
        return done

    def __enter__(self) -> Writers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with ExitStack() as stack:
            stack.callback(self.close)  # what was segmented so far is kept, whatever happened


def open_writers(folder: str | Path, formats: Sequence[str]) -> Writers:
    """Writers of those formats into a folder, which is made. Raises InputError, MissingExtra or OutputError."""
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise InputError(f"unknown format {unknown[0]!r}; there are {', '.join(FORMATS)}")
    if OUTLINED.intersection(formats):
        opencv("outlines")
    folder = Path(folder)
    make_folder(folder)
    return Writers([FORMATS[name](folder) for name in dict.fromkeys(formats)])
