"""Label Studio's run lengths of brush strokes: a stream of bits, packed whole arrays at a time.

Format: https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack. Label Studio packs the picture as RGBA, row by row,
so each pixel of a mask stands there four times.
"""

from __future__ import annotations

import numpy as np

WORD = 8
"""Bits of a value."""
SIZES = np.array((3, 4, 8, 16))
"""Bits in which a run's length may be written."""
CHANNELS = 4
LONGEST = 1 << 16


def brush_rle(mask: np.ndarray) -> list[int]:
    """A bool mask (H, W) -> the bytes that Label Studio reads."""
    flat = mask.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    starts = np.concatenate([[0], edges])
    lengths = np.diff(np.concatenate([starts, [flat.size]])) * CHANNELS
    values = np.where(flat[starts], 255, 0)
    pieces = -(-lengths // LONGEST)  # runs that are too long for 16 bits are cut
    last = np.cumsum(pieces) - 1
    sizes = np.full(pieces.sum(), LONGEST)
    sizes[last] = lengths - (pieces - 1) * LONGEST
    which = np.searchsorted(1 << SIZES, sizes)  # the shortest that holds size - 1
    bits = SIZES[which]
    codes = (4 + which) << bits | (sizes - 1)  # a one for "run", two bits for the size's size, and the size
    codes = codes << WORD | np.repeat(values, pieces)
    widths = 3 + bits + WORD
    head = packed(np.array([flat.size * CHANNELS, WORD - 1, *(SIZES - 1)]), np.array([32, 5, 4, 4, 4, 4]))
    body = np.concatenate([head, packed(codes, widths)])
    body = np.concatenate([body, np.zeros(8 - len(body) % 8, np.uint8)])  # a whole byte where nothing is missing
    return np.packbits(body).tolist()


def packed(codes: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Numbers, each in so many bits, most significant first -> the bits (B,) uint8."""
    ends = np.cumsum(widths)
    shift = np.repeat(ends, widths) - 1 - np.arange(ends[-1])
    return (np.repeat(codes, widths) >> shift & 1).astype(np.uint8)
