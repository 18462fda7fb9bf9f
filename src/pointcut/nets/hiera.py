"""Hiera, the hierarchical vision transformer that SAM 2 uses as its trunk.

Sources: Ryali et al., "Hiera"; Bolya et al., "Window Attention is Bugged" (the position embedding);
https://github.com/facebookresearch/sam2/blob/main/sam2/modeling/backbones/hieradet.py

Letters: B batch, H and W rows and columns of the map, C channels, h heads, d channels of a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import MLP
from .windows import window_partition, window_unpartition


@dataclass(frozen=True)
class HieraConfig:
    """A size of Hiera: one row of a table."""

    width: int = 96
    heads: int = 1
    stages: tuple[int, int, int, int] = (1, 2, 7, 2)
    global_blocks: tuple[int, ...] = (5, 7, 9)
    windows: tuple[int, int, int, int] = (8, 4, 14, 7)
    background: tuple[int, int] = (7, 7)
    """The size of the coarse grid of position embeddings, which is stretched over the image."""

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels after each stage, finest first."""
        return tuple(self.width * 2**i for i in range(4))


class PatchEmbed(nn.Module):
    """Overlapping 7x7 patches, four pixels apart."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, 7, stride=4, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).permute(0, 2, 3, 1)  # (B, H, W, C)


def pool(x: Tensor) -> Tensor:
    """Halves a (B, H, W, C) map by the maximum of 2x2."""
    return F.max_pool2d(x.permute(0, 3, 1, 2), 2, 2).permute(0, 2, 3, 1)


class MultiScaleAttention(nn.Module):
    """Self-attention over a map or window; pooled queries halve its size."""

    def __init__(self, width: int, width_out: int, heads: int, pooled: bool) -> None:
        super().__init__()
        self.heads = heads
        self.pooled = pooled
        self.qkv = nn.Linear(width, 3 * width_out)
        self.proj = nn.Linear(width_out, width_out)

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, _ = x.shape
        q, k, v = self.qkv(x).flatten(1, 2).unflatten(2, (3, self.heads, -1)).unbind(2)  # three of (B, H*W, h, d)
        if self.pooled:
            q = pool(q.flatten(2).unflatten(1, (height, width)))
            height, width = q.shape[1:3]
            q = q.flatten(1, 2).unflatten(2, (self.heads, -1))
        x = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))  # (B, h, H*W, d)
        return self.proj(x.transpose(1, 2).reshape(batch, height, width, -1))


class MultiScaleBlock(nn.Module):
    """A transformer block; the first of a stage doubles the channels and halves the map."""

    def __init__(self, width: int, width_out: int, heads: int, window: int, pooled: bool) -> None:
        super().__init__()
        self.window = window
        self.pooled = pooled
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = MultiScaleAttention(width, width_out, heads, pooled)
        self.norm2 = nn.LayerNorm(width_out, eps=1e-6)
        self.mlp = MLP(width_out, 4 * width_out, width_out, 2, nn.GELU)
        if width != width_out:
            self.proj = nn.Linear(width, width_out)
        self.widens = width != width_out

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x
        x = self.norm1(x)
        if self.widens:
            shortcut = self.proj(x)
            if self.pooled:
                shortcut = pool(shortcut)
        if not self.window:
            x = self.attn(x)
        else:
            windows, padded = window_partition(x, self.window)
            windows = self.attn(windows)
            size = self.window
            if self.pooled:
                size, padded = size // 2, (padded[0] // 2, padded[1] // 2)
            x = window_unpartition(windows, size, padded, (shortcut.shape[1], shortcut.shape[2]))
        x = shortcut + x
        return x + self.mlp(self.norm2(x))


class Hiera(nn.Module):
    """The trunk: pixels to four maps, at 1/4, 1/8, 1/16 and 1/32 of their size."""

    def __init__(self, config: HieraConfig) -> None:
        super().__init__()
        self.stage_ends = [n - 1 for n in accumulate(config.stages)]
        self.patch_embed = PatchEmbed(config.width)
        self.pos_embed = nn.Parameter(torch.zeros(1, config.width, *config.background))
        self.pos_embed_window = nn.Parameter(torch.zeros(1, config.width, config.windows[0], config.windows[0]))
        self.register_buffer("baked_positions", None, persistent=False)
        self.baked_positions: Tensor | None

        blocks = []
        width, heads, stage = config.width, config.heads, 0
        for i in range(sum(config.stages)):
            # The first block of a stage still works in the windows of the stage before: it pools at its end.
            window = 0 if i in config.global_blocks else config.windows[stage]
            first = i - 1 in self.stage_ends
            width_out = 2 * width if first else width
            if first:
                heads, stage = 2 * heads, stage + 1
            blocks.append(MultiScaleBlock(width, width_out, heads, window, pooled=first))
            width = width_out
        self.blocks = nn.ModuleList(blocks)

    def positions(self, height: int, width: int) -> Tensor:
        """The position embedding of a map: (1, H, W, C)."""
        baked = self.baked_positions
        if baked is not None and baked.shape[1:3] == (height, width):
            return baked
        coarse = F.interpolate(self.pos_embed, size=(height, width), mode="bicubic")
        window = self.pos_embed_window
        tiled = window.tile(1, 1, height // window.shape[2], width // window.shape[3])
        return (coarse + tiled).permute(0, 2, 3, 1)

    def bake(self, input_size: int) -> None:
        """Computes the position embedding of the one input size once and for all."""
        self.baked_positions = self.positions(input_size // 4, input_size // 4).detach().contiguous()

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.patch_embed(x)
        x = x + self.positions(x.shape[1], x.shape[2])
        maps = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in self.stage_ends:
                maps.append(x.permute(0, 3, 1, 2))  # (B, C, H, W)
        return maps
