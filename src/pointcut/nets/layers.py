"""Layers that several networks share.

Letters in shape comments: B batch, T tokens of one sequence, S tokens of the other, C channels, H and W rows and columns,
h heads, d channels of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .processor import has_amx, infers_on_cpu, mkl_is_slow, product

ROWS = 2048
"""Rows of a large matrix that pass several layers together on a CPU: what lies between the layers stays in its cache."""


def by_rows(layers: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Applies what treats rows alone, and keeps their width, to (..., C). For inference on a CPU the result takes x's place."""
    if not infers_on_cpu(x):
        return layers(x)
    for rows in x.view(-1, x.shape[-1]).split(ROWS):
        rows.copy_(layers(rows))
    return x


MANY_KEYS = 1024
"""From so many keys on, plain products go one head and a few queries at a time: what lies between them stays in cache."""

QUERIES = 512
"""That are answered at a time there."""


def attend(q: Tensor, k: Tensor, v: Tensor, real: Tensor | None = None) -> Tensor:
    """Softmax attention: (B, h, T, d), (B, h, S, d) twice -> (B, h, T, d).

    real: (S,) bool, which keys are more than padding; all by default.
    """
    if real is None and fused_is_slow(q, k):
        return plain_attention(q, k, v)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=None if real is None else real[None, None, None])


def fused_is_slow(q: Tensor, k: Tensor) -> bool:
    """Whether `plain_attention` is faster than PyTorch's fused kernel.

    On CPUs that multiplies bfloat16 with AMX, and without it no faster than float32; plain products use AVX-512's instructions
    for it and take half of the time (AMD EPYC, PyTorch 2.13: 95 ms instead of 168 for 4096 keys; on a later one 4.2 instead of
    11.1 for 25 windows of 196). In float32 it multiplies by MKL: where that is slow and there are many queries and keys, plain
    products take 82 ms instead of 143.
    """
    if not infers_on_cpu(q):
        return False
    if q.dtype == torch.bfloat16:
        return not has_amx()
    return q.dtype == torch.float32 and min(q.shape[2], k.shape[2]) >= MANY_KEYS and mkl_is_slow()


def plain_attention(q: Tensor, k: Tensor, v: Tensor, bias: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Softmax attention by two products: (B, h, T, d), (B, h, S, d) twice -> (B, h, T, d).

    bias: added to a query's scores, by row and by column of the keys' map: (B, h, T, rows) and (B, h, T, columns), with
    rows * columns = S.
    """
    heads = [x.flatten(0, 1) for x in (q, k, v, *(bias or ()))]
    if k.shape[2] < MANY_KEYS:
        return _answered(*heads).view(q.shape)
    answers = torch.empty_like(heads[0])
    for answer, asking, *rest in zip(answers, *heads, strict=True):
        keys, values, *by_axis = (x.contiguous() for x in rest)
        for i in range(0, len(asking), QUERIES):
            some = slice(i, i + QUERIES)
            answer[some] = _answered(asking[some], keys, values, *(x[some] for x in by_axis))
    return answers.view(q.shape)


def _answered(q: Tensor, k: Tensor, v: Tensor, rows: Tensor | None = None, columns: Tensor | None = None) -> Tensor:
    """One head, or N of them: ([N,] T, d), ([N,] S, d) twice -> ([N,] T, d)."""
    scale = q.shape[-1] ** -0.5
    if q.dtype == torch.float32:
        scores = product(q * scale, k.mT)
    else:  # these take a factor, so that nothing is rounded twice
        scaled = torch.addmm if q.ndim == 2 else torch.baddbmm
        scores = scaled(q.new_empty(1).expand(*q.shape[:-1], k.shape[-2]), q, k.mT, beta=0, alpha=scale)
    if rows is not None and columns is not None:
        scores.unflatten(-1, (rows.shape[-1], -1)).add_(rows[..., None]).add_(columns[..., None, :])
    return product(scores.softmax(-1), v)


class LayerNorm2d(nn.Module):
    """Layer normalisation over the channels of a (B, C, H, W) map.

    Source: https://github.com/facebookresearch/segment-anything/blob/main/segment_anything/modeling/common.py
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return self.rows(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # the fused kernel normalises the last axis

    def rows(self, x: Tensor) -> Tensor:
        """The same for channels last: (..., C) -> (..., C)."""
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)


class MLP(nn.Module):
    """Linear layers with an activation between them: `depth` in all."""

    def __init__(
        self, width_in: int, width_hidden: int, width_out: int, depth: int, activation: type[nn.Module] = nn.ReLU
    ) -> None:
        super().__init__()
        widths = [width_in] + [width_hidden] * (depth - 1) + [width_out]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.act = activation()

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = self.act(layer(x))
        return self.layers[-1](x)


class Attention(nn.Module):
    """Multi-head attention with its own projections; `downsample` narrows the inner width.

    `attend` takes queries, keys and values that are projected already, so that a caller can project what belongs to the
    image once and use it for every prompt. A batch of one on either side is broadcast without a copy.
    """

    def __init__(self, width: int, heads: int, downsample: int = 1, key_value_width: int | None = None) -> None:
        super().__init__()
        inner = width // downsample
        if inner % heads:
            raise ValueError(f"inner width {inner} must be divisible by heads {heads}")
        self.heads = heads
        self.q_proj = nn.Linear(width, inner)
        self.k_proj = nn.Linear(key_value_width or width, inner)
        self.v_proj = nn.Linear(key_value_width or width, inner)
        self.out_proj = nn.Linear(inner, width)

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, h, T, d)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, real: Tensor | None = None) -> Tensor:
        batch = max(q.shape[0], k.shape[0])
        q, k, v = (self.split(x).expand(batch, -1, -1, -1) for x in (q, k, v))  # (B, h, T, d), (B, h, S, d) twice
        x = attend(q, k, v, real)
        return self.out_proj(x.transpose(1, 2).flatten(2))  # (B, T, C)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, real: Tensor | None = None) -> Tensor:
        return self.attend(self.q_proj(q), self.k_proj(k), self.v_proj(v), real)


REACH = 3
"""How many cells away a ConvNeXt block sees."""


class ConvNeXtBlock(nn.Module):
    """Depth-wise 7x7 convolution and a two-layer MLP per pixel, with a residual.

    Sources: Liu et al., "A ConvNet for the 2020s", figure 4;
    https://github.com/facebookresearch/sam2/blob/main/sam2/modeling/memory_encoder.py (CXBlock)
    """

    def __init__(self, width: int, layer_scale: float = 1e-6) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 2 * REACH + 1, padding=REACH, groups=width)
        self.norm = LayerNorm2d(width)
        self.pwconv1 = nn.Linear(width, 4 * width)
        self.act: nn.Module = nn.GELU()
        self.pwconv2 = nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(torch.full((width,), layer_scale))

    def forward(self, x: Tensor) -> Tensor:
        return self._answered(x, self.dwconv(x))

    def within(self, x: Tensor, part: Part) -> Tensor:
        """The same, of a part of the map only: (B, C, H, W) -> (B, C, its rows, its columns)."""
        seen = part.grown(REACH, x)
        y = self.dwconv(seen.of(x))
        y = y[:, :, part.top - seen.top :, part.left - seen.left :][:, :, : part.bottom - part.top, : part.right - part.left]
        return self._answered(part.of(x), y)

    def _answered(self, x: Tensor, y: Tensor) -> Tensor:
        """A map (B, C, H, W) and its convolution -> the block's result."""
        y = self.norm(y).permute(0, 2, 3, 1)  # (B, H, W, C)
        y = self.pwconv2(self.act(self.pwconv1(y)))
        return torch.addcmul(x.permute(0, 2, 3, 1), self.gamma, y).permute(0, 3, 1, 2)


class Part(NamedTuple):
    """Rows and columns of a map, the ends exclusive."""

    top: int
    bottom: int
    left: int
    right: int

    @classmethod
    def around(cls, true: Tensor) -> Part | None:
        """All that is true of (H, W); None if nothing is."""
        rows, columns = (true.any(axis).nonzero()[:, 0].tolist() for axis in (1, 0))
        return cls(rows[0], rows[-1] + 1, columns[0], columns[-1] + 1) if rows else None

    @property
    def area(self) -> int:
        return (self.bottom - self.top) * (self.right - self.left)

    def grown(self, cells: int, x: Tensor) -> Part:
        """On all sides, as far as a map (B, C, H, W) goes."""
        height, width = x.shape[2:]
        top, bottom = max(0, self.top - cells), min(height, self.bottom + cells)
        return Part(top, bottom, max(0, self.left - cells), min(width, self.right + cells))

    def shrunk(self, factor: int) -> Part:
        """Of a map so many times smaller each way, all that it touches."""
        return Part(self.top // factor, -(-self.bottom // factor), self.left // factor, -(-self.right // factor))

    def enlarged(self, factor: int) -> Part:
        """Of a map so many times larger each way."""
        return Part(*(factor * side for side in self))

    def of(self, x: Tensor) -> Tensor:
        """That part of (B, C, H, W)."""
        return x[:, :, self.top : self.bottom, self.left : self.right]


class Fuser(nn.Module):
    """A few ConvNeXt blocks in a row."""

    def __init__(self, width: int, depth: int, layer_scale: float = 1e-6) -> None:
        super().__init__()
        self.layers = nn.ModuleList(ConvNeXtBlock(width, layer_scale) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        return self.steps(x)[-1]

    def steps(self, x: Tensor) -> list[Tensor]:
        """(B, C, H, W) -> itself, and what each block makes of it."""
        maps = [x]
        for layer in self.layers:
            maps.append(layer(maps[-1]))
        return maps

    def after_change(self, known: Sequence[Tensor], x: Tensor, part: Part) -> Tensor:
        """`forward` of (B, C, H, W), which is known[0] but for a part; `known` are the steps of that."""
        answer = x
        for layer, before in zip(self.layers, known[1:], strict=True):
            part = part.grown(REACH, x)
            new = cast("ConvNeXtBlock", layer).within(answer, part)
            answer = before.clone()
            part.of(answer).copy_(new)
        return answer


class ConvNorm(nn.Module):
    """A convolution and its batch normalisation; `bake` folds the second into the first for inference."""

    def __init__(self, width_in: int, width_out: int, stride: int = 1, *, kernel: int = 3, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width_in, width_out, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(width_out)

    def bake(self) -> None:
        if isinstance(self.norm, nn.BatchNorm2d):
            self.conv = fuse_conv_bn_eval(self.conv.eval(), self.norm.eval())
            weight = self.conv.weight  # in the order that the convolution works in: arranged once instead of each time
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
            self.norm = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


def bake_convolutions(net: nn.Module) -> None:
    """Folds every batch normalisation inside into its convolution."""
    for module in net.modules():
        if isinstance(module, ConvNorm):
            module.bake()


def cells_across(side: int, stride: int) -> int:
    """How many cells the embedding of a square of `side` pixels has, across and down."""
    return round(side / stride)


def bilinear(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Brought to another size, as the references do: (N, K, h, w) -> (N, K, H, W)."""
    return F.interpolate(x, size, mode="bilinear", align_corners=False)
