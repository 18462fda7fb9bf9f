"""Position encodings: random Fourier features for prompts, sines for memory, rotations for memory attention."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from functools import lru_cache, wraps
from typing import TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Function = TypeVar("Function", bound=Callable[..., object])


def computed_once(most: int) -> Callable[[Function], Function]:
    """Decorates what always gives the same: the last `most` results are kept. PyTorch's compiler gets the steps themselves."""

    def decorate(function: Function) -> Function:
        kept = lru_cache(maxsize=most)(function)

        @wraps(function)
        def result(*arguments: Hashable) -> object:
            return function(*arguments) if torch.compiler.is_compiling() else kept(*arguments)

        return cast("Function", result)

    return decorate


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
    torch.zeros(1, dtype=torch.float32, device="cpu").sin()
    torch.zeros(1, dtype=torch.float32, device="cpu").cos()


@computed_once(4)
def sine_grid(width: int, rows: int, columns: int, device: torch.device, temperature: float = 10000.0) -> Tensor:
    """Sine position encodings of a grid, normalised to 2 pi: (C, H, W), the rows' half first.

    Source: Carion et al., DETR; https://github.com/facebookresearch/sam2/blob/main/sam2/modeling/position_encoding.py
    """
    half = width // 2
    y = torch.arange(1, rows + 1, device=device, dtype=torch.float32) / (rows + 1e-6) * 2 * math.pi
    x = torch.arange(1, columns + 1, device=device, dtype=torch.float32) / (columns + 1e-6) * 2 * math.pi
    period = temperature ** (2 * (torch.arange(half, device=device) // 2).float() / half)

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
    period = temperature ** (2 * (torch.arange(half, device=times.device) // 2).float() / half)
    angle = times[:, None] / period
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


@computed_once(4)
def axial_rotations(width: int, rows: int, columns: int, device: torch.device, theta: float = 10000.0) -> Tensor:
    """What turns pairs of channels by a grid cell's place, as cosine and sine: (H*W + 1, C/2, 2), columns' half first.

    The row behind the last cell turns nothing: it is for what lies nowhere.

    Sources: Su et al., RoFormer; Heo et al., "Rotary Position Embedding for Vision Transformer", section 3.2;
    https://github.com/facebookresearch/sam2/blob/main/sam2/modeling/position_encoding.py
    """
    frequency = 1.0 / theta ** (torch.arange(0, width, 4, device=device).float() / width)  # (C/4,)
    index = torch.arange(rows * columns, device=device)
    x, y = (index % columns).float(), (index // columns).float()
    angle = F.pad(torch.cat([torch.outer(x, frequency), torch.outer(y, frequency)], dim=-1), (0, 0, 0, 1))
    return torch.stack([angle.cos(), angle.sin()], dim=-1)


def rotate(x: Tensor, rotations: Tensor) -> Tensor:
    """Turns neighbouring channel pairs of (..., T, d) by (T, d/2, 2)."""
    pairs = x.float().unflatten(-1, (-1, 2))
    if torch.compiler.is_compiling():  # the compiler joins these steps, but knows no complex numbers
        (a, b), (cosine, sine) = pairs.unbind(-1), rotations.unbind(-1)
        turned = torch.stack([a * cosine - b * sine, a * sine + b * cosine], dim=-1)
    else:
        turned = torch.view_as_real(torch.view_as_complex(pairs) * torch.view_as_complex(rotations))
    return turned.flatten(-2).to(x.dtype)
