"""Position encodings: random Fourier features for prompts, sines for memory, rotations for memory attention."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor, nn


class FourierPositions(nn.Module):
    """Points in the unit square to random Fourier features.

    Sources: Tancik et al., "Fourier Features Let Networks Learn High Frequency Functions", section 3; SAM paper, appendix A
    ("Prompt encoder"); https://github.com/facebookresearch/segment-anything/blob/main/segment_anything/modeling/prompt_encoder.py
    """

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, width // 2))

    def forward(self, xy: Tensor) -> Tensor:
        """(..., 2) in [0, 1] -> (..., C)."""
        x, y = (2 * xy - 1).split(1, dim=-1)
        matrix = self.positional_encoding_gaussian_matrix
        angle = 2 * math.pi * (x * matrix[0] + y * matrix[1])  # no matrix product: autocast would round it to bfloat16
        return torch.cat([angle.sin(), angle.cos()], dim=-1)

    def grid(self, height: int, width: int) -> Tensor:
        """The encodings of the centres of a grid's cells: (C, H, W)."""
        matrix = self.positional_encoding_gaussian_matrix
        y = (torch.arange(height, device=matrix.device, dtype=matrix.dtype) + 0.5) / height
        x = (torch.arange(width, device=matrix.device, dtype=matrix.dtype) + 0.5) / width
        yy, xx = torch.meshgrid(y, x, indexing="ij")
        return self(torch.stack([xx, yy], dim=-1)).permute(2, 0, 1)  # (C, H, W)


def wake_sines() -> None:
    """Computes a first sine and cosine on one thread.

    With PyTorch's CPU builds the first one of a process, if two threads share it, may come out with an error of 1.5e-4: MKL
    is still choosing its kernel. Every later one is right.
    """
    torch.zeros(1).sin()
    torch.zeros(1).cos()


@lru_cache(maxsize=4)
def sine_grid(width: int, rows: int, columns: int, device: torch.device, temperature: float = 10000.0) -> Tensor:
    """Sine position encodings of a grid, normalised to 2 pi: (C, H, W), the rows' half first.

    Source: Carion et al., DETR; https://github.com/facebookresearch/sam2/blob/main/sam2/modeling/position_encoding.py
    """
    half = width // 2
    y = torch.arange(1, rows + 1, device=device, dtype=torch.float32) / (rows + 1e-6) * 2 * math.pi
    x = torch.arange(1, columns + 1, device=device, dtype=torch.float32) / (columns + 1e-6) * 2 * math.pi
    period = temperature ** (2 * (torch.arange(half, device=device) // 2) / half)

    def encode(position: Tensor) -> Tensor:
        angle = position[:, None] / period  # (T, half)
        return torch.stack([angle[:, 0::2].sin(), angle[:, 1::2].cos()], dim=2).flatten(1)

    grid_y = encode(y)[:, None].expand(rows, columns, half)
    grid_x = encode(x)[None].expand(rows, columns, half)
    return torch.cat([grid_y, grid_x], dim=2).permute(2, 0, 1)  # (C, H, W)


def sine_times(times: Tensor, width: int, temperature: float = 10000.0) -> Tensor:
    """Sine encodings of points in time: (T,) -> (T, width), sines first.

    Source: https://github.com/facebookresearch/sam2/blob/main/sam2/modeling/sam2_utils.py (get_1d_sine_pe)
    """
    half = width // 2
    period = temperature ** (2 * (torch.arange(half, device=times.device) // 2) / half)
    angle = times[:, None] / period
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


@lru_cache(maxsize=4)
def axial_rotations(width: int, rows: int, columns: int, device: torch.device, theta: float = 10000.0) -> Tensor:
    """Unit complex numbers that rotate pairs of channels by a grid cell's place: (H*W, C/2), columns' half first.

    Sources: Su et al., RoFormer; Heo et al., "Rotary Position Embedding for Vision Transformer", section 3.2;
    https://github.com/facebookresearch/sam2/blob/main/sam2/modeling/position_encoding.py
    """
    frequency = 1.0 / theta ** (torch.arange(0, width, 4, device=device).float() / width)  # (C/4,)
    index = torch.arange(rows * columns, device=device)
    x, y = (index % columns).float(), (index // columns).float()
    angle = torch.cat([torch.outer(x, frequency), torch.outer(y, frequency)], dim=-1)
    return torch.polar(torch.ones_like(angle), angle)


def rotate(x: Tensor, rotations: Tensor) -> Tensor:
    """Rotates neighbouring channel pairs of (..., T, d) by (T, d/2)."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * rotations).flatten(-2).to(x.dtype)
