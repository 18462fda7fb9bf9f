"""Where pictures lie: on a disk, or behind an address that fsspec knows (`s3://`, `gs://`, `az://`, `hdfs://`, ...).

fsspec comes with PyTorch; the package of a kind of storage (`s3fs`, `gcsfs`, `adlfs`) is the user's to install.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from glob import glob
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

from ..errors import InputError, MissingExtra, UnreadableImage, first_line
from ..reading import SUFFIXES
from .journal import NAME

Place: TypeAlias = "Path | str"
"""A path, or an address."""

DRAWN = (".cutout.png", ".mask.png", ".overlay.png", ".labels.png", ".count.png")
"""How the names of pictures end that Pointcut makes of others."""
CUTOUTS = ".cutouts"
"""How those of folders end that it makes."""


def is_address(text: str) -> bool:
    """Whether a source is an address and no path."""
    return "://" in text


def ending(place: Place) -> str:
    """The name's suffix, in small letters."""
    return PurePosixPath(str(place)).suffix.lower()


def pictures_in(folder: Path, out: Path | None = None) -> list[Path]:
    """The pictures of a folder and of those below it, linked ones too, in order of their paths.

    Left out is what is hidden (as what macOS puts beside files), and what Pointcut has made: pictures that are called after one
    beside them, or after what is told of one (`STEM.json`), and all of them below `out` and below folders with the journal of
    a run.
    """
    found: list[Path] = []
    seen = set()  # a link may lead back to where it lies
    target = _identity(out) if out is not None and out.is_dir() else None

    def look(here: Path, among_results: bool) -> None:
        identity = _identity(here)
        if identity in seen:
            return
        seen.add(identity)
        try:
            with os.scandir(here) as listed:
                entries = [entry for entry in listed if not entry.name.startswith(".")]
        except PermissionError:
            return
        among_results |= identity == target or any(entry.name == NAME for entry in entries)
        pictures = [entry.name for entry in entries if ending(entry.name) in SUFFIXES and entry.is_file()]
        told = [entry.name for entry in entries if ending(entry.name) == ".json"]
        stems = {PurePosixPath(name).stem for name in [*pictures, *told]}

        def made(name: str) -> bool:
            return any(name.endswith(one) and (among_results or name.removesuffix(one) in stems) for one in (*DRAWN, CUTOUTS))

        found.extend(here / name for name in pictures if not made(name))
        for entry in entries:
            if entry.is_dir() and not made(entry.name):
                look(here / entry.name, among_results)

    look(folder, among_results=False)
    return sorted(found)


def _identity(folder: Path) -> tuple[int, int]:
    """What a folder is the same by, whatever it is called."""
    about = folder.stat()
    return about.st_dev, about.st_ino


def pictures_like(pattern: str, out: Path | None = None) -> tuple[Path, list[Path]]:
    """The folder in which a pattern with `*`, `?`, `[...]` or `**` begins to vary, and those of `pictures_in` it that meet the
    pattern, in order."""
    parts = Path(pattern).parts
    root = Path(*takewhile(lambda part: not has_wildcards(part), parts))
    met = {Path(name) for name in glob(pattern, recursive=True)}
    return root, [path for path in pictures_in(root, out) if path in met] if root.is_dir() else []


def has_wildcards(text: str) -> bool:
    return any(sign in text for sign in "*?[")


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
