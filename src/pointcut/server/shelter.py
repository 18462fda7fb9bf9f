"""A folder for what strangers send: it is gone when the server is, and if that was killed, when the next one starts."""

from __future__ import annotations

import os
import shutil
import stat
import time
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from filelock import FileLock, Timeout

PREFIX = "pointcut-films-"
LOCK = ".lock"
"""Held by the server whose folder it is, for as long as it lives."""

YOUNG = 60.0
"""Seconds in which a folder may not have its lock yet."""


class Shelter:
    """This server's folder, in the system's for temporary files, and readable by nobody else."""

    def __init__(self) -> None:
        remove_left_behind(Path(gettempdir()))
        self._folder = TemporaryDirectory(prefix=PREFIX)
        self._lock = FileLock(Path(self._folder.name) / LOCK)
        self._lock.acquire()

    def folder(self) -> TemporaryDirectory[str]:
        """A new folder in it, for one film."""
        return TemporaryDirectory(dir=self._folder.name)

    def close(self) -> None:
        self._lock.release()
        self._folder.cleanup()


def remove_left_behind(place: Path) -> None:
    """Removes the folders in `place` of servers that were killed. Nothing of anyone else's is touched, or even opened."""
    for folder in place.glob(f"{PREFIX}*"):
        try:
            about = folder.lstat()
            mine = stat.S_ISDIR(about.st_mode) and (not hasattr(os, "geteuid") or about.st_uid == os.geteuid())
            if mine and time.time() - about.st_mtime > YOUNG:
                with FileLock(folder / LOCK, timeout=0):
                    shutil.rmtree(folder)
        except (OSError, Timeout):  # somebody's who is alive, or gone meanwhile
            continue
