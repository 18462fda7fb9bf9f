"""What the command prints: data on stdout, words on stderr."""

from __future__ import annotations

import json
import sys


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
