"""Writing files so that nobody ever sees half of one."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import OutputError

TEMPORARY = re.compile(r"\..+\.\w{8}\.tmp(\.\w+)?")
"""What `replacing` calls a file that is not complete."""
OF_NAME = 40
"""Characters that it takes of the file's own name: the longest names have no room for more."""


def missing(path: Path) -> str:
    """What is said of a file that is not there."""
    address = re.match(r"\w{2,}:/", path.as_posix())
    return f"{path}: no such file" + ("; addresses are not fetched, download it first" if address else "")


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it, where they are missing. Raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror})") from None


def folders_named(name: str, root: Path) -> list[Path]:
    """All folders of that name below `root`, in order; links are followed, and each folder is looked into once."""
    found, seen = [], set()
    for place, folders, _ in os.walk(root, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
        seen.add(real)
        found += [Path(place, folder) for folder in folders if folder == name]
    return sorted(found)


def sweep(folder: Path) -> None:
    """Removes what killed processes have left of `replacing` in a folder and those below; nobody else may be writing there."""
    for path in folder.rglob(".*.tmp*"):
        if TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


def as_text(name: str) -> str:
    """A name as text that can be written everywhere: what is no UTF-8 in it (as folders of older systems have it), which Python
    holds as lone surrogates, becomes `\\udc..`."""
    return name.encode(errors="backslashreplace").decode()


@contextmanager
def writing(what: Path | str) -> Iterator[None]:
    """Raises OutputError, which says that `what` cannot be written and why, in the place of an OSError. What is an OutputError
    already, and so an OSError, too, tells of another file, and passes."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"{what}: cannot be written ({error.strerror or error})") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`; on success it is renamed to `path`, on failure it is removed.

    Raises OutputError where the folder is missing or may not be written, or the disk is full.
    """
    temporary: str | None = None
    try:
        with writing(path):
            prefix = f".{path.name[:OF_NAME]}."
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=f".tmp{path.suffix}")
            os.close(handle)
            yield Path(temporary)
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
    finally:
        if temporary is not None:
            with suppress(FileNotFoundError):
                os.unlink(temporary)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
