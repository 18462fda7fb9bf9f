"""The order in which the networks keep a map's tokens: cell by cell, of each cell its quarters, of each quarter its quarters.

In this order a square of 2^n x 2^n tokens is a run of 4^n, so cutting into windows, halving a map and doubling it move nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .positions import computed_once


def to_parts(maps: Tensor, halvings: int) -> Tensor:
    """(B, C, h * 2^n, w * 2^n) -> (B, h * w * 4^n, C): cell by cell its quarters, of each quarter its quarters, n times."""
    split = maps.unflatten(3, (-1, *[2] * halvings)).unflatten(2, (-1, *[2] * halvings))  # (B, C, h, 2, ..., w, 2, ...)
    pairs = [axis for i in range(halvings) for axis in (3 + i, 4 + halvings + i)]
    return split.permute(0, 2, 3 + halvings, *pairs, 1).flatten(1, -2)


def from_parts(rows: Tensor, side: tuple[int, int], halvings: int) -> Tensor:
    """The inverse: (N, h * w * 4^n, K) and (h, w) -> (N, K, h * 2^n, w * 2^n)."""
    split = rows.unflatten(1, (*side, *[2] * (2 * halvings)))  # (N, h, w, y, x, y, x, ..., K)
    down, across = ([3 + first + 2 * i for i in range(halvings)] for first in (0, 1))
    maps = split.permute(0, split.ndim - 1, 1, *down, 2, *across)  # (N, K, h, y, y, ..., w, x, x, ...)
    return maps.flatten(3 + halvings).flatten(2, 2 + halvings)


def masks_from_parts(parts: Tensor, side: tuple[int, int]) -> Tensor:
    """The same for masks with two halvings: (N, K, h * w * 16) and (h, w) -> (N, K, 4h, 4w). Neighbours move in pairs."""
    pairs = torch.view_as_complex(parts.unflatten(2, (*side, 2, 2, 2, 2)))  # (N, K, h, w, y, x, y): a tenth of the time
    maps = pairs.permute(0, 1, 2, 4, 6, 3, 5).contiguous()
    return torch.view_as_real(maps).flatten(5).flatten(2, 4)


def spread(rows: Tensor, side: tuple[int, int], halvings: int) -> Tensor:
    """The same as a view of a map whose channels lie together in memory, which is faster to make for many channels."""
    split = rows.unflatten(1, (*side, *[2] * (2 * halvings)))
    down, across = ([3 + first + 2 * i for i in range(halvings)] for first in (0, 1))
    maps = split.permute(0, 1, *down, 2, *across, split.ndim - 1)  # (N, h, y, y, ..., w, x, x, ..., K)
    return maps.flatten(2 + halvings, -2).flatten(1, 1 + halvings).permute(0, 3, 1, 2)


def halve(rows: Tensor) -> Tensor:
    """The maximum of every four tokens: (N, 4T, C) -> (N, T, C), the map at half its size."""
    return rows.unflatten(1, (-1, 4)).amax(2)


class Windows(NamedTuple):
    """Where the tokens of a map lie in square windows that do not follow its cells."""

    side: int
    take: Tensor
    """(windows * side^2,): the token at each place; the number of tokens where the window hangs over the edge."""
    put: Tensor
    """(T,): the place of each token."""

    def cut(self, rows: Tensor) -> Tensor:
        """(B, T + 1, C), the last of them padding -> (B * windows, side^2, C)."""
        return taken(rows, self.take).view(-1, self.side**2, rows.shape[2])

    def join(self, windows: Tensor, batch: int) -> Tensor:
        """The inverse: (B * windows, side^2, C) -> (B, T, C)."""
        return taken(windows.reshape(batch, -1, windows.shape[2]), self.put)


def taken(rows: Tensor, index: Tensor) -> Tensor:
    """(B, T, C) -> (B, len(index), C)."""
    # An embedding's look-up copies whole rows, which `index_select` on an inner axis does not.
    if len(rows) == 1:
        return F.embedding(index, rows[0])[None]
    return rows.index_select(1, index)


@computed_once(16)
def windows_of(cells: tuple[int, int], halvings: int, side: int, device: torch.device) -> Windows:
    """Windows of side x side over a map of h * 2^n by w * 2^n tokens, padded below and to the right."""
    height, width = (n * 2**halvings for n in cells)
    order = torch.arange(height * width, device="cpu")[None, :, None]
    places = from_parts(order, cells, halvings)[0, 0]  # (H, W): which token lies there
    padded = F.pad(places, (0, -width % side, 0, -height % side), value=height * width)
    take = padded.unflatten(1, (-1, side)).unflatten(0, (-1, side)).transpose(1, 2).flatten()
    put = torch.empty(height * width + 1, dtype=torch.long, device="cpu")
    put[take] = torch.arange(len(take), device="cpu")
    return Windows(side, take.to(device), put[:-1].to(device))
