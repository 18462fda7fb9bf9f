"""Masks to polygons: outlines and their holes, in pixels, where pixel (0, 0) covers the square from (0, 0) to (1, 1)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..opencv import opencv

TOLERANCE = 0.5
"""How far, in pixels, a simplified outline may be from the true one."""


class Polygon(NamedTuple):
    """One connected part of a mask."""

    outline: np.ndarray
    """(V, 2) float64 x, y, at least three corners."""
    holes: list[np.ndarray]
    """Each as the outline."""


def polygons(mask: np.ndarray, tolerance: float = TOLERANCE) -> list[Polygon]:
    """A bool mask (H, W) -> its parts, largest first.

    Outlines are traced at twice the size, so that they run within a quarter of a pixel of the pixels' edges, and simplified by
    Douglas and Peucker's rule. Raises MissingExtra.
    """
    cv2 = opencv("outlines")
    doubled = np.repeat(np.repeat(mask.astype(np.uint8), 2, axis=0), 2, axis=1)
    contours, tree = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    found: dict[int, Polygon] = {}
    for i, contour in enumerate(contours):  # a hole stands after its outline's index in the tree
        parent = int(tree[0][i][3])
        simple = cv2.approxPolyDP(contour, 2 * tolerance, closed=True)
        corners = ((simple if len(simple) > 2 else contour).reshape(-1, 2) + 0.5) / 2  # what is tiny stays as it is
        if len(corners) < 3:
            continue
        if parent < 0:
            found.setdefault(i, Polygon(corners, []))
        elif parent in found:
            found[parent].holes.append(corners)
    return sorted(found.values(), key=lambda polygon: -area(polygon.outline))


def area(corners: np.ndarray) -> float:
    """The area within a polygon (V, 2), by the shoelace rule."""
    x, y = corners.T
    return abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2
