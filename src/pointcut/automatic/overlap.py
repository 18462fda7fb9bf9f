"""Non-maximum suppression: of several candidates for one thing, which stay."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

ASKED_TOGETHER = 32
"""Rows of which `passes` is asked at once; some of them in vain, since they overlap one another."""


def box_nms(
    boxes: np.ndarray, scores: np.ndarray, threshold: float, passes: Callable[[np.ndarray], np.ndarray] | None = None
) -> np.ndarray:
    """The rows that stay, best first: a box goes where it overlaps a better one by more than `threshold` (IoU).

    boxes: (N, 4) x0, y0, x1, y1. Equal scores keep their order. As torchvision's `nms`, which needs no CPU build so.
    passes: which of some rows count at all, bool; the others go, and no box with them. It is not asked of a row that overlaps a
    better one which stays.
    """
    x0, y0, x1, y1 = boxes.astype(np.float32).T
    areas = (x1 - x0) * (y1 - y0)

    def apart(best: int, rest: np.ndarray) -> np.ndarray:
        """Those of `rest` that stay beside `best`."""
        width = (np.minimum(x1[best], x1[rest]) - np.maximum(x0[best], x0[rest])).clip(0)
        height = (np.minimum(y1[best], y1[rest]) - np.maximum(y0[best], y0[rest])).clip(0)
        shared = width * height
        return rest[~(shared > threshold * (areas[best] + areas[rest] - shared))]

    order = np.argsort(-scores, kind="stable")
    together = len(order) if passes is None else ASKED_TOGETHER
    kept: list[int] = []
    while order.size:
        few, order = order[:together], order[together:]
        if passes is not None:
            few = few[passes(few)]
        while few.size:
            kept.append(few[0])
            few, order = apart(kept[-1], few[1:]), apart(kept[-1], order)
    return np.array(kept, np.int64)
