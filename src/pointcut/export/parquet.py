"""Parquet: a row a mask, for millions of them; read by pandas, DuckDB, Spark, Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import MissingExtra
from ..files import as_text, replacing
from .record import Record, Writer

ROWS = 20_000
"""Masks of one row group: what is held in memory."""


def pyarrow() -> tuple[Any, Any]:
    """The modules `pyarrow` and `pyarrow.parquet`. Raises MissingExtra."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtra("Parquet needs the extra: pip install 'pointcut[parquet]'") from None
    return pyarrow, pyarrow.parquet


class ParquetWriter(Writer):
    """`masks.parquet`: image, its size, the mask's number, label, description, score, stability, area, box (x0, y0, x1, y1)
    and COCO's run lengths (`counts`)."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        pa, pq = pyarrow()
        kinds = {"image": pa.string(), "height": pa.int32(), "width": pa.int32(), "mask": pa.int32(), "label": pa.string()}
        kinds |= {"description": pa.string()}
        kinds |= {"score": pa.float32(), "stability": pa.float32(), "area": pa.int64()}
        kinds |= {"box_xyxy": pa.list_(pa.float32(), 4), "counts": pa.string()}
        self.schema = pa.schema(list(kinds.items()))
        self.rows: list[dict[str, Any]] = []
        self.path = folder / "masks.parquet"
        self._replacing = replacing(self.path)
        self._file = pq.ParquetWriter(self._replacing.__enter__(), self.schema, compression="zstd")

    def add(self, record: Record) -> list[Path]:
        height, width = record.size
        for row, mask in enumerate(record.cut.rle()):
            words = {"image": record.name, "label": record.label(row)} | record.described(row)
            numbers = {"height": height, "width": width, "mask": row} | record.cut.figures(row)
            self.rows.append({key: as_text(word) for key, word in words.items()} | numbers | {"counts": mask["counts"]})
        if len(self.rows) >= ROWS:
            self._flush()
        return []

    def _flush(self) -> None:
        pa, _ = pyarrow()
        self._file.write_table(pa.Table.from_pylist(self.rows, self.schema))
        self.rows.clear()

    def close(self) -> list[Path]:
        self._flush()
        self._file.close()
        self._replacing.__exit__(None, None, None)
        return [self.path]
