"""SAM 2's memory: how a mask of one frame is remembered and how the next frame attends to it.

Sources: SAM 2 paper, section 4 and appendix D;
https://github.com/facebookresearch/sam2/blob/main/sam2/modeling/memory_attention.py and memory_encoder.py

Letters: B objects, S cells of the frame, M cells of memory (and object pointers behind them), C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import MLP, Attention, Fuser, LayerNorm2d
from .positions import axial_rotations, rotate, sine_grid


@dataclass(frozen=True)
class MemoryConfig:
    """How a family remembers."""

    width: int = 256
    memory_width: int = 64
    slots: int = 7
    """Frames in the bank, the prompted one among them."""
    attention_depth: int = 4
    mlp_width: int = 2048
    embeds_absence: bool = True
    """SAM 2.1: a memory says when its object was not in the frame (`no_obj_embed_spatial`)."""
    pointer_times: bool = True
    """SAM 2.1: object pointers carry their distance in time, projected (`obj_ptr_tpos_proj`)."""


class RotaryAttention(Attention):
    """Attention whose queries and keys are rotated by their place in the grid."""

    def forward_placed(self, q: Tensor, k: Tensor, v: Tensor, rotations: Tensor, unplaced: int = 0) -> Tensor:
        """`rotations` is (S, d/2); keys hold whole grids of S cells, then `unplaced` ones that are not rotated."""
        q, k, v = self.split(self.q_proj(q)), self.split(self.k_proj(k)), self.split(self.v_proj(v))  # (B, 1, S|M, d)
        placed = k.shape[2] - unplaced
        grids = placed // rotations.shape[0]
        k = torch.cat([rotate(k[:, :, :placed], rotations.repeat(grids, 1)), k[:, :, placed:]], dim=2)
        x = F.scaled_dot_product_attention(rotate(q, rotations), k, v)
        return self.out_proj(x.transpose(1, 2).flatten(2))


class MemoryAttentionLayer(nn.Module):
    """The frame attends to itself, then to the memory, then passes an MLP; norms come first."""

    def __init__(self, config: MemoryConfig) -> None:
        super().__init__()
        width = config.width
        self.self_attn = RotaryAttention(width, heads=1)
        self.cross_attn_image = RotaryAttention(width, heads=1, key_value_width=config.memory_width)
        self.linear1 = nn.Linear(width, config.mlp_width)
        self.linear2 = nn.Linear(config.mlp_width, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)

    def forward(self, x: Tensor, memory: Tensor, memory_positions: Tensor, rotations: Tensor, pointers: int) -> Tensor:
        y = self.norm1(x)
        x = x + self.self_attn.forward_placed(y, y, y, rotations)
        y = self.norm2(x)
        x = x + self.cross_attn_image.forward_placed(y, memory + memory_positions, memory, rotations, pointers)
        return x + self.linear2(F.relu(self.linear1(self.norm3(x))))


class MemoryAttention(nn.Module):
    """A frame's cells, conditioned on the memory."""

    def __init__(self, config: MemoryConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(MemoryAttentionLayer(config) for _ in range(config.attention_depth))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, cells: Tensor, positions: Tensor, memory: Tensor, memory_positions: Tensor, pointers: int) -> Tensor:
        """(B, S, C) cells and positions, (B, M, C_mem) memory and positions, the last `pointers` of them pointer tokens."""
        side = int(cells.shape[1] ** 0.5)
        rotations = axial_rotations(cells.shape[2], side, side, cells.device)
        x = cells + 0.1 * positions
        for layer in self.layers:
            x = layer(x, memory, memory_positions, rotations, pointers)
        return self.norm(x)


class MaskDownsampler(nn.Module):
    """A full-size mask (B, 1, 16h, 16w) to (B, C, h, w): four halvings, channels times four at each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for _ in range(4):
            layers += [nn.Conv2d(channels, 4 * channels, 3, stride=2, padding=1), LayerNorm2d(4 * channels), nn.GELU()]
            channels *= 4
        layers.append(nn.Conv2d(channels, width, 1))
        self.encoder = nn.Sequential(*layers)

    def forward(self, mask: Tensor) -> Tensor:
        return self.encoder(mask)


class MemoryEncoder(nn.Module):
    """A frame's features and its mask to one memory."""

    def __init__(self, config: MemoryConfig) -> None:
        super().__init__()
        self.memory_width = config.memory_width
        self.mask_downsampler = MaskDownsampler(config.width)
        self.pix_feat_proj = nn.Conv2d(config.width, config.width, 1)
        self.fuser = Fuser(config.width, depth=2)
        self.out_proj = nn.Conv2d(config.width, config.memory_width, 1)

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, h, w) and (B, 1, 16h, 16w), already scaled for memory -> memory and its positions, (B|1, C_mem, h, w)."""
        x = self.pix_feat_proj(features) + self.mask_downsampler(mask)
        x = self.out_proj(self.fuser(x))
        return x, sine_grid(self.memory_width, x.shape[2], x.shape[3], x.device)[None]


class Memory(nn.Module):
    """The parts that a tracker needs beside the image network, as the published checkpoints hold them."""

    def __init__(self, config: MemoryConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.memory_attention = MemoryAttention(config)
        self.memory_encoder = MemoryEncoder(config)
        self.maskmem_tpos_enc = nn.Parameter(torch.zeros(config.slots, 1, 1, config.memory_width))
        self.no_mem_pos_enc = nn.Parameter(torch.zeros(1, 1, width))
        self.no_obj_ptr = nn.Parameter(torch.zeros(1, width))
        self.mask_downsample = nn.Conv2d(1, 1, 4, stride=4)
        self.obj_ptr_proj = MLP(width, width, width, 3)
        if config.embeds_absence:
            self.no_obj_embed_spatial = nn.Parameter(torch.zeros(1, config.memory_width))
        if config.pointer_times:
            self.obj_ptr_tpos_proj = nn.Linear(width, config.memory_width)
