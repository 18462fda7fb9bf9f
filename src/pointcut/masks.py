"""Plain arithmetic of masks: areas, boxes, borders, overlap. Masks are bool (..., H, W); boxes float32 x0, y0, x1, y1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def areas(masks: np.ndarray) -> np.ndarray:
    """Pixels of each mask: (N, H, W) -> (N,) int64."""
    return np.count_nonzero(masks, axis=(-2, -1)).astype(np.int64)


def boxes_xyxy(masks: np.ndarray) -> np.ndarray:
    """The tight box of each mask: (N, H, W) -> (N, 4) float32, the far sides exclusive; zeros for an empty mask."""
    boxes = np.zeros((len(masks), 4), np.float32)
    for row, mask in zip(boxes, masks, strict=True):
        ys = np.flatnonzero(mask.any(axis=1))
        if ys.size:
            xs = np.flatnonzero(mask[ys[0] : ys[-1] + 1].any(axis=0))
            row[:] = xs[0], ys[0], xs[-1] + 1, ys[-1] + 1
    return boxes


def iou(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two masks (H, W); 1 where both are empty."""
    union = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / union if union else 1.0


def cell_shares(
    part: np.ndarray, x0: int, y0: int, size: tuple[int, int], grids: Sequence[tuple[int, int]]
) -> list[np.ndarray]:
    """How much of each cell of grids (rows, columns) over a picture a mask covers: float32 in [0, 1], one array for each grid.

    part: the mask within its box, bool, which begins at x0, y0 of a picture of `size` (H, W). A row or column of pixels that
    lies in two cells counts for both, as in adaptive average pooling.
    """
    above = np.zeros((part.shape[0] + 1, part.shape[1]), np.int32)
    np.cumsum(part, axis=0, out=above[1:])
    shares = []
    for rows, columns in grids:
        top, bottom = _cells(rows, size[0])
        left, right = _cells(columns, size[1])
        down = above[(bottom - y0).clip(0, part.shape[0])] - above[(top - y0).clip(0, part.shape[0])]
        before = np.pad(down.cumsum(axis=1, dtype=np.int64), ((0, 0), (1, 0)))
        pixels = before[:, (right - x0).clip(0, part.shape[1])] - before[:, (left - x0).clip(0, part.shape[1])]
        shares.append((pixels / np.outer(bottom - top, right - left)).astype(np.float32))
    return shares


def _cells(count: int, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each of so many cells along an axis begins, and ends."""
    edges = np.arange(count + 1) * pixels
    return edges[:-1] // count, -(-edges[1:] // count)


def erode(mask: np.ndarray, steps: int = 1) -> np.ndarray:
    """The mask without what lies within `steps` pixels (4-neighbours) of its border; the picture's edge is no border."""
    for _ in range(steps):
        inner = mask.copy()
        inner[1:] &= mask[:-1]
        inner[:-1] &= mask[1:]
        inner[:, 1:] &= mask[:, :-1]
        inner[:, :-1] &= mask[:, 1:]
        mask = inner
    return mask


def border(mask: np.ndarray, thickness: int = 1) -> np.ndarray:
    """The mask's own pixels within `thickness` of its border: (H, W) -> (H, W)."""
    return mask & ~erode(mask, thickness)
