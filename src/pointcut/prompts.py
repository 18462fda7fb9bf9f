"""What a person points at: points, boxes and rough masks, checked, one `Prompt` per object.

Coordinates are pixels of the original picture, (x, y), float; an integer names a pixel's centre.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from .errors import InvalidPrompt

FOREGROUND, BACKGROUND = 1, 0

PointsLike: TypeAlias = "ArrayLike | Sequence[ArrayLike]"


@dataclass(frozen=True, eq=False)
class Prompt:
    """One object's prompt. At least one part is present."""

    points: np.ndarray
    """(T, 2) float32 x, y; T may be 0."""
    labels: np.ndarray
    """(T,) int64: 1 foreground, 0 background."""
    box: np.ndarray | None = None
    """(4,) float32 x0, y0, x1, y1."""
    mask: np.ndarray | None = None
    """(H, W) bool, a rough mask of the picture's size; or (h, w) float32, low-resolution logits."""

    @property
    def ambiguous(self) -> bool:
        """Whether one click is all there is, so that part, whole and group all answer it."""
        return len(self.points) == 1 and self.box is None and self.mask is None

    def moved(self, x: float, y: float, factor: float = 1) -> Prompt:
        """The same in a picture in which this one, enlarged so many times, begins at x, y; without its rough mask, which is of
        this one's size."""
        shift = np.array([x, y], np.float32)
        box = None if self.box is None else self.box * factor + np.tile(shift, 2)
        return Prompt(self.points * factor + shift, self.labels, box)


def parse_prompts(
    points: PointsLike | None,
    labels: PointsLike | None,
    boxes: ArrayLike | None,
    mask: ArrayLike | None,
    size: tuple[int, int],
) -> tuple[Prompt, ...]:
    """Checks the arguments of `EncodedImage.segment` against a picture of `size` (height, width).

    One object: points (T, 2) or (2,), labels (T,), box (4,), mask (H, W). N objects: points and labels as N lists of any
    lengths, boxes (N, 4), mask (N, H, W). Raises InvalidPrompt.
    """
    point_lists = _point_lists(points)
    label_lists = _label_lists(labels, point_lists)
    box_rows = _box_rows(boxes, size)
    mask_rows = _mask_rows(mask, size)
    given = {"points": point_lists, "boxes": box_rows, "mask": mask_rows}
    counts = {name: len(rows) for name, rows in given.items() if rows is not None}
    if not counts:
        raise InvalidPrompt("nothing to segment: give points, boxes or a mask")
    if len(set(counts.values())) > 1:
        raise InvalidPrompt(f"every part must speak of as many objects, got {counts}; for one object give points (T, 2)")
    prompts = []
    for i in range(next(iter(counts.values()))):
        prompts.append(
            Prompt(
                points=_inside(point_lists[i], size) if point_lists is not None else np.zeros((0, 2), np.float32),
                labels=label_lists[i] if label_lists is not None else np.zeros(0, np.int64),
                box=box_rows[i] if box_rows is not None else None,
                mask=mask_rows[i] if mask_rows is not None else None,
            )
        )
    for i, prompt in enumerate(prompts):
        if not len(prompt.points) and prompt.box is None and prompt.mask is None:
            raise InvalidPrompt(f"object {i} has no point, box or mask")
    return tuple(prompts)


def _floats(value: ArrayLike, what: str) -> np.ndarray:
    try:
        array = np.asarray(value, np.float32)
    except (TypeError, ValueError):
        raise InvalidPrompt(f"{what} must be numbers, got {value!r}") from None
    if not np.isfinite(array).all():
        raise InvalidPrompt(f"{what} must be finite numbers, got {value!r}")
    return array


def _point_lists(points: PointsLike | None) -> list[np.ndarray] | None:
    if points is None:
        return None
    items = list(points) if isinstance(points, Sequence) or np.ndim(points) else [points]  # type: ignore[arg-type]
    if not items:
        raise InvalidPrompt("points is empty: give at least one (x, y)")
    try:
        depth = {np.ndim(item) for item in items}
    except ValueError:
        depth = set()
    if depth == {0} and len(items) == 2:
        return [_floats(points, "points")[None]]  # type: ignore[arg-type]  # one click
    rows = [points] if depth == {1} else items
    lists = [_floats(row, "points") for row in rows]  # type: ignore[arg-type]
    for array in lists:
        if array.ndim != 2 or array.shape[1] != 2:
            raise InvalidPrompt(f"points must be (x, y) pairs: (T, 2), or a list of those per object; got {points!r}")
    return lists


def _label_lists(labels: PointsLike | None, points: list[np.ndarray] | None) -> list[np.ndarray] | None:
    if points is None:
        if labels is not None:
            raise InvalidPrompt("labels without points: give as many points as labels")
        return None
    if labels is None:
        return [np.ones(len(p), np.int64) for p in points]
    items = [labels] if not np.iterable(labels) else list(labels)  # one click, one label
    rows = [items] if len(points) == 1 and all(np.ndim(i) == 0 for i in items) else items
    lists = [np.asarray(row) for row in rows]
    if [row.shape for row in lists] != [(len(p),) for p in points]:
        raise InvalidPrompt(
            f"every point needs one label: points {[len(p) for p in points]}, labels {[row.shape for row in lists]} per object"
        )
    for row in lists:
        if not np.isin(row, (FOREGROUND, BACKGROUND)).all():
            raise InvalidPrompt(f"labels are 1 (this) or 0 (not this), got {row.tolist()}")
    return [row.astype(np.int64) for row in lists]


def _inside(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    outside = (points < 0).any(axis=1) | (points[:, 0] > width) | (points[:, 1] > height)
    if outside.any():
        x, y = points[outside][0]
        raise InvalidPrompt(f"point ({x:g}, {y:g}) lies outside the picture, which is {width} x {height} (x, then y)")
    return points


def _box_rows(boxes: ArrayLike | None, size: tuple[int, int]) -> np.ndarray | None:
    if boxes is None:
        return None
    array = _floats(boxes, "boxes")
    rows = array[None] if array.ndim == 1 else array
    if rows.ndim != 2 or rows.shape[1] != 4 or not len(rows):
        raise InvalidPrompt(f"a box is x0, y0, x1, y1 and several are (N, 4), got shape {array.shape}")
    height, width = size
    for x0, y0, x1, y1 in rows:
        if x1 <= x0 or y1 <= y0:
            raise InvalidPrompt(
                f"box ({x0:g}, {y0:g}, {x1:g}, {y1:g}) has no area: give x0, y0 (upper left) and x1, y1 (lower right)"
            )
        if x0 >= width or y0 >= height or x1 <= 0 or y1 <= 0:
            raise InvalidPrompt(f"box ({x0:g}, {y0:g}, {x1:g}, {y1:g}) lies outside the picture, which is {width} x {height}")
    return rows


def _mask_rows(mask: ArrayLike | None, size: tuple[int, int]) -> np.ndarray | None:
    if mask is None:
        return None
    try:
        array = np.asarray(mask)
    except (TypeError, ValueError):
        raise InvalidPrompt("a mask must be an array of numbers on the CPU, (H, W) or (N, H, W)") from None
    rows = array[None] if array.ndim == 2 else array
    if rows.ndim != 3 or not len(rows):
        raise InvalidPrompt(f"a mask is (H, W) and several are (N, H, W), got shape {array.shape}")
    if np.issubdtype(rows.dtype, np.floating):
        return _floats(rows, "mask logits")
    if rows.shape[1:] != size:
        raise InvalidPrompt(
            f"a rough mask must have the picture's size, {size[0]} x {size[1]} (height, width); got {rows.shape[1:]}. "
            "Low-resolution logits must be float"
        )
    if not rows.reshape(len(rows), -1).any(axis=1).all():
        raise InvalidPrompt("a rough mask is empty: mark at least one pixel")
    return rows > 0
