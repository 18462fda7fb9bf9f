"""Non-maximum suppression: of several candidates for one thing, which stay."""

from __future__ import annotations

import numpy as np


def box_nms(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """The rows that stay, best first: a box goes where it overlaps a better one by more than `threshold` (IoU).

    boxes: (N, 4) x0, y0, x1, y1. Equal scores keep their order. As torchvision's `nms`, which needs no CPU build so.
    """
    x0, y0, x1, y1 = boxes.astype(np.float32).T
    areas = (x1 - x0) * (y1 - y0)
    order = np.argsort(-scores, kind="stable")
    kept = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(best)
        width = (np.minimum(x1[best], x1[rest]) - np.maximum(x0[best], x0[rest])).clip(0)
        height = (np.minimum(y1[best], y1[rest]) - np.maximum(y0[best], y0[rest])).clip(0)
        shared = width * height
        union = areas[best] + areas[rest] - shared
        order = rest[~(shared > threshold * union)]
    return np.array(kept, np.int64)
