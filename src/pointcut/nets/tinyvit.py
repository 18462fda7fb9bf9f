"""MobileSAM's image encoder: Tiny Vision Transformer, convolutions first, then attention in windows.

Sources: Wu et al., "TinyViT: Fast Pretraining Distillation for Small Vision Transformers", section 3.3; Zhang et al., "Faster
Segment Anything" (MobileSAM); https://github.com/ChaoningZhang/MobileSAM/blob/master/mobile_sam/modeling/tiny_vit_sam.py

Maps are channels last between blocks. Letters: B batch (times windows), H and W rows and columns of the map or window,
C channels, h heads, d channels of a head, T cells of a window.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import MLP, ConvNorm, bake_convolutions
from .vit import neck
from .windows import window_partition, window_unpartition


@dataclass(frozen=True)
class TinyViTConfig:
    """A size of TinyViT: one row of a table. The first of four stages is of convolutions, the others attend in windows."""

    widths: tuple[int, int, int, int] = (64, 128, 160, 320)
    depths: tuple[int, int, int, int] = (2, 2, 6, 2)
    heads: tuple[int, int, int] = (4, 5, 10)
    windows: tuple[int, int, int] = (7, 14, 7)


class MBConv(nn.Module):
    """Widen, look around, narrow, with a shortcut. Source: Sandler et al., "MobileNetV2", figure 3."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(width, 4 * width, kernel=1)
        self.conv2 = ConvNorm(4 * width, 4 * width, groups=4 * width)
        self.conv3 = ConvNorm(4 * width, width, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.gelu(self.conv2(F.gelu(self.conv1(x))))
        return F.gelu(self.conv3(y) + x)


class Merging(nn.Module):
    """Widens the map, and halves it with a stride of 2."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(width_in, width, kernel=1)
        self.conv2 = ConvNorm(width, width, stride, groups=width)
        self.conv3 = ConvNorm(width, width, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))


class WindowAttention(nn.Module):
    """Self-attention of a window's cells, with a learnt bias for each distance in rows and columns."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window**2))
        """Rows apart times the window's side, plus columns apart."""

    def bias(self) -> Tensor:
        """(h, T, T)."""
        index = torch.arange(self.window, device=self.attention_biases.device)
        apart = (index[:, None] - index).abs()
        table = apart[:, None, :, None] * self.window + apart[None, :, None, :]  # (H, W, H of keys, W of keys)
        return self.attention_biases[:, table.flatten(2).flatten(0, 1)]

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        qkv = self.qkv(self.norm(x)).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, h, T, 3 * d)
        q, k, v = qkv.chunk(3, dim=-1)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=self.bias())
        return self.proj(out.transpose(1, 2).flatten(2))


class NormedMLP(MLP):
    """A normalisation and an MLP."""

    def __init__(self, width: int) -> None:
        super().__init__(width, 4 * width, width, 2, nn.GELU)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.norm(x))


class Block(nn.Module):
    """Attention in windows, a convolution, an MLP. What fills up the last windows is attended to, as in the reference."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.attn = WindowAttention(width, heads, window)
        self.local_conv = ConvNorm(width, width, groups=width)
        self.mlp = NormedMLP(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        size = self.attn.window
        windows, padded = window_partition(x, size)
        windows = self.attn(windows.flatten(1, 2))
        x = x + window_unpartition(windows, size, padded, (x.shape[1], x.shape[2]))
        x = self.local_conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x + self.mlp(x)


class Stage(nn.Module):
    """Blocks, and the step to the next stage's width."""

    def __init__(self, blocks: list[nn.Module], downsample: Merging | None) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.downsample: nn.Module = downsample or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Blocks that attend: (B, C, H, W) -> the same, or half as high and wide."""
        return self.downsample(self.blocks(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))


class ConvStage(Stage):
    """The same, of convolutions alone."""

    def forward(self, x: Tensor) -> Tensor:
        return self.downsample(self.blocks(x))


class Stem(nn.Module):
    """Pixels to a map of a quarter of their size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(ConvNorm(3, width // 2, 2), nn.GELU(), ConvNorm(width // 2, width, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.seq(x)


class TinyViT(nn.Module):
    """Pixels (B, 3, S, S) to an embedding (B, 256, S/16, S/16): the last step widens the map without halving it."""

    def __init__(self, config: TinyViTConfig, width_out: int) -> None:
        super().__init__()
        widths = config.widths
        self.patch_embed = Stem(widths[0])
        steps = [Merging(a, b, stride) for (a, b), stride in zip(pairwise(widths), (2, 2, 1), strict=True)]
        stages: list[Stage] = [ConvStage([MBConv(widths[0]) for _ in range(config.depths[0])], steps[0])]
        rows = zip(widths[1:], config.depths[1:], config.heads, config.windows, (*steps[1:], None), strict=True)
        for width, depth, heads, window, step in rows:
            stages.append(Stage([Block(width, heads, window) for _ in range(depth)], step))
        self.layers = nn.Sequential(*stages)
        self.neck = neck(widths[-1], width_out)

    def bake(self) -> None:
        """Folds every normalisation of a batch into its convolution."""
        bake_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x.to(memory_format=torch.channels_last))
        return self.neck(self.layers(x))
