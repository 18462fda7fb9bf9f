"""Attention between a few tokens and the many cells of an image, with the cells' projections folded into the tokens.

A score is (x Wk) . q = x . (Wk q), and a weighted sum of (x Wv) is (weighted sum of x) Wv: the projection can be moved from
4096 cells to a few dozen rows, one per token and head. The result is the same but for the order of summation; the work of one
prompt falls by half, and the largest intermediate results disappear. For inference only: a step works in place.

Letters: N prompts, T tokens, S cells, C channels, h heads, d channels of a head, R = h * T rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .layers import Attention
from .processor import added, product


def pays(attention: Attention, tokens: Tensor) -> bool:
    """Whether folding is less work than projecting the cells."""
    return attention.heads * tokens.shape[1] <= attention.q_proj.out_features


def _heads_of(weight: Tensor, heads: int) -> Tensor:
    """A projection's weight (h*d, C) -> (h, d, C)."""
    return weight.unflatten(0, (heads, -1))


def _times(x: Tensor, y: Tensor) -> Tensor:
    """(N, R, K) @ (1|N, K, C)."""
    if len(x) == len(y) == 1:  # far faster than a batch of one
        return product(x[0], y[0])[None]
    return x @ y


def look(attention: Attention, tokens: Tensor, placed: Tensor, cells: Tensor) -> Tensor:
    """Tokens attend to cells: queries of (N, T, C), keys of `placed`, values of `cells`, both (1|N, S, C) -> (N, T, C)."""
    q = attention.split(attention.q_proj(tokens))  # (N, h, T, d)
    rows = q @ _heads_of(attention.k_proj.weight, attention.heads) * q.shape[-1] ** -0.5  # (N, h, T, C)
    # The keys' bias adds the same to all of a row's scores: the softmax does not see it.
    share = _times(rows.flatten(1, 2), placed.mT).softmax(-1)  # (N, R, S)
    seen = _times(share, cells).unflatten(1, rows.shape[1:3])  # (N, h, T, C)
    seen = seen @ _heads_of(attention.v_proj.weight, attention.heads).transpose(1, 2)  # (N, h, T, d)
    return attention.out_proj(seen.transpose(1, 2).flatten(2) + attention.v_proj.bias)


def look_back(
    attention: Attention, cells: Tensor, placed: Tensor, keys: Tensor, values: Tensor, real: Tensor | None = None
) -> Tensor:
    """Cells attend to tokens: queries of `placed` (1|N, S, C), keys and values (N, T, C) -> cells plus what they saw.

    real: (T,) bool, which tokens are more than padding.
    """
    heads = attention.heads
    k = attention.split(attention.k_proj(keys))  # (N, h, T, d)
    v = attention.split(attention.v_proj(values))
    scale = k.shape[-1] ** -0.5
    rows = (k @ _heads_of(attention.q_proj.weight, heads)).flatten(1, 2) * scale  # (N, R, C)
    bias = (k @ attention.q_proj.bias.view(heads, -1, 1)).flatten(1, 2) * scale  # (N, R, 1)
    scores = _times(rows, placed.mT).add_(bias).unflatten(1, k.shape[1:3])  # (N, h, T, S)
    if real is not None:
        scores = scores.masked_fill(~real[:, None], -torch.inf)
    share = scores.softmax(2).flatten(1, 2)  # (N, R, S): of each head's tokens
    out = attention.out_proj.weight.unflatten(1, (heads, -1)).permute(1, 2, 0)  # (h, d, C)
    # The shares of a head add up to one, so each head may carry its part of the bias.
    answers = (v @ out + attention.out_proj.bias / heads).flatten(1, 2)  # (N, R, C)
    if len(answers) == 1:  # as in `_times`
        return added(cells[0], share[0].T, answers[0])[None]
    return torch.baddbmm(cells.expand(len(answers), -1, -1), share.transpose(1, 2), answers)
