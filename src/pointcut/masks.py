"""Plain arithmetic of masks: areas, boxes, borders, overlap. Masks are bool (..., H, W); boxes float32 x0, y0, x1, y1."""

from __future__ import annotations

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
