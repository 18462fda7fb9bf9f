"""Masks of the picture's size, measured and run-length encoded without being drawn.

Between four neighbouring logits enlargement is bilinear: where all four are on one side of the threshold, so are all pixels
between them. Only the other cells, those along a mask's border, are looked at. In each pixel column of such a cell the value
changes linearly from top to bottom, so the mask can change at most once; the row is solved for, and put right by the very
products and sums of the full enlargement. What comes out are the positions at which the mask toggles, column by column, which
are COCO's run lengths already. The work is that of the border, not of the pixels.

Letters: N masks, h and w of the logits, H and W of the picture (or crop), K places.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..nets.layers import bilinear
from ..nets.running import Download, upload
from ..pixels import Axis, between, stretched
from ..rle import tight_box

DRAWN_FOR = 50
"""How many pixels are drawn in the time in which one pixel column of a border cell is solved for (measured on a CPU)."""

DRAWN_TOGETHER = 1 << 28
"""Pixels that are drawn at a time on a GPU: a gigabyte."""

FAR_SIDES = np.array((0, 0, 1, 1), np.float32)
"""What exclusive boxes have more than inclusive ones."""


class Place(NamedTuple):
    """Where masks lie in the whole picture."""

    x0: int
    y0: int
    height: int
    """H of the crop."""
    full_height: int
    full_width: int


class Toggles(NamedTuple):
    """N masks as the positions, x * full_height + y, at which each begins and ends to be true, in turn."""

    positions: np.ndarray
    """(K,) int64, ascending for each mask; all masks one after another."""
    starts: np.ndarray
    """(N + 1,) int64: where each mask's positions begin, and K."""

    def of(self, row: int) -> np.ndarray:
        return self.positions[self.starts[row] : self.starts[row + 1]]

    def areas(self) -> np.ndarray:
        """(N,) int64."""
        lengths = self.positions[1::2] - self.positions[::2]  # each mask has an even number of toggles
        sums = np.concatenate([[0], np.cumsum(lengths)])
        return sums[self.starts[1:] // 2] - sums[self.starts[:-1] // 2]

    def boxes(self, full_height: int) -> np.ndarray:
        """(N, 4) float32 x0, y0, x1, y1, the far sides inclusive, as the references give them; zeros for an empty mask."""
        boxes = []
        for row in range(len(self.starts) - 1):
            box = tight_box(self.of(row)[::2], self.of(row)[1::2], full_height)
            boxes.append(box - FAR_SIDES if box.any() else box)
        return np.array(boxes, np.float32).reshape(-1, 4)


def run_lengths(toggles: np.ndarray, pixels: int) -> np.ndarray:
    """One mask's toggles -> COCO's run lengths, int64: zeros first."""
    lengths = np.diff(toggles, prepend=0, append=pixels)
    return lengths[:-1] if len(lengths) > 1 and lengths[-1] == 0 else lengths


def where(flags: Tensor) -> Tensor:
    """The flat positions (K,) at which a tensor is true, int32: half the width, twice the speed of what is done with them."""
    if flags.device.type == "cpu":  # numpy is four times as fast at it
        return torch.from_numpy(np.flatnonzero(flags.numpy()).astype(np.int32))
    return flags.flatten().nonzero()[:, 0].int()


class Enlarged(NamedTuple):
    """N masks that are to be looked at in the size of a picture."""

    logits: Tensor
    """(N, h, w + 1): the last column twice, since pixels beyond it are as it is."""
    across: Axis
    down: Axis

    def rows(self, index: np.ndarray) -> Enlarged:
        """Some of the masks."""
        return self._replace(logits=rows_of(self.logits, index))

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return len(self.down.low), len(self.across.low)


def rows_of(x: Tensor, index: np.ndarray) -> Tensor:
    """Some rows of a tensor, wherever it is: (K,) int64, or bool for each row."""
    numbers = np.flatnonzero(index) if index.dtype == bool else index
    return x[upload(numbers, x.device)]


def enlarged(logits: Tensor, height: int, width: int) -> Enlarged:
    """(N, h, w) logits of a picture of that size."""
    _, h, w = logits.shape
    axes = Axis.enlarging(w, width, logits.device), Axis.enlarging(h, height, logits.device)
    return Enlarged(torch.cat([logits, logits[..., -1:]], dim=2), *axes)


class Turns(NamedTuple):
    """Where masks change within a pixel column, and where a column begins or ends true; in no order."""

    mask: Tensor
    """(K,) int32."""
    column: Tensor
    """(K,) int32: x in the crop."""
    row: Tensor
    """(K,) int32: the first y with the new state, 0 to H."""
    off: Tensor
    """(K,) bool: the mask is true before, and false from there on."""


def _border_of(logits: Tensor, threshold: float) -> Tensor:
    """(N, h, w + 1) -> (N, h - 1, w) bool: the cells whose four corners are not all on one side."""
    high = (logits > threshold).to(torch.uint8)
    pairs = high[..., :-1] + high[..., 1:]  # (N, h, w)
    corners = pairs[:, :-1] + pairs[:, 1:]
    return (corners > 0) & (corners < 4)


def turns_of(masks: Enlarged, threshold: float) -> Turns:
    """Every change of the masks `logits > threshold`."""
    logits, across, down = masks
    h, w = logits.shape[1], logits.shape[2] - 1
    border = where(_border_of(logits, threshold))
    line, cell = border.div(w, rounding_mode="floor"), border % w
    mask, gap = line.div(h - 1, rounding_mode="floor"), line % (h - 1)
    flat, corner = logits.flatten(), (line + mask) * (w + 1) + cell  # a mask has a line of logits more than lines of cells
    upper_left, upper_right, lower_left, lower_right = (flat[corner + step][:, None] for step in (0, 1, w + 1, w + 2))
    share = across.shares.index_select(0, cell)  # (K, pixel columns of a cell)
    upper = (1 - share) * upper_left + share * upper_right
    lower = (1 - share) * lower_left + share * lower_right
    off = upper > threshold
    turning = where(off != (lower > threshold))
    place, step = turning.div(share.shape[1], rounding_mode="floor"), turning % share.shape[1]
    upper, lower, off = (x.flatten().index_select(0, turning) for x in (upper, lower, off))
    mask, gap, cell = (x.index_select(0, place) for x in (mask, gap, cell))
    parts = [Turns(mask, across.first[cell] + step, _turning_row(down, threshold, gap, upper, lower), off)]
    parts += [_edge(logits[:, at], across, threshold, row, off) for at, row, off in ((0, 0, False), (-1, len(down.low), True))]
    return Turns(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _edge(logits: Tensor, across: Axis, threshold: float, row: int, off: bool) -> Turns:
    """The columns that are true at the picture's upper or lower edge, from the row of logits (N, w + 1) that lies there."""
    values = across.stretched(logits, slice(None), 1)  # (N, W)
    true = where(values > threshold)
    mask, column = true.div(values.shape[1], rounding_mode="floor"), true % values.shape[1]
    return Turns(mask, column, torch.full_like(mask, row), torch.full_like(mask, off, dtype=torch.bool))


def _turning_row(down: Axis, threshold: float, gap: Tensor, upper: Tensor, lower: Tensor) -> Tensor:
    """The first pixel row with the new state between the values `upper` and `lower` of row `gap` and the next: (K,) each."""
    first, beyond = down.first[gap], down.first[gap + 1]
    scale = down.values / len(down.low)
    guess = ((gap + 0.5 + (threshold - upper) / (lower - upper)) / scale - 0.5).ceil().int()
    guess = torch.minimum(torch.maximum(guess, first), beyond)
    starts_above = upper > threshold

    def turned(row: Tensor) -> Tensor:
        share = down.share[row.clamp(0, len(down.share) - 1)]
        return ((1 - share) * upper + share * lower > threshold) != starts_above

    guess -= ((guess > first) & turned(guess - 1)).int()
    guess += ((guess < beyond) & ~turned(guess)).int()
    return guess


def areas_of(masks: Enlarged, thresholds: Sequence[float]) -> np.ndarray:
    """(T, N) int64: the pixels above each threshold. On a CPU a mask that is mostly border is quicker drawn than solved for."""
    logits, across, _ = masks
    if logits.device.type != "cpu":
        return _areas_on_a_gpu(masks, thresholds)
    pixels = math.prod(masks.size)
    rough = _border_of(logits, thresholds[0]).flatten(1).sum(1) * across.shares.shape[1] * DRAWN_FOR > pixels
    areas = np.zeros((len(thresholds), len(logits)), np.int64)
    smooth = np.flatnonzero(~rough.numpy())
    for row, threshold in enumerate(thresholds):
        turns = turns_of(masks.rows(smooth), threshold)
        signed = torch.where(turns.off, turns.row, -turns.row)  # of each run its end minus its start
        sums = np.bincount(turns.mask.numpy(), weights=signed.numpy(), minlength=len(smooth))
        areas[row, smooth] = sums  # float64 holds such sums exactly
    for n in np.flatnonzero(rough.numpy()):
        areas[:, n] = _drawn_areas(masks.rows(np.array([n])), thresholds)
    return areas


def _areas_on_a_gpu(masks: Enlarged, thresholds: Sequence[float]) -> np.ndarray:
    """All of them drawn: no step has to wait for how many border cells there are."""
    together = max(1, DRAWN_TOGETHER // math.prod(masks.size))
    areas = []
    for some in torch.split(masks.logits[:, None, :, :-1], together):
        values = bilinear(some, masks.size)
        areas.append(torch.stack([(values > threshold).sum((1, 2, 3)) for threshold in thresholds]))
    return Download(torch.cat(areas, 1)).arrays()[0]


def _drawn_areas(mask: Enlarged, thresholds: Sequence[float]) -> np.ndarray:
    """The areas of one mask, drawn: (T,)."""
    logits, across, down = mask
    blocks = stretched(logits[0], down, across, slice(0, len(down.low)), slice(0, len(across.low)))
    return np.sum([[np.count_nonzero(values > threshold) for threshold in thresholds] for _, values in blocks], axis=0)


def boxes_of(masks: Enlarged, threshold: float, place: Place) -> np.ndarray:
    """(N, 4): `Toggles.boxes` of the masks `logits > threshold`, for which only pixels near their four ends are looked at."""
    columns = masks.logits[..., :-1].amax(1) > threshold
    x0, x1, wide = _ends(masks, columns, 2, threshold)
    y0, y1, high = _ends(masks, masks.logits.amax(2) > threshold, 1, threshold)
    ends, there, found = Download(torch.stack([x0, y0, x1, y1], 1), columns.any(1), wide & high).arrays()
    boxes = (ends + (place.x0, place.y0) * 2).astype(np.float32)
    boxes[~there] = 0
    missed = np.flatnonzero(~found)
    if len(missed):
        boxes[missed] = toggles_of(masks.rows(missed), threshold, place).boxes(place.full_height)
    return boxes


def _ends(masks: Enlarged, true: Tensor, dim: int, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """The first and last pixel along `dim` that is above the threshold, of each mask, and whether both were found: (N,) each.

    true: (N, values) bool, where along `dim` a logit is. They lie beside the outermost of these, unless a logit that stands out
    falls between two pixels.
    """
    logits, across, down = masks
    axis = (down, across)[dim - 1]
    window = torch.arange(max(8, 2 * axis.shares.shape[1]), device=logits.device)
    first, last = true.int().argmax(1), true.shape[1] - true.flip(1).int().argmax(1)
    begins = torch.stack([axis.first[(first - 1).clamp(min=0)], axis.first[last] - len(window)], 1)  # (N, 2)
    pixels = (begins[..., None] + window).clamp(0, len(axis.low) - 1)  # (N, 2, P)
    low, share = axis.low[pixels], axis.share[pixels]
    if dim == 1:
        seen = _rows_between(masks, low, share).amax(1) > threshold
    else:
        low, share = (x.flatten(1)[:, None] for x in (low, share))
        near, far = (torch.take_along_dim(logits, i.clamp(max=logits.shape[2] - 1), 2) for i in (low, low + 1))
        values = between(near, far, share)
        # whole rows are fetched faster than parts of them
        seen = down.stretched(values.transpose(0, 1).contiguous(), slice(None), 0).amax(0) > threshold
    seen = seen.view(pixels.shape)
    begin = pixels[:, 0].masked_fill(~seen[:, 0], len(axis.low)).amin(1)
    end = pixels[:, 1].masked_fill(~seen[:, 1], -1).amax(1)
    return begin, end, seen.any(2).all(1)


def _rows_between(masks: Enlarged, low: Tensor, share: Tensor) -> Tensor:
    """Rows of pixels between the rows of logits `low`, (N, ..., P) and ascending, and the next: (all of them, W)."""
    logits, across, down = masks
    last, first = logits.shape[1] - 1, low[..., :1]
    reach = int((low.shape[-1] - 1) * down.values / len(down.low)) + 3  # so many logits those pixels lie between at most
    start = torch.arange(len(logits), device=low.device).view(-1, *[1] * (low.ndim - 1)) * (last + 1)
    taken = start + (first + torch.arange(reach, device=low.device)).clamp(max=last)
    rows = logits.flatten(0, 1).index_select(0, taken.flatten())
    wide = across.stretched(rows, slice(None), 1)  # each once, and not for each row of pixels beside it
    above = torch.arange(first.numel(), device=low.device).view(first.shape) * reach + low - first
    near, far = (wide.index_select(0, row.flatten()) for row in (above, above + (low < last)))
    return between(near, far, share.view(-1, 1))


def toggles_of(masks: Enlarged, threshold: float, place: Place) -> Toggles:
    """Where the masks `logits > threshold` begin and end in the whole picture."""
    turns = turns_of(masks, threshold)
    within = torch.int32 if place.full_height * place.full_width < 1 << 31 else torch.int64  # half the width is sorted faster
    places = (turns.column.to(within) + place.x0) * place.full_height + (turns.row + place.y0)
    positions, mask = Download(places, turns.mask).arrays()
    parts = [_cancelled(np.sort(positions[mask == row])) for row in range(len(masks.logits))]
    return Toggles(np.concatenate([np.zeros(0, np.int64), *parts]), np.cumsum([0, *map(len, parts)]))


def _cancelled(positions: np.ndarray) -> np.ndarray:
    """One mask's toggles (K,) in order, without those that meet in pairs."""
    # Two meet at the seam of two columns that are true, and where a value rises and falls between two pixels.
    last = np.flatnonzero(np.diff(positions, append=-1))  # the end of each group of equals
    return positions[last[np.diff(last, prepend=-1) % 2 == 1]]
