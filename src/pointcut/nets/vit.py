"""SAM 1's image encoder: a plain vision transformer with windowed attention and decomposed relative positions.

Sources: Li et al., "Exploring Plain Vision Transformer Backbones for Object Detection" (ViTDet), section 3; Li et al.,
"MViTv2", section 4.1 (relative positions);
https://github.com/facebookresearch/segment-anything/blob/main/segment_anything/modeling/image_encoder.py

Letters: B batch (times windows), H and W rows and columns of the map or window, C channels, h heads, d channels of a head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import MANY_KEYS, MLP, LayerNorm2d, fused_is_slow, plain_attention
from .windows import window_partition, window_unpartition


@dataclass(frozen=True)
class ViTConfig:
    """A size of the vision transformer: one row of a table."""

    width: int = 768
    depth: int = 12
    heads: int = 12
    global_blocks: tuple[int, ...] = (2, 5, 8, 11)
    window: int = 14
    patch: int = 16


def distances(side: int, device: torch.device) -> Tensor:
    """How far key k lies before query q, as a row of a table that begins with the farthest: (q, k)."""
    index = torch.arange(side, device=device)
    return index[:, None] - index[None, :] + side - 1


class RelativeAttention(nn.Module):
    """Self-attention whose scores also depend on how far apart two cells are, per axis."""

    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, width // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, width // heads))

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, channels = x.shape
        qkv = self.qkv(x).flatten(1, 2).unflatten(2, (3, self.heads, -1))  # (B, H*W, 3, h, d)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # three of (B, h, H*W, d)
        grid = q.unflatten(2, (height, width))  # (B, h, H, W, d)
        rows = torch.einsum("bnyxd,ykd->bnyxk", grid, self.rel_pos_h[distances(height, x.device)])  # (B, h, H, W, H of keys)
        columns = torch.einsum("bnyxd,xkd->bnyxk", grid, self.rel_pos_w[distances(width, x.device)])  # (B, h, H, W, W of keys)
        if k.shape[2] >= MANY_KEYS and fused_is_slow(q, k):  # in windows the bias costs as much as is gained
            out = plain_attention(q, k, v, bias=(rows.flatten(2, 3), columns.flatten(2, 3)))
        else:
            out = self._fused(q, k, v, rows, columns)
        out = out.transpose(1, 2)  # (B, H*W, h, d)
        return self.proj(out.reshape(batch, height, width, channels))

    def _fused(self, q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """One head at a time where the map is large: the scores' bias alone is 64 MB a head at 64x64."""
        step = self.heads if q.shape[2] <= 1024 else 1
        parts = []
        for i in range(0, self.heads, step):
            s = slice(i, i + step)
            bias = rows[:, s, ..., :, None] + columns[:, s, ..., None, :]  # (B, step, H, W, H of keys, W of keys)
            bias = bias.flatten(4).flatten(2, 3)
            parts.append(F.scaled_dot_product_attention(q[:, s], k[:, s], v[:, s], attn_mask=bias))
        return torch.cat(parts, dim=1)


class Block(nn.Module):
    """A transformer block, over windows or the whole map."""

    def __init__(self, width: int, heads: int, window: int, side: int) -> None:
        super().__init__()
        self.window = window
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = RelativeAttention(width, heads, window or side)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = MLP(width, 4 * width, width, 2, nn.GELU)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        if self.window:
            windows, padded = window_partition(y, self.window)
            y = window_unpartition(self.attn(windows), self.window, padded, (x.shape[1], x.shape[2]))
        else:
            y = self.attn(y)
        x = x + y
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    """Patches side by side."""

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).permute(0, 2, 3, 1)  # (B, H, W, C)


def neck(width: int, width_out: int) -> nn.Sequential:
    """The last map to the embedding's width: what SAM's image encoders end with."""
    return nn.Sequential(
        nn.Conv2d(width, width_out, 1, bias=False),
        LayerNorm2d(width_out),
        nn.Conv2d(width_out, width_out, 3, padding=1, bias=False),
        LayerNorm2d(width_out),
    )


class ViT(nn.Module):
    """Pixels (B, 3, S, S) to an embedding (B, 256, S/16, S/16)."""

    def __init__(self, config: ViTConfig, width_out: int, input_size: int) -> None:
        super().__init__()
        side = input_size // config.patch
        self.patch_embed = PatchEmbed(config.width, config.patch)
        self.pos_embed = nn.Parameter(torch.zeros(1, side, side, config.width))
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, 0 if i in config.global_blocks else config.window, side)
            for i in range(config.depth)
        )
        self.neck = neck(config.width, width_out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.neck(x.permute(0, 3, 1, 2))
