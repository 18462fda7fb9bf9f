"""Masks of the picture's size, measured and run-length encoded without ever being drawn.

Bilinear enlargement works along x and along y in turn. Enlarged along x only, a mask is a profile per picture column: h
values from top to bottom. Between two neighbouring values the pixels of that column change linearly, so the mask can change at
most once there, and only where one value is above the threshold and the other is not. So only those few places are evaluated,
with the very products and sums of the full enlargement; what comes out are the positions at which the mask toggles, column by
column, which are COCO's run lengths already. The work is h * W comparisons instead of H * W pixels, and no mask is drawn.

Letters: N masks, h and w of the logits, H and W of the picture (or crop), K toggles.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..rle import tight_box

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


class Axis(NamedTuple):
    """How one axis is enlarged: pixel p is (1 - share) * value[low] + share * value[high]."""

    values: int
    """How many values there are."""
    low: Tensor
    """(pixels,) int64."""
    high: Tensor
    """(pixels,) int64."""
    share: Tensor
    """(pixels,) float32."""

    @classmethod
    def enlarging(cls, values: int, pixels: int, device: torch.device) -> Axis:
        """As `F.interpolate(mode="bilinear", align_corners=False)` does it, in float32."""
        scale = torch.tensor(values / pixels, dtype=torch.float32)
        source = (scale * (torch.arange(pixels, dtype=torch.float32) + 0.5) - 0.5).clamp_(min=0)
        low = source.long().clamp_(max=values - 1)
        return cls(values, *(x.to(device) for x in (low, (low + 1).clamp_(max=values - 1), source - low)))


class Profiles(NamedTuple):
    """N masks enlarged along x."""

    values: Tensor
    """(N, W, h + 1): each picture column from top to bottom, and minus infinity, which keeps neighbours apart."""
    down: Axis
    """How a column is enlarged to H pixels."""

    def rows(self, index: np.ndarray) -> Profiles:
        """Some of the masks."""
        return Profiles(self.values[torch.from_numpy(index).to(self.values.device)], self.down)


def profiles(logits: Tensor, height: int, width: int) -> Profiles:
    """(N, h, w) logits of a picture of that size."""
    columns = logits.transpose(1, 2)  # (N, w, h)
    columns = torch.cat([columns, columns.new_full((*columns.shape[:2], 1), -torch.inf)], dim=2)
    across = Axis.enlarging(columns.shape[1], width, logits.device)
    values = columns.index_select(1, across.low).mul_((1 - across.share)[:, None])
    values += columns.index_select(1, across.high).mul_(across.share[:, None])
    values[..., -1] = -torch.inf  # 0 * infinity
    return Profiles(values, Axis.enlarging(logits.shape[1], height, logits.device))


def toggles_of(masks: Profiles, threshold: float, place: Place) -> Toggles:
    """Where the masks `logits > threshold` begin and end in the whole picture."""
    count, width, length = masks.values.shape
    flat = masks.values.flatten()
    above = torch.cat([flat.new_zeros(1, dtype=torch.bool), flat > threshold])
    turn = (above[1:] != above[:-1]).nonzero()[:, 0]  # (K,) the value at which the state is another than before
    column, value = turn.div(length, rounding_mode="floor"), turn % length
    rows = torch.where(value == 0, 0, place.height)  # a column that is true at its first or last pixel toggles there
    inside = ((value > 0) & (value < length - 1)).nonzero()[:, 0]
    rows[inside] = _turning_rows(flat, masks.down, threshold, turn[inside], value[inside])
    mask = column.div(width, rounding_mode="floor")
    position = (column % width + place.x0) * place.full_height + place.y0 + rows
    return _cancelled(mask.cpu().numpy(), position.cpu().numpy(), count)


def _cancelled(mask: np.ndarray, positions: np.ndarray, count: int) -> Toggles:
    """Toggles (K,) in order, of `mask` (K,) each, without those that meet in pairs."""
    # Two meet at the seam of two columns that are true, and where a profile dips between two pixels.
    change = np.ones(len(positions), bool)
    np.logical_or(positions[1:] != positions[:-1], mask[1:] != mask[:-1], out=change[:-1])
    last = np.flatnonzero(change)  # the end of each group of equals
    keep = last[np.diff(last, prepend=-1) % 2 == 1]
    return Toggles(positions[keep], np.searchsorted(mask[keep], np.arange(count + 1)))


def _turning_rows(flat: Tensor, down: Axis, threshold: float, turn: Tensor, value: Tensor) -> Tensor:
    """The first pixel row with the new state, between the values `turn - 1` and `turn` of `flat`: (K,).

    Solved for the row, then put right by the very products and sums of the enlargement, since rounding may err by a row.
    """
    upper, lower = flat[turn - 1], flat[turn]
    starts_above = upper > threshold
    begin = torch.searchsorted(down.low, torch.arange(down.values + 1, device=flat.device))  # each gap's first row
    first, beyond = begin[value - 1], begin[value]
    scale = down.values / len(down.low)
    guess = ((value - 0.5 + (threshold - upper) / (lower - upper)) / scale - 0.5).ceil().long()
    guess = torch.minimum(torch.maximum(guess, first), beyond)

    def turned(row: Tensor) -> Tensor:
        share = down.share[row.clamp(0, len(down.share) - 1)]
        return ((1 - share) * upper + share * lower > threshold) != starts_above

    guess -= ((guess > first) & turned(guess - 1)).long()
    guess += ((guess < beyond) & ~turned(guess)).long()
    return guess
