"""The two-way transformer of SAM's mask decoder: prompt tokens and image cells attend to one another.

Sources: SAM paper, appendix A ("Lightweight mask decoder"), figure 14;
https://github.com/facebookresearch/segment-anything/blob/main/segment_anything/modeling/transformer.py

What the first layer needs of the image depends on the image alone as long as there is no mask prompt: `ImageTokens` holds it,
computed once per image, and each prompt only reads it. What later layers would project of every cell is folded into the few
tokens instead (folding.py), unless there are many of them, or gradients are wanted.

Letters: N prompts, T tokens of a prompt, S cells of the image, C channels.
"""

from __future__ import annotations

from typing import NamedTuple, cast

from torch import Tensor, nn

from . import folding
from .layers import MLP, Attention


class ImageTokens(NamedTuple):
    """The image's side of the first layer. The first axis is 1 (all prompts share an image) or N."""

    cells: Tensor
    """(1|N, S, C): embedding plus dense prompt."""
    positions: Tensor
    """(1, S, C)."""
    placed: Tensor
    """(1|N, S, C): cells plus positions."""
    keys: Tensor
    """(1|N, S, C/2): projected for the tokens' first look."""
    values: Tensor
    """(1|N, S, C/2)."""


class TwoWayBlock(nn.Module):
    """Tokens attend to themselves, then to the image, pass an MLP, and the image attends to the tokens."""

    def __init__(self, width: int, heads: int, mlp_width: int, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attn = Attention(width, heads)
        self.norm1 = nn.LayerNorm(width)
        self.cross_attn_token_to_image = Attention(width, heads, downsample=2)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = MLP(width, mlp_width, width, 2)
        self.norm3 = nn.LayerNorm(width)
        self.norm4 = nn.LayerNorm(width)
        self.cross_attn_image_to_token = Attention(width, heads, downsample=2)

    def project(self, cells: Tensor, positions: Tensor) -> ImageTokens:
        """What this block needs of the image, if it is the first."""
        look = self.cross_attn_token_to_image
        placed = cells + positions
        return ImageTokens(cells, positions, placed, keys=look.k_proj(placed), values=look.v_proj(cells))

    def attend_to_tokens(self, tokens: Tensor, prompt: Tensor, real: Tensor | None = None) -> Tensor:
        """(N, T, C) tokens, (N, T, C) the prompt they began as -> tokens that have seen one another."""
        if self.first:  # here the tokens are the prompt itself: nothing to add, nothing to keep
            return self.norm1(self.self_attn(tokens, tokens, tokens, real))
        placed = tokens + prompt
        return self.norm1(tokens + self.self_attn(placed, placed, tokens, real))

    def digest(self, tokens: Tensor, seen: Tensor) -> Tensor:
        """Adds what the tokens saw of the image, and passes the MLP: (N, T, C) twice -> (N, T, C)."""
        tokens = self.norm2(tokens + seen)
        return self.norm3(tokens + self.mlp(tokens))


class TwoWayTransformer(nn.Module):
    """Two blocks and a last look of the tokens at the image."""

    def __init__(self, width: int, heads: int = 8, mlp_width: int = 2048, depth: int = 2) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TwoWayBlock(width, heads, mlp_width, first=i == 0) for i in range(depth))
        self.final_attn_token_to_image = Attention(width, heads, downsample=2)
        self.norm_final_attn = nn.LayerNorm(width)

    @property
    def blocks(self) -> list[TwoWayBlock]:
        return cast("list[TwoWayBlock]", list(self.layers))

    def image_tokens(self, embedding: Tensor, positions: Tensor) -> ImageTokens:
        """(1|N, C, h, w) and (1, S, C) -> the image's side of the first layer."""
        first = self.blocks[0]
        return first.project(embedding.flatten(2).transpose(1, 2).contiguous(), positions)

    def forward(self, prompt: Tensor, image: ImageTokens, wanted: int, real: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(N, T, C) -> the first `wanted` tokens (N, wanted, C), and the cells (N, S, C).

        real: (T,) bool, which tokens are more than padding: nothing attends to the others.
        """
        if not self.training and folding.pays(self.final_attn_token_to_image, prompt):
            look, look_back = folding.look, folding.look_back
        else:
            look, look_back = projected_look, projected_look_back
        tokens, cells, placed = prompt, image.cells, image.placed
        for block in self.blocks:
            first, back = block.cross_attn_token_to_image, block.cross_attn_image_to_token
            tokens = block.attend_to_tokens(tokens, prompt, real)
            if block.first:
                seen = first.attend(first.q_proj(tokens + prompt), image.keys, image.values)
            else:
                seen = look(first, tokens + prompt, placed, cells)
            tokens = block.digest(tokens, seen)
            cells = block.norm4(look_back(back, cells, placed, tokens + prompt, tokens, real))
            placed = cells + image.positions
        last = look(self.final_attn_token_to_image, (tokens + prompt)[:, :wanted], placed, cells)
        return self.norm_final_attn(tokens[:, :wanted] + last), cells


def projected_look(attention: Attention, tokens: Tensor, placed: Tensor, cells: Tensor) -> Tensor:
    """As `folding.look`, cells projected."""
    return attention(tokens, placed, cells)


def projected_look_back(
    attention: Attention, cells: Tensor, placed: Tensor, keys: Tensor, values: Tensor, real: Tensor | None = None
) -> Tensor:
    """As `folding.look_back`, cells projected."""
    return cells + attention(placed, keys, values, real)
