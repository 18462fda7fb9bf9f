"""The last part of the mask decoder: each cell becomes sixteen, and a mask is a token's product with them.

A transposed convolution whose stride is its size is a linear layer per cell. Its outputs are left where they are, cell by cell
and quarter by quarter (cells.py), so nothing is moved before the finished masks.

Letters: N prompts, K masks, S cells of the image, n of them, C channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .layers import LayerNorm2d
from .processor import added, infers_on_cpu, product

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
        weight, more = linear(self.grow1), more.expand(len(cells), -1)
        for some, extra in zip(cells.split(together), more.split(together), strict=True):
            yield _grown(some, weight, extra)

    def parts(self, quarters: Tensor, more: Tensor, masks: Tensor) -> Tensor:
        """Quarters (N, n, C) -> the logits of each cell's sixteen parts (N, K, 16n).

        more: what is added to the quarters' quarters (1|N, 1|4n, C/2). masks: the masks' own rows (N, K, C/8).
        """
        return masks @ self._sixteenths(quarters, linear(self.grow2), more).transpose(1, 2)

    def parts_of_one(self, quarters: Iterable[Tensor], more: Iterable[Tensor], masks: Tensor) -> Tensor:
        """The same for one prompt, some cells after others: (n, C), (4n, C/2), (K, C/8) -> (K, 16S)."""
        weight = linear(self.grow2)
        each = zip(quarters, more, strict=True)
        return torch.cat([product(masks, self._sixteenths(some, weight, extra).T) for some, extra in each], dim=1)

    def _sixteenths(self, quarters: Tensor, weight: Tensor, more: Tensor) -> Tensor:
        """(..., n, C), the second layer's weight (C/4, C/2), and what is added to it -> (..., 16n, C/8)."""
        x = _activated(self.act1, self.norm.rows(quarters.reshape(*quarters.shape[:-2], -1, len(weight))))  # (..., 4n, C/4)
        x = _activated(self.act2, _grown(x, weight, more))
        return x.reshape(*x.shape[:-2], -1, x.shape[-1] // 4)


def linear(grow: nn.ConvTranspose2d) -> Tensor:
    """The weight of a transposed 2x2 convolution of stride 2 as that of a linear layer: (C, 4 * out)."""
    return grow.weight.permute(0, 2, 3, 1).flatten(1)


def bias_of(grow: nn.ConvTranspose2d) -> Tensor:
    """(out,)."""
    return grow.get_parameter("bias")


def _grown(rows: Tensor, weight: Tensor, more: Tensor) -> Tensor:
    """(N, n, C) @ (C, D) + (1|N, 1|n, D), or without N."""
    if rows.ndim == 2:  # far faster than a batch of one
        return added(more, rows, weight)
    return more + rows @ weight


def _activated(act: nn.GELU, x: Tensor) -> Tensor:
    """In its place where that may be: a second piece of memory would push the first out of a processor's cache."""
    return torch.ops.aten.gelu_(x) if infers_on_cpu(x) else act(x)
