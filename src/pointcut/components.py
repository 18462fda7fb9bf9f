"""Connected parts of a mask, in plain numpy: rows are cut into runs, runs that touch are joined."""

from __future__ import annotations

import numpy as np


def label_components(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Connected parts of a mask (H, W), diagonal neighbours included.

    Returns labels (H, W) int64, 0 outside and 1..n inside, numbered by their first pixel row by row; and the areas (n + 1,)
    int64 of each label, that of 0 being what lies outside.
    """
    edges = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    rows, starts = np.nonzero(edges == 1)  # the runs, row by row, from left to right
    _, ends = np.nonzero(edges == -1)  # exclusive
    group = _join(_touching(rows, starts, ends, mask.shape[1]), len(rows))
    _, group = np.unique(group, return_inverse=True)
    labels = np.zeros(mask.shape, np.int64)
    labels[mask] = np.repeat(group + 1, ends - starts)
    return labels, np.bincount(labels.ravel(), minlength=1)


def _touching(rows: np.ndarray, starts: np.ndarray, ends: np.ndarray, width: int) -> np.ndarray:
    """Pairs (P, 2) of runs in neighbouring rows that share an edge or a corner."""
    pitch = width + 2  # one sorted line of numbers for all rows, no two rows in reach of one another
    first = np.searchsorted(rows * pitch + ends, (rows + 1) * pitch + starts, side="left")
    last = np.searchsorted(rows * pitch + starts, (rows + 1) * pitch + ends, side="right")
    count = np.maximum(last - first, 0)
    upper = np.repeat(np.arange(len(rows)), count)
    lower = np.repeat(first, count) + np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return np.stack([upper, lower], axis=1)


def _join(pairs: np.ndarray, count: int) -> np.ndarray:
    """The smallest member of each run's group: (count,)."""
    parent = np.arange(count)
    while len(pairs):
        left, right = parent[pairs[:, 0]], parent[pairs[:, 1]]
        apart = left != right
        if not apart.any():
            break
        pairs, low, high = pairs[apart], np.minimum(left, right)[apart], np.maximum(left, right)[apart]
        np.minimum.at(parent, high, low)
        while not np.array_equal(parent, shorter := parent[parent]):
            parent = shorter
    return parent


def fill_small(mask: np.ndarray, largest: float) -> np.ndarray:
    """True where the mask is false in a connected part of at most `largest` pixels: (H, W) -> (H, W)."""
    labels, areas = label_components(~mask)
    small = areas <= largest
    small[0] = False
    return small[labels]


def without_small_parts(mask: np.ndarray, least: int) -> np.ndarray:
    """The mask (H, W) with holes of fewer than `least` pixels filled, and islands of fewer dropped; the largest island stays.

    The very array that was given where there is nothing to do.
    Source: https://github.com/facebookresearch/segment-anything/blob/main/segment_anything/utils/amg.py (remove_small_regions)
    """
    if not mask.any():
        return mask
    near = _surroundings(mask, least)
    part = given = mask[near]
    labels, areas = label_components(~part)
    small = areas < least
    small[0] = False
    if near[0].start or near[1].start:  # beyond this corner it goes on
        small[labels[0, 0]] = False
    if near[0].stop < mask.shape[0] or near[1].stop < mask.shape[1]:
        small[labels[-1, -1]] = False
    if small.any():
        part = part | small[labels]
    labels, areas = label_components(part)
    small = areas < least
    small[0] = False
    if small.any():
        if small[1:].all():
            small[1 + areas[1:].argmax()] = False
        part = part & ~small[labels]
    if part is given:
        return mask
    clean = mask.copy()
    clean[near] = part
    return clean


def _surroundings(mask: np.ndarray, least: int) -> tuple[slice, slice]:
    """Rows and columns of all that is true, and a margin; beyond a side lies nothing, or at least `least` pixels."""

    def along(axis: int) -> slice:
        length, across = mask.shape[axis], mask.shape[1 - axis]
        true = np.flatnonzero(mask.any(axis=1 - axis))
        first, last = max(int(true[0]) - 1, 0), min(int(true[-1]) + 2, length)
        return slice(first if first * across >= least else 0, last if (length - last) * across >= least else length)

    return along(0), along(1)
