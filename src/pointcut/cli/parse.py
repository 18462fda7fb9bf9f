"""Options as people type them, such as `X,Y` and `X0,Y0,X1,Y1`, to numbers and names; and what they pipe in."""

from __future__ import annotations

import math
import sys
from io import BufferedIOBase
from typing import cast

import typer


def numbers(text: str, count: int, example: str) -> tuple[float, ...]:
    """`count` finite numbers between commas. Raises a usage error that shows an example."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != count or not all(math.isfinite(v) for v in values):
        raise typer.BadParameter(f"expected {count} numbers, as in {example}; got {text!r}")
    return values


def point(text: str) -> tuple[float, ...]:
    """`X,Y`."""
    return numbers(text, 2, "500,375")


def box(text: str) -> tuple[float, ...]:
    """`X0,Y0,X1,Y1`."""
    return numbers(text, 4, "425,600,700,875")


def names(text: str) -> list[str]:
    """Names between commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def stdin() -> BufferedIOBase:
    """What `-` stands for. Raises a usage error where a caller has closed it."""
    if sys.stdin is None:
        raise typer.BadParameter("- stands for standard input, which is closed here; name a file")
    return cast("BufferedIOBase", sys.stdin.buffer)


def frame_and_id(text: str, example: str) -> tuple[int, int, str]:
    """`FRAME:REST[@ID]` -> the frame, the object's id (1 if there is none), and the rest. Raises a usage error."""
    frame, colon, rest = text.partition(":")
    rest, at, object_id = rest.partition("@")
    if not colon or not frame.isdigit() or (at and not object_id.isdigit()):
        raise typer.BadParameter(f"expected FRAME:COORDINATES[@ID], as in {example}; got {text!r}")
    return int(frame), int(object_id) if at else 1, rest
