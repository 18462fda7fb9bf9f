"""Does a follower notice that its object is gone? Each film is interrupted by another, as a cut to another scene does.

In those frames the object is not there; an empty mask says so. Back in its own film it must be found again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import InputError
from ..images import open_image
from .measure import iou
from .video import Follower, LabelledFilm


def interrupted(film: LabelledFilm, other: LabelledFilm, frames: int) -> LabelledFilm:
    """The film with the first `frames` frames of another in its middle, where nothing is the object."""
    middle, count = len(film.images) // 2, min(frames, len(other.images))
    nothing, everywhere = np.zeros_like(film.truths[0]), np.ones_like(film.known[0])

    def spliced(own: list[Any], between: list[Any]) -> list[Any]:
        return [*own[:middle], *between, *own[middle:]]

    return LabelledFilm(
        f"{film.name}, {other.name}",
        spliced(film.images, other.images[:count]),
        spliced(film.truths, [nothing] * count),
        spliced(film.known, [everywhere] * count),
    )


def judge_absence(follower: Follower, film: LabelledFilm) -> dict[str, Any]:
    """Shares of one interrupted film's frames (None where there are none), and the mean IoU after the interruption."""
    pairs = list(zip(follower.follow(film), film.truths[1:], film.known[1:], strict=True))
    gone = [not mask.any() for mask, truth, _ in pairs if not truth.any()]
    denied = [not mask.any() for mask, truth, _ in pairs if truth.any()]
    last = max(i for i, (_, truth, _) in enumerate(pairs) if not truth.any())
    after = [iou(mask, truth, known) for mask, truth, known in pairs[last + 1 :]]
    return {
        "film": film.name,
        "follower": follower.name,
        "noticed": float(np.mean(gone)),
        "denied": float(np.mean(denied)) if denied else None,
        "J after": float(np.mean(after)) if after else None,
    }


def judge_absences(
    followers: list[Follower], films: list[LabelledFilm], frames: int, progress: Callable[[int, int], None] | None = None
) -> list[dict[str, Any]]:
    """Each film interrupted by the next. Raises InputError unless there are two of one size."""
    pairs = [(film, other) for film, other in zip(films, [*films[1:], *films[:1]], strict=True) if film is not other]
    pairs = [(a, b) for a, b in pairs if open_image(a.images[0]).shape == open_image(b.images[0]).shape]
    if not pairs:
        raise InputError("films are interrupted by one another: at least two of the same size are needed")
    rows = []
    for done, (film, other) in enumerate(pairs, 1):
        cut = interrupted(film, other, frames)
        rows += [judge_absence(follower, cut) for follower in followers]
        if progress is not None:
            progress(done, len(pairs))
    return rows


def absence_table(rows: list[dict[str, Any]]) -> str:
    """A line for each follower: means over the films."""
    lines = ["| | gone, and noticed | there, and denied | J after it is back |", "|---|---|---|---|"]
    for follower in dict.fromkeys(row["follower"] for row in rows):
        own = [row for row in rows if row["follower"] == follower]
        means = [np.mean([row[key] for row in own if row[key] is not None]) for key in ("noticed", "denied", "J after")]
        lines.append(f"| {follower} | {means[0]:.3f} | {means[1]:.3f} | {means[2]:.3f} |")
    return "\n".join(lines)
