"""LanceDB: a table of columns in a folder or on object storage, searched approximately once it is large (the extra `search`).

Every write makes a version; a version is there or is not. So what is added at once is one write, writers of one machine take
turns (a lock beside the table), and writers of several machines try again when another was quicker.

Source of the search: Jégou, Douze, Schmid, "Product Quantization for Nearest Neighbor Search"; here without product codes (IVF
with 8-bit numbers), since vectors are few enough to be kept.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from filelock import FileLock

from ..errors import InputError, MissingExtra, OutputError
from ..files import make_folder
from .entries import Entry, Hit, Where
from .store import About, Store

TABLE = "segments"
ABOUT = "pointcut"
"""The key of the table's metadata."""
VERSION = 1

ENOUGH = 20_000
"""Entries from which on `compact` trains an approximate search; fewer are looked at one by one, in milliseconds."""
REFINE = 4
"""How many times as many candidates are compared exactly as are asked for."""
PROBES = 24
"""Of the approximate search's lists, how many are looked through."""
TRIES = 8
STALE = timedelta(hours=1)
"""Versions older than this are dropped by `compact`: nobody reads them any more."""

T = TypeVar("T")


def installed() -> bool:
    try:
        import lancedb  # noqa: F401
    except ImportError:
        return False
    return True


def _lancedb() -> Any:
    try:
        import lancedb
    except ImportError:
        raise MissingExtra("this index is of LanceDB, which needs the extra: pip install 'pointcut[search]'") from None
    return lancedb


class LanceStore(Store):
    """See the module."""

    kind = "lance"

    def __init__(self, place: str, about: About) -> None:
        super().__init__(place, about)
        self._table = _lancedb().connect(place).open_table(TABLE)

    @classmethod
    def find(cls, place: str) -> About | None:
        """Whose vectors a table holds; None if there is none."""
        local = "://" not in place
        if local and not (Path(place) / f"{TABLE}.lance").is_dir():
            return None
        try:
            table = _lancedb().connect(place).open_table(TABLE)
        except MissingExtra:
            raise
        except Exception:
            if local:
                raise InputError(f"{place}: {TABLE}.lance is broken, or no LanceDB table") from None
            return None
        told = json.loads((table.schema.metadata or {}).get(ABOUT.encode(), b"{}"))
        if told.get("version") != VERSION:
            raise InputError(f"{place}: was not written by this version of Pointcut")
        return About(told["encoder"], told["dimension"])

    @classmethod
    def make(cls, place: str, about: About) -> LanceStore:
        lancedb = _lancedb()
        if "://" not in place:
            make_folder(Path(place))
        with _locked(place):
            if cls.find(place) is None:
                lancedb.connect(place).create_table(TABLE, schema=_schema(about))
        return cls(place, about)

    def _write(self, change: Callable[[], T]) -> T:
        """Makes one change as one version. Raises OutputError."""
        with _locked(self.place):
            for left in reversed(range(TRIES)):
                try:
                    self._table.checkout_latest()
                    return change()
                except OSError as error:
                    raise OutputError(f"{self.place}: cannot be written ({error})") from None
                except Exception as error:  # LanceDB's errors have no types of their own
                    if "conflict" not in str(error).lower() or not left:
                        raise OutputError(f"{self.place}: cannot be written ({str(error).splitlines()[0][:300]})") from None
                    time.sleep(0.05 * 2 ** (TRIES - left))
        raise AssertionError  # not reached: the last try raises

    def add(self, entries: Sequence[Entry], vectors: np.ndarray) -> int:
        import pyarrow

        vectors = self.check(vectors)
        first = {entry.id: row for row, entry in reversed(list(enumerate(entries)))}
        rows = sorted(first.values())
        if not rows:
            return 0
        columns: dict[str, Any] = {name: [vars(entries[row])[name] for row in rows] for name in Entry.__dataclass_fields__}
        flat = pyarrow.array(vectors[rows].ravel())
        columns["vector"] = pyarrow.FixedSizeListArray.from_arrays(flat, self.about.dimension)
        table = pyarrow.table(columns, schema=_schema(self.about))

        def change() -> int:
            return int(self._table.merge_insert("id").when_not_matched_insert_all().execute(table).num_inserted_rows)

        return self._write(change)

    def search(
        self, vector: np.ndarray, count: int = 10, where: Where | None = None, skip: int = 0, *, exact: bool = False
    ) -> list[Hit]:
        self._table.checkout_latest()
        query = self._table.search(self.check(vector), vector_column_name="vector").distance_type("cosine")
        if exact:
            query = query.bypass_vector_index()
        elif self._table.list_indices():
            query = query.nprobes(PROBES).refine_factor(REFINE)
        if where is not None and not where.everything:
            query = query.where(where.sql(), prefilter=True)
        rows = query.limit(skip + count).to_arrow().to_pylist()[skip:]
        return [Hit(_entry(row), 1.0 - row["_distance"]) for row in rows]

    def entries(self, where: Where | None = None, count: int | None = None, skip: int = 0) -> list[Entry]:
        self._table.checkout_latest()
        query = self._table.search().select(list(Entry.__dataclass_fields__))
        if where is not None and not where.everything:
            query = query.where(where.sql())
        found = [_entry(row) for row in query.limit(len(self) or 1).to_arrow().to_pylist()]
        found.sort(key=lambda entry: (entry.image, -entry.area, entry.id))
        return found[skip : None if count is None else skip + count]

    def vector_of(self, entry_id: str) -> np.ndarray:
        self._table.checkout_latest()
        query = self._table.search().select(["vector"]).where(Where(ids=(entry_id,)).sql())
        rows = query.limit(1).to_arrow()["vector"].to_pylist()
        if not rows:
            raise InputError(f"{self.place}: holds no segment {entry_id}")
        return np.array(rows[0], np.float32)

    def remove(self, where: Where) -> int:
        before = len(self)
        self._write(lambda: self._table.delete(where.sql() or "true"))
        return before - len(self)

    def describe(self, descriptions: dict[str, str]) -> None:
        import pyarrow

        if not descriptions:
            return
        table = pyarrow.table({"id": list(descriptions), "description": list(descriptions.values())})
        self._write(lambda: self._table.merge_insert("id").when_matched_update_all().execute(table))

    def pictures(self) -> set[str]:
        self._table.checkout_latest()
        column = self._table.search().select(["sha256"]).limit(len(self) or 1).to_arrow()["sha256"]
        return set(column.to_pylist())

    def compact(self) -> None:
        def change() -> None:
            self._table.optimize(cleanup_older_than=STALE)
            if len(self) >= ENOUGH:
                from lancedb.index import IvfSq

                self._table.create_index("vector", config=IvfSq(distance_type="cosine"), replace=True)

        self._write(change)

    def __len__(self) -> int:
        self._table.checkout_latest()
        return int(self._table.count_rows())


def _schema(about: About) -> Any:
    import pyarrow

    kinds = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64(), bytes: pyarrow.binary()}
    names = {"str": str, "int": int, "float": float, "bytes": bytes}
    fields = [(name, kinds[names[str(field.type)]]) for name, field in Entry.__dataclass_fields__.items()]
    told = json.dumps({"version": VERSION, "encoder": about.encoder, "dimension": about.dimension})
    return pyarrow.schema([*fields, ("vector", pyarrow.list_(pyarrow.float32(), about.dimension))], metadata={ABOUT: told})


def _entry(row: dict[str, Any]) -> Entry:
    return Entry(**{name: row[name] for name in Entry.__dataclass_fields__})


@contextmanager
def _locked(place: str) -> Iterator[None]:
    """Writers of one machine take turns; on object storage only the table's own versions keep order."""
    with FileLock(Path(place) / ".pointcut.index.lock") if "://" not in place else nullcontext():
        yield
