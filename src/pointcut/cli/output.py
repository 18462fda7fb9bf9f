"""What the command prints: data on stdout, words on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


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
    import typer

    with typer.progressbar(length=1000, label=title, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        shown = 0

        def advance(done: int, total: int) -> None:
            nonlocal shown
            now = 1000 * done // max(1, total)
            bar.update(now - shown)
            shown = now

        yield advance
