"""The two-way transformer of SAM's mask decoder: prompt tokens and image cells attend to one another.

Sources: SAM paper, appendix A ("Lightweight mask decoder"), figure 14;
https://github.com/facebookresearch/segment-anything/blob/main/segment_anything/modeling/transformer.py

What the first layer needs of the image (keys and values for the tokens, queries for the cells) depends on the image alone as
long as there is no mask prompt: `ImageTokens` holds it, computed once per image, and each prompt only reads it.

Letters: N prompts, T tokens of a prompt, S cells of the image, C channels.
"""

from __future__ import annotations

from typing import NamedTuple, cast

from torch import Tensor, nn

from .layers import MLP, Attention


class ImageTokens(NamedTuple):
    """The image's side of the first layer. The first axis is 1 (all prompts share an image) or N."""

    cells: Tensor
    """(1|N, S, C): embedding plus dense prompt."""
    positions: Tensor
    """(1, S, C)."""
    keys: Tensor
    """(1|N, S, C/2): projected for the tokens' first look."""
    values: Tensor
    """(1|N, S, C/2)."""
    queries: Tensor
    """(1|N, S, C/2): the cells' first look back."""


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
        """What this block needs of the image."""
        placed = cells + positions
        return ImageTokens(
            cells,
            positions,
            keys=self.cross_attn_token_to_image.k_proj(placed),
            values=self.cross_attn_token_to_image.v_proj(cells),
            queries=self.cross_attn_image_to_token.q_proj(placed),
        )

    def forward(self, tokens: Tensor, prompt: Tensor, image: ImageTokens) -> tuple[Tensor, Tensor]:
        """(N, T, C) tokens, (N, T, C) the prompt they began as -> the tokens, and the cells (N, S, C)."""
        if self.first:  # here the tokens are the prompt itself: nothing to add, nothing to keep
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            placed = tokens + prompt
            tokens = tokens + self.self_attn(placed, placed, tokens)
        tokens = self.norm1(tokens)

        look = self.cross_attn_token_to_image
        tokens = self.norm2(tokens + look.attend(look.q_proj(tokens + prompt), image.keys, image.values))
        tokens = self.norm3(tokens + self.mlp(tokens))

        back = self.cross_attn_image_to_token
        seen = back.attend(image.queries, back.k_proj(tokens + prompt), back.v_proj(tokens))  # (N, S, C)
        return tokens, self.norm4(image.cells + seen)


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
        return first.project(embedding.flatten(2).transpose(1, 2), positions)

    def forward(self, prompt: Tensor, image: ImageTokens) -> tuple[Tensor, Tensor]:
        """(N, T, C) -> tokens (N, T, C) and cells (N, S, C)."""
        tokens = prompt
        for i, block in enumerate(self.blocks):
            if i:
                image = block.project(image.cells, image.positions)
            tokens, cells = block(tokens, prompt, image)
            image = image._replace(cells=cells)
        final = self.final_attn_token_to_image
        tokens = tokens + final(tokens + prompt, image.cells + image.positions, image.cells)
        return self.norm_final_attn(tokens), image.cells
