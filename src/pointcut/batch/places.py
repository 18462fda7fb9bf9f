"""Where pictures lie: on a disk, or behind an address that fsspec knows (`s3://`, `gs://`, `az://`, `hdfs://`, ...).

fsspec comes with PyTorch; the package of a kind of storage (`s3fs`, `gcsfs`, `adlfs`) is the user's to install.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

from ..errors import InputError, MissingExtra, UnreadableImage, first_line
from ..reading import SUFFIXES

Place: TypeAlias = "Path | str"
"""A path, or an address."""


def is_address(text: str) -> bool:
    """Whether a source is an address and no path."""
    return "://" in text


def ending(place: Place) -> str:
    """The name's suffix, in small letters."""
    return PurePosixPath(str(place)).suffix.lower()


def pictures_below(address: str) -> Iterator[tuple[str, str]]:
    """(name, address) of the pictures below a folder of a storage, in order of their names; or of the one that is named.

    Raises InputError, MissingExtra.
    """
    storage, root = _storage(address)
    root = root.rstrip("/")
    try:
        paths = [path for path in storage.find(root) if ending(path) in SUFFIXES]
    except Exception as error:  # every kind of storage has errors of its own
        raise InputError(f"{address}: cannot be listed ({first_line(error)})") from None
    for path in sorted(paths):
        name = path.removeprefix(root).lstrip("/") or PurePosixPath(path).name
        yield name, storage.unstrip_protocol(path)


def read_bytes(place: Place) -> bytes:
    """Raises UnreadableImage, MissingExtra."""
    if isinstance(place, Path):
        try:
            return place.read_bytes()
        except OSError as error:
            raise UnreadableImage(f"{place}: cannot be read ({error.strerror})") from None
    storage, path = _storage(place)
    try:
        data: bytes = storage.cat_file(path)
    except Exception as error:
        raise UnreadableImage(f"{place}: cannot be read ({first_line(error)})") from None
    return data


def size_of(place: Place) -> int | None:
    """Bytes; None where nothing can be found."""
    try:
        if isinstance(place, Path):
            return place.stat().st_size
        storage, path = _storage(place)
        return int(storage.size(path))
    except Exception:
        return None


@contextmanager
def on_disk(place: Place) -> Iterator[Path]:
    """A file to be read in parts: what lies behind an address is copied for as long. Raises UnreadableImage."""
    if isinstance(place, Path):
        yield place
        return
    storage, path = _storage(place)
    with tempfile.NamedTemporaryFile(suffix=ending(place)) as copy:
        try:
            storage.get_file(path, copy.name)
        except Exception as error:
            raise UnreadableImage(f"{place}: cannot be read ({first_line(error)})") from None
        yield Path(copy.name)


def _storage(address: str) -> tuple[Any, str]:
    try:
        import fsspec

        storage, path = fsspec.url_to_fs(address)
    except ImportError as error:
        raise MissingExtra(f"{address}: {first_line(error)}") from None
    except ValueError as error:
        raise InputError(f"{address}: {first_line(error)}") from None
    return storage, path
