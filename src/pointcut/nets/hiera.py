"""Hiera, the hierarchical vision transformer that SAM 2 uses as its trunk.

Sources: Ryali et al., "Hiera"; Bolya et al., "Window Attention is Bugged" (the position embedding);
https://github.com/facebookresearch/sam2/blob/main/sam2/modeling/backbones/hieradet.py

Tokens are kept in cell order (cells.py) from the first layer to the last: the windows of the first two stages are then runs of
tokens, a stage's pooling joins four neighbours, and nothing is rearranged where the maps are largest. Those windows do not see
one another before the third stage, so on a CPU a few of them pass all layers at a time and stay in the processor's cache.

Letters: B batch, G windows or whole maps that are attended to on their own, T their tokens, C channels, h heads, d channels of
a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cells import Windows, halve, spread, to_parts, windows_of
from .layers import MLP, attend, by_rows
from .processor import infers_on_cpu

HALVINGS = 3
"""Between the first stage's map and the last's, whose tokens are the cells."""

LOCAL_CELLS = 128
"""Cells that pass the first stages together on a CPU."""


@dataclass(frozen=True)
class HieraConfig:
    """A size of Hiera: one row of a table."""

    width: int = 96
    heads: int = 1
    stages: tuple[int, int, int, int] = (1, 2, 7, 2)
    global_blocks: tuple[int, ...] = (5, 7, 9)
    windows: tuple[int, int, int, int] = (8, 4, 14, 7)
    """In tokens of the stage; the first two are one cell, as in every published model."""
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
        return self.proj(x.contiguous(memory_format=torch.channels_last))


class MultiScaleAttention(nn.Module):
    """Self-attention over maps or windows; pooled queries halve their size."""

    def __init__(self, width: int, width_out: int, heads: int, pooled: bool) -> None:
        super().__init__()
        self.heads = heads
        self.pooled = pooled
        self.qkv = nn.Linear(width, 3 * width_out)
        self.proj = nn.Linear(width_out, width_out)

    def forward(self, x: Tensor, windows: tuple[Windows, Windows] | None) -> Tensor:
        """(G, T, C) -> (G, T or T/4, C_out). `windows`: where keys and where queries lie, if each map is to be cut."""
        batch = len(x)
        if windows is not None:
            x = F.pad(x, (0, 0, 0, 1))  # what hangs over the edge is attended to as well
        qkv = self.qkv(x)
        width = qkv.shape[2] // 3
        if self.pooled:
            q, kv = halve(qkv[:, : x.shape[1] // 4 * 4, :width]), qkv[..., width:]
            if windows is not None:
                q, kv = windows[1].cut(F.pad(q, (0, 0, 0, 1))), windows[0].cut(kv)
            k, v = kv.chunk(2, dim=-1)
        else:
            q, k, v = (qkv if windows is None else windows[0].cut(qkv)).chunk(3, dim=-1)
        q, k, v = (y.unflatten(2, (self.heads, -1)).transpose(1, 2) for y in (q, k, v))  # (G, h, T, d)
        x = attend(q, k, v).transpose(1, 2).flatten(2)
        return self.proj(x if windows is None else windows[1].join(x, batch))


class MultiScaleBlock(nn.Module):
    """A transformer block; the first of a stage doubles the channels and halves the map."""

    def __init__(self, width: int, width_out: int, heads: int, pooled: bool) -> None:
        super().__init__()
        self.pooled = pooled
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = MultiScaleAttention(width, width_out, heads, pooled)
        self.norm2 = nn.LayerNorm(width_out, eps=1e-6)
        self.mlp = MLP(width_out, 4 * width_out, width_out, 2, nn.GELU)
        if width != width_out:
            self.proj = nn.Linear(width, width_out)
        self.widens = width != width_out

    def forward(self, x: Tensor, windows: tuple[Windows, Windows] | None = None) -> Tensor:
        """(G, T, C) -> (G, T or T/4, C_out)."""
        shortcut = x
        x = self.norm1(x)
        if self.widens:
            shortcut = self.proj(x)
            if self.pooled:
                shortcut = halve(shortcut)
        x = shortcut + self.attn(x, windows)
        return by_rows(lambda rows: rows + self.mlp(self.norm2(rows)), x)


class Hiera(nn.Module):
    """The trunk: pixels to four maps, at 1/4, 1/8, 1/16 and 1/32 of their size."""

    def __init__(self, config: HieraConfig) -> None:
        super().__init__()
        if config.windows[:2] != (8, 4):
            raise ValueError(f"the first windows must be 8 and 4 tokens wide: one cell; got {config.windows}")
        self.patch_embed = PatchEmbed(config.width)
        self.pos_embed = nn.Parameter(torch.zeros(1, config.width, *config.background))
        self.pos_embed_window = nn.Parameter(torch.zeros(1, config.width, 8, 8))
        self.register_buffer("baked_positions", None, persistent=False)
        self.baked_positions: Tensor | None

        self.stage_ends = [n - 1 for n in accumulate(config.stages)]
        self.local_blocks = self.stage_ends[1] + 2
        """How many blocks see one cell at a time: two stages, and the next one's first, which still has their windows."""
        self.window_of: dict[int, int] = {}
        """Of each of the later blocks that cut the map: the side of their windows, in tokens that go in."""
        blocks = []
        width, heads, stage = config.width, config.heads, 0
        for i in range(sum(config.stages)):
            # The first block of a stage still works in the windows of the stage before: it pools at its end.
            if i >= self.local_blocks and i not in config.global_blocks:
                self.window_of[i] = config.windows[stage]
            first = i - 1 in self.stage_ends
            width_out = 2 * width if first else width
            if first:
                heads, stage = 2 * heads, stage + 1
            blocks.append(MultiScaleBlock(width, width_out, heads, pooled=first))
            width = width_out
        self.blocks = nn.ModuleList(blocks)

    def positions(self, cells: tuple[int, int]) -> Tensor:
        """The position embedding of the first map: (1, T, C)."""
        rows, columns = cells
        if self.baked_positions is not None and self.baked_positions.shape[1] == rows * columns * 4**HALVINGS:
            return self.baked_positions
        coarse = F.interpolate(self.pos_embed, size=(8 * rows, 8 * columns), mode="bicubic")
        return to_parts(coarse + self.pos_embed_window.tile(1, 1, rows, columns), HALVINGS)

    def bake(self, input_size: int) -> None:
        """Computes the position embedding of the one input size once and for all."""
        side = input_size // 32
        self.baked_positions = self.positions((side, side)).detach().contiguous()

    def forward(self, pixels: Tensor, heads: Sequence[nn.Conv2d]) -> list[Tensor]:
        """(B, 3, H, W), both multiples of 32 -> four maps (B, C_head, H / 2^k, W / 2^k), finest first.

        `heads` are the 1x1 convolutions that each stage's map passes: fewer channels leave than were computed.
        """
        batch = len(pixels)
        cells = pixels.shape[2] // 32, pixels.shape[3] // 32
        x = to_parts(self.patch_embed(pixels), HALVINGS)
        x = x + self.positions(cells)
        x = x.reshape(-1, 4**HALVINGS, x.shape[2])  # (B * cells, 64, C)
        alone = infers_on_cpu(x)
        parts = [self._local(some, heads) for some in x.split(LOCAL_CELLS if alone else len(x))]
        fine, middle, x = (torch.cat(part).reshape(batch, -1, part[0].shape[2]) for part in zip(*parts, strict=True))
        maps = [fine, middle]
        for i in range(self.local_blocks, len(self.blocks)):
            x = self.blocks[i](x, self._windows(i, cells, x.device))
            if i in self.stage_ends:
                maps.append(projected(x, heads[len(maps)]))
        return [spread(x, cells, HALVINGS - i) for i, x in enumerate(maps)]

    def _local(self, x: Tensor, heads: Sequence[nn.Conv2d]) -> tuple[Tensor, ...]:
        """The first blocks on some cells (G, 64, C) -> what the first two heads give (G, 64 and 16, C_head), (G, 4, 4C)."""
        out: list[Tensor] = []
        for i in range(self.local_blocks):
            x = self.blocks[i](x)
            if i in self.stage_ends:
                out.append(projected(x, heads[len(out)]))
        return *out, x

    def _windows(self, block: int, cells: tuple[int, int], device: torch.device) -> tuple[Windows, Windows] | None:
        """Where a later block's keys and queries lie; None if it sees the whole map."""
        if block not in self.window_of:
            return None
        side = self.window_of[block]
        halvings = HALVINGS - sum(end < block for end in self.stage_ends)
        if not self.blocks[block].pooled:
            same = windows_of(cells, halvings, side, device)
            return same, same
        return windows_of(cells, halvings + 1, side, device), windows_of(cells, halvings, side // 2, device)


def projected(rows: Tensor, head: nn.Conv2d) -> Tensor:
    """A 1x1 convolution on rows: (N, T, C) -> (N, T, C_head)."""
    return F.linear(rows, head.weight.flatten(1), head.bias)
