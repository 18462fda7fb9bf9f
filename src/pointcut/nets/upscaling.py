"""The last part of the mask decoder: each cell becomes sixteen, and a mask is a token's product with them.

A transposed convolution whose stride is its size is a linear layer per cell. Its outputs are left where they are, cell by cell
and quarter by quarter (cells.py), so nothing is moved before the finished masks.

Letters: N prompts, K masks, S cells of the image, n of them, C channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .layers import LayerNorm2d

CELLS = 1024
"""That pass all layers together on a CPU: what lies between the layers stays in its cache."""


class Upscaling(NamedTuple):
    """The layers, in order."""

    grow1: nn.ConvTranspose2d
    norm: LayerNorm2d
    act1: nn.GELU
    grow2: nn.ConvTranspose2d
    act2: nn.GELU

    def quarters(self, cells: Tensor, more: Tensor) -> Tensor:
        """(N, n, C), and what is added (1|N, 1|n, C) -> each cell's four quarters (N, n, C), before their norm."""
        return _grown(cells, linear(self.grow1), more)

    def quarters_of_one(self, cells: Tensor, more: Tensor, together: int) -> Iterator[Tensor]:
        """The same for one prompt, `together` cells after others: (S, C), (1|S, C) -> (n, C)."""
        weight = linear(self.grow1)
        for some, added in zip(cells.split(together), pieces(more, together), strict=False):
            yield torch.addmm(added, some, weight)

    def parts(self, quarters: Tensor, more: Tensor, masks: Tensor) -> Tensor:
        """Quarters (N, n, C) -> the logits of each cell's sixteen parts (N, K, 16n).

        more: what is added to the quarters' quarters (1|N, 1|4n, C/2). masks: the masks' own rows (N, K, C/8).
        """
        x = self.act1(self.norm.rows(quarters.unflatten(2, (4, -1)))).flatten(1, 2)  # (N, 4n, C/4)
        x = self.act2(_grown(x, linear(self.grow2), more)).unflatten(2, (4, -1)).flatten(1, 2)  # (N, 16n, C/8)
        return masks @ x.transpose(1, 2)

    def parts_of_one(self, quarters: Iterable[Tensor], more: Iterable[Tensor], masks: Tensor) -> Tensor:
        """The same for one prompt, some cells after others: (n, C), (4n, C/2) or one that all share, (K, C/8) -> (K, 16S)."""
        weight, width, parts = linear(self.grow2), masks.shape[1], []
        for cells, added in zip(quarters, more, strict=False):
            x = self.act1(self.norm.rows(cells.view(-1, len(weight))))
            x = self.act2(torch.addmm(added, x, weight))
            parts.append(masks @ x.view(-1, width).T)
        return torch.cat(parts, dim=1)


def pieces(more: Tensor, together: int) -> Iterable[Tensor]:
    """What is added to rows (S, D), so many after so many; where all get the same (1, D), that for ever."""
    return repeat(more) if len(more) == 1 else more.split(together)


def linear(grow: nn.ConvTranspose2d) -> Tensor:
    """The weight of a transposed 2x2 convolution of stride 2 as that of a linear layer: (C, 4 * out)."""
    return grow.weight.permute(0, 2, 3, 1).flatten(1)


def bias_of(grow: nn.ConvTranspose2d) -> Tensor:
    """(out,)."""
    return grow.get_parameter("bias")


def _grown(rows: Tensor, weight: Tensor, more: Tensor) -> Tensor:
    """(N, n, C) @ (C, D) + (1|N, 1|n, D)."""
    if len(more) == len(rows) == 1:
        return torch.addmm(more[0], rows[0], weight)[None]
    return more + rows @ weight
