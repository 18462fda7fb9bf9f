"""Cutting a map into square windows and putting it together again."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def window_partition(x: Tensor, size: int) -> tuple[Tensor, tuple[int, int]]:
    """(B, H, W, C) -> (B * windows, size, size, C) and the padded (H, W); zeros are added below and to the right."""
    batch, height, width, channels = x.shape
    down, right = -height % size, -width % size
    if down or right:
        x = F.pad(x, (0, 0, 0, right, 0, down))
    padded = height + down, width + right
    x = x.view(batch, padded[0] // size, size, padded[1] // size, size, channels)
    return x.transpose(2, 3).reshape(-1, size, size, channels), padded


def window_unpartition(windows: Tensor, size: int, padded: tuple[int, int], shape: tuple[int, int]) -> Tensor:
    """The inverse of `window_partition`: (B * windows, size, size, C) -> (B, H, W, C), padding cut off."""
    rows, columns = padded[0] // size, padded[1] // size
    x = windows.view(-1, rows, columns, size, size, windows.shape[-1]).transpose(2, 3)
    return x.reshape(-1, *padded, windows.shape[-1])[:, : shape[0], : shape[1]]
