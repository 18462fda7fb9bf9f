"""COCO's run-length encoding of masks: column by column, runs of 0 and 1 in turn, starting with 0.

Source of the format: https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.c (rleEncode, rleToString, rleFrString)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from .errors import InputError
from .masks import boxes_xyxy


class Rle(TypedDict):
    """A mask as COCO stores it."""

    size: list[int]
    """[height, width]."""
    counts: str
    """Run lengths, compressed to ASCII."""


def encode(mask: np.ndarray) -> Rle:
    """A bool mask (H, W) -> compressed RLE."""
    return {"size": [int(mask.shape[0]), int(mask.shape[1])], "counts": compress(runs(mask))}


def decode(rle: Rle) -> np.ndarray:
    """Compressed RLE -> a bool mask (H, W). Raises InputError where the runs do not fill the size exactly."""
    height, width = (int(n) for n in rle["size"])
    if height < 0 or width < 0 or height * width > 1 << 32:
        raise InputError(f"RLE size must be [height, width] of a picture, got {rle['size']}")
    lengths = decompress(rle["counts"])
    if (lengths < 0).any() or lengths.sum() != height * width:
        raise InputError(f"RLE counts must be runs that add up to {height} x {width}, got a sum of {lengths.sum()}")
    return from_runs(lengths, height, width)


def area(rle: Rle) -> int:
    """Pixels of the mask, without drawing it."""
    return int(decompress(rle["counts"])[1::2].sum())


def box_xyxy(rle: Rle) -> np.ndarray:
    """(4,) float32, the tight box, far sides exclusive, without drawing the mask; zeros for an empty one."""
    ends = np.cumsum(decompress(rle["counts"]))
    runs = len(ends) // 2
    return tight_box(ends[::2][:runs], ends[1::2], rle["size"][0])


def tight_box(starts: np.ndarray, ends: np.ndarray, height: int) -> np.ndarray:
    """Runs of true pixels, x * height + y from `starts` to before `ends`, in order -> (4,) float32 x0, y0, x1, y1."""
    box = np.zeros(4, np.float32)
    filled = ends > starts
    if filled.any():
        first, last = starts[filled], ends[filled] - 1
        x0, x1 = first // height, last // height
        within = x0 == x1  # a run that goes on into the next column has been at the bottom and at the top
        top = 0 if not within.all() else (first % height).min()
        bottom = height - 1 if not within.all() else (last % height).max()
        box[:] = x0[0], top, x1[-1] + 1, bottom + 1
    return box


def placed(rle: Rle, x0: int, y0: int, size: tuple[int, int], factor: int = 1) -> Rle:
    """The mask of a part as a mask of the whole picture of `size` (height, width), in which the part begins at x0, y0.

    factor: how many of the picture's pixels, each way, one of the part's stands for; what then reaches beyond is cut off.
    Nothing of the whole is drawn: its runs are those of the part, cut where a column of the part ends. Raises InputError.
    """
    height, width = size
    rows, columns = rle["size"]
    if x0 < 0 or y0 < 0 or x0 + (columns - 1) * factor >= width or y0 + (rows - 1) * factor >= height:
        raise InputError(f"a part of {columns} x {rows}, times {factor}, at {x0}, {y0} does not lie within {width} x {height}")
    x, y = _column_runs(decode(rle))
    if factor > 1:
        order = np.argsort(x[:, 0, None] * factor + np.arange(factor), axis=None, kind="stable")
        x = (x[:, None] * factor + np.arange(factor)[None, :, None]).reshape(-1, 2)[order]
        y = (y[:, None] * factor).repeat(factor, axis=1).reshape(-1, 2)[order]
    inside = x[:, 0] + x0 < width
    return from_edges(((x0 + x) * height + np.minimum(y0 + y, height))[inside].ravel(), size)


def shared_area(first: np.ndarray, second: np.ndarray) -> int:
    """Pixels that two masks share, from their edges (`edges_of`)."""
    return int(shared_areas(second, [first])[0])


def shared_areas(mask: np.ndarray, others: Sequence[np.ndarray]) -> np.ndarray:
    """(N,) int64: the pixels that a mask shares with each of the others, from their edges (`edges_of`)."""
    if not len(mask) or not others:
        return np.zeros(len(others), np.int64)
    starts, lengths = mask[0::2], mask[1::2] - mask[0::2]
    before = np.concatenate([[0], np.cumsum(lengths)])  # pixels of the mask before each of its runs

    def up_to(place: np.ndarray) -> np.ndarray:
        run = np.searchsorted(starts, place, side="right") - 1
        within = np.minimum(place - starts[run], lengths[run])
        return np.where(run < 0, 0, before[run] + within)

    places = np.concatenate(others)
    in_runs = np.cumsum(np.concatenate([[0], up_to(places[1::2]) - up_to(places[0::2])]))
    return np.diff(in_runs[np.cumsum([0, *(len(other) // 2 for other in others)])])


def decode_part(rle: Rle, x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    """The mask's pixels x0 <= x < x1, y0 <= y < y1, bool (y1 - y0, x1 - x0); of the others only these columns' are drawn."""
    height = rle["size"][0]
    edges = edges_of(rle).clip(x0 * height, x1 * height)  # runs beyond have no length then
    lengths = np.diff(edges, prepend=x0 * height, append=x1 * height)
    return from_runs(lengths, height, x1 - x0)[y0:y1].copy(order="K")  # column by column still, and nothing around it


def rectangle(x0: int, y0: int, x1: int, y1: int, height: int) -> np.ndarray:
    """The edges of a rectangle of a picture so high."""
    columns = np.arange(x0, x1)[:, None] * height
    return (columns + np.array([y0, y1])).ravel()


def union(masks: Sequence[Rle]) -> Rle:
    """Masks of one picture together, without drawing them."""
    starts = np.sort(np.concatenate([edges_of(mask)[0::2] for mask in masks]))
    ends = np.sort(np.concatenate([edges_of(mask)[1::2] for mask in masks]))
    # with both sorted, the n-th run to begin is alone where n runs have ended by then: a new piece begins there
    fresh = np.ones(len(starts), bool)
    fresh[1:] = starts[1:] > ends[:-1]
    last = np.append(np.flatnonzero(fresh)[1:] - 1, len(starts) - 1)[: fresh.sum()]
    height, width = masks[0]["size"]
    return from_edges(np.stack([starts[fresh], ends[last]], axis=1).ravel(), (height, width))


def edges_of(rle: Rle) -> np.ndarray:
    """Where runs of true pixels begin and end, in turn, in the order x * height + y."""
    ends = np.cumsum(decompress(rle["counts"]))
    ends = ends[: len(ends) // 2 * 2].reshape(-1, 2)
    return ends[ends[:, 1] > ends[:, 0]].ravel()


def from_edges(edges: np.ndarray, size: tuple[int, int]) -> Rle:
    """The opposite; runs that touch become one."""
    return {"size": list(size), "counts": compress(_lengths(edges, size))}


def _lengths(edges: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The run lengths of a mask of `size` (height, width) with those edges; runs that touch become one."""
    edges = edges.astype(np.int64)
    touching = np.flatnonzero(edges[1:-1:2] == edges[2::2])
    edges = np.delete(edges, np.concatenate([2 * touching + 1, 2 * touching + 2]))
    lengths = np.diff(np.concatenate([[0], edges, [size[0] * size[1]]]))
    return lengths if lengths[-1] or len(lengths) == 1 else lengths[:-1]


def from_runs(lengths: np.ndarray, height: int, width: int) -> np.ndarray:
    """Run lengths that fill the size -> a bool mask (H, W)."""
    values = np.arange(len(lengths)) % 2 == 1
    return np.repeat(values, lengths).reshape(width, height).T


def runs(mask: np.ndarray) -> np.ndarray:
    """A bool mask (H, W) -> its run lengths, int64; the first run is of zeros and may be empty."""
    x, y = _column_runs(mask)
    height, width = mask.shape
    return _lengths((x * height + y).ravel(), (height, width))


def _column_runs(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns and rows (R, 2) at which runs of true begin and end, each within a column. Only the mask's box is looked at."""
    x0, y0, x1, y1 = boxes_xyxy(mask[None])[0].astype(np.int64)
    part = mask[y0:y1, x0:x1].astype(bool, copy=False)
    height, width = part.shape
    turns = np.zeros((height + 1, width), bool)  # a column may be true from its first row on, and to its last
    turns[:-1] = part
    turns[1:] ^= part
    row, column = np.divmod(np.flatnonzero(turns), max(1, width))
    # To sort the few that turn is far quicker than to turn all pixels round.
    x, y = np.divmod(np.sort(column * (height + 1) + row).reshape(-1, 2), height + 1)
    return x + x0, y + y0


def compress(lengths: np.ndarray) -> str:
    """Run lengths -> COCO's string: from the fourth on as differences, six bits a character, low bits first."""
    deltas = lengths.astype(np.int64).copy()
    deltas[3:] -= lengths[1:-2]
    columns = []
    alive = np.ones(len(deltas), bool)
    while alive.any():
        chunk = deltas & 31
        deltas = deltas >> 5
        more = alive & (deltas != np.where(chunk & 16, -1, 0))
        columns.append(np.where(alive, chunk + 32 * more + 48, 0))
        alive = more
    table = np.stack(columns, axis=1) if columns else np.zeros((0, 1), np.int64)
    return table[table > 0].astype(np.uint8).tobytes().decode("ascii")


def decompress(counts: str) -> np.ndarray:
    """COCO's string -> run lengths, int64. Raises InputError for characters that no encoder writes."""
    data = np.frombuffer(counts.encode("ascii", "replace"), np.uint8).astype(np.int64) - 48
    if ((data < 0) | (data > 63)).any() or (len(data) and data[-1] & 32):
        raise InputError("RLE counts hold characters that COCO's encoding does not use, or end in the middle of a number")
    ends = np.flatnonzero((data & 32) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64) if len(ends) else ends
    sizes = ends - starts + 1
    if len(sizes) and sizes.max() > 7:
        raise InputError("RLE counts hold a number too large for any picture")
    place = np.arange(len(data)) - np.repeat(starts, sizes)
    values = np.add.reduceat((data & 31) << (5 * place), starts) if len(starts) else np.zeros(0, np.int64)
    negative = (data[ends] & 16) > 0
    lengths = values - np.where(negative, np.int64(1) << (5 * sizes), 0)
    for parity in (1, 2):  # lengths[i] += lengths[i - 2] from the fourth on: a running sum of every other entry
        chain = lengths[parity::2]
        lengths[parity::2] = np.cumsum(chain)
    return lengths
