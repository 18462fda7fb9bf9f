"""Many masks of one picture put in order: duplicates dropped, specks cleaned away, a choice made, one label a pixel, parts
under their wholes.

Pure arithmetic on `Segments`; masks are compared by their run lengths, so that hundreds of large ones are no burden.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from . import rle
from .components import without_small_parts
from .errors import InputError
from .segments import Segments


def overlaps(cut: Segments) -> np.ndarray:
    """(N, N) int64: the pixels that each two masks share; each mask's area on the diagonal."""
    count, boxes = len(cut), cut.boxes_xyxy
    shared = np.diag(cut.areas)
    edges = [rle.edges_of(mask) for mask in cut.rle()]
    for i in range(count):
        low = np.maximum(boxes[i, :2], boxes[i + 1 :, :2])
        high = np.minimum(boxes[i, 2:], boxes[i + 1 :, 2:])
        near = i + 1 + np.flatnonzero((high > low).all(axis=1))
        shared[i, near] = shared[near, i] = rle.shared_areas(edges[i], [edges[j] for j in near])
    return shared


def without_duplicates(cut: Segments, iou: float = 0.7, inside: float | None = None) -> Segments:
    """Of masks that are nearly the same (IoU above `iou`) the one with the best score; the order stays.

    inside: if given, a mask of which more than this share lies within one that stays goes too: wholes without their parts.
    """
    shared, areas = overlaps(cut), cut.areas
    drop = shared > iou * (areas[:, None] + areas - shared)
    if inside is not None:
        drop |= shared > inside * areas[:, None]
    # Wholes first where parts are to be dropped, since a part may well have the better score.
    order = np.lexsort((-cut.scores, -areas)) if inside is not None else np.argsort(-cut.scores, kind="stable")
    return cut[_staying(order, drop)]


def apart(cut: Segments, preference: np.ndarray, inside: float) -> np.ndarray:
    """The rows, in order, that stay where of two masks that share more than `inside` of the smaller one the preferred stays.

    preference: (M,), the highest first.
    """
    drop = overlaps(cut) > inside * np.minimum(cut.areas[:, None], cut.areas)
    return _staying(np.argsort(-preference, kind="stable"), drop)


def _staying(order: np.ndarray, drop: np.ndarray) -> np.ndarray:
    """The rows, sorted, that stay if in this order each goes that one which stays drops: drop[row, that one], (M, M) bool."""
    kept: list[int] = []
    for row in order:
        if not drop[row, kept].any():
            kept.append(int(row))
    return np.array(sorted(kept), np.int64)


def distinct(cut: Segments) -> Segments:
    """Each thing once, and nothing smaller than a thousandth of the picture: for those who are to look at them one by one."""
    height, width = cut.image.shape[:2]
    return without_duplicates(select(cut, min_area=height * width // 1000))


def without_small_regions(cut: Segments, least: int) -> Segments:
    """The masks with holes of fewer than `least` pixels filled, and islands of fewer dropped; a mask's largest island stays.

    Scores and logits stay what they were. Raises InputError where `least` is negative.
    """
    if least < 0:
        raise InputError(f"least must be a number of pixels, got {least}")
    if least <= 1:
        return cut
    clean = (without_small_parts(cut.mask(row), least) for row in range(len(cut)))
    if isinstance(cut.stored, np.ndarray):
        return replace(cut, stored=np.array(list(clean), bool).reshape(cut.stored.shape))
    return replace(cut, stored=tuple(rle.encode(mask) for mask in clean))  # one is drawn at a time


def select(
    cut: Segments,
    *,
    min_area: int = 0,
    max_area: int | None = None,
    min_score: float = 0.0,
    min_stability: float = 0.0,
    touching_border: bool | None = None,
    within: tuple[float, float, float, float] | None = None,
) -> Segments:
    """The masks that meet every condition.

    min_area, max_area: pixels. touching_border: True: only masks that reach the picture's edge; False: only those that do not.
    within: x0, y0, x1, y1: only masks whose box lies in it.
    """
    boxes = cut.boxes_xyxy
    height, width = cut.image.shape[:2]
    good = (cut.areas >= min_area) & (cut.scores >= min_score) & (cut.stability >= min_stability)
    if max_area is not None:
        good &= cut.areas <= max_area
    if touching_border is not None:
        at_edge = (boxes[:, :2] <= 0).any(axis=1) | (boxes[:, 2:] >= (width, height)).any(axis=1)
        good &= at_edge == touching_border
    if within is not None:
        x0, y0, x1, y1 = within
        good &= (boxes[:, :2] >= (x0, y0)).all(axis=1) & (boxes[:, 2:] <= (x1, y1)).all(axis=1)
    return cut[np.flatnonzero(good)]


def label_map(cut: Segments) -> np.ndarray:
    """(H, W) int32: one label a pixel: 0 nothing, n the mask in row n - 1; where masks overlap the smaller one is on top."""
    height, width = cut.image.shape[:2]
    labels = np.zeros((width, height), np.int32).T  # column by column, as run lengths are drawn
    for row in np.argsort(-cut.areas, kind="stable"):
        mask, x0, y0 = cut.part(row)
        np.copyto(labels[y0 : y0 + mask.shape[0], x0 : x0 + mask.shape[1]], row + 1, where=mask)
    return np.ascontiguousarray(labels)


def parents(cut: Segments, share: float = 0.9) -> np.ndarray:
    """(N,) int64: of each mask the smallest larger one that holds at least `share` of it, or -1: part of, whole of."""
    shared, areas = overlaps(cut), cut.areas
    found = np.full(len(cut), -1, np.int64)
    order = np.argsort(areas, kind="stable")
    for rank, row in enumerate(order):
        larger = order[rank + 1 :]
        holds = larger[(shared[row, larger] >= share * areas[row]) & (areas[larger] > areas[row])]
        if holds.size and areas[row]:
            found[row] = holds[0]
    return found
