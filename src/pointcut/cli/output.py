"""What the command prints: data on stdout, words on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from ..errors import PointcutError

SOME_FAILED = 3
"""The exit code when pictures of many failed and the others are done."""


def say(text: str) -> None:
    """A line for people."""
    print(text, file=sys.stderr)


def fail(text: str) -> None:
    """An error, on one line, for people."""
    print("pointcut: " + " ".join(text.split()), file=sys.stderr)


def emit(value: object) -> None:
    """A result for programs: one JSON document on stdout."""
    json.dump(value, sys.stdout, indent=1)
    print()


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, where that is a terminal; takes (done, total) as the automatic search gives them."""
    with typer.progressbar(length=1000, label=title, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        shown = 0

        def advance(done: int, total: int) -> None:
            nonlocal shown
            now = 1000 * done // max(1, total)
            bar.update(now - shown)
            shown = now

        yield advance


def failed(image: Path, error: PointcutError) -> dict[str, Any]:
    """Says that a picture failed; gives its record for programs."""
    fail(str(error))
    return {"image": str(image), "error": type(error).__name__, "message": str(error)}


def leave_if_failed(errors: list[PointcutError], pictures: int) -> None:
    """Leaves with the error's own code if the only picture failed, with 1 if some of many did."""
    if not errors:
        return
    if pictures > 1:
        say(f"{pictures - len(errors)} of {pictures} pictures done, {len(errors)} failed")
    raise typer.Exit(errors[0].exit_code if pictures == 1 else 1)
