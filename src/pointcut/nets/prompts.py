"""The prompt encoder: points, boxes and rough masks to what the mask decoder attends to.

Sources: SAM paper, section 3 and appendix A ("Prompt encoder");
https://github.com/facebookresearch/segment-anything/blob/main/segment_anything/modeling/prompt_encoder.py

Letters: N prompts (objects), T points of one prompt, C channels, m side of the mask prompt (four times the embedding's).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import LayerNorm2d, Part, cells_across
from .positions import FourierPositions

PADDING, BACKGROUND, FOREGROUND, TOP_LEFT, BOTTOM_RIGHT = -1, 0, 1, 2, 3
"""The labels of points; the last two are a box's corners."""


class Prompts(NamedTuple):
    """N prompts with equally many points each, in pixels of the model's square."""

    points: Tensor | None = None
    """(N, T, 2) x, y; an integer names a pixel's upper left corner, half a pixel is added here."""
    labels: Tensor | None = None
    """(N, T) of the labels above."""
    boxes: Tensor | None = None
    """(N, 4) x0, y0, x1, y1."""
    masks: Tensor | None = None
    """(N, 1, m, m) logits."""

    @property
    def rows(self) -> int:
        """N."""
        return next(x.shape[0] for x in (self.points, self.boxes, self.masks) if x is not None)

    @property
    def clicks_alone(self) -> bool:
        return self.boxes is None and self.masks is None

    def repeated(self, count: int) -> Prompts:
        """Each of them so many times, one after another."""
        return Prompts(*(None if x is None else x.repeat_interleave(count, dim=0) for x in self))

    def split(self, count: int) -> Iterator[Prompts]:
        """So many at a time."""
        for i in range(0, self.rows, count):
            yield Prompts(*(None if x is None else x[i : i + count] for x in self))


class PromptTokens(NamedTuple):
    """Encoded prompts."""

    sparse: Tensor
    """(N, tokens, C): one per point, two per box, and the padding that the family adds."""
    dense: Tensor | None
    """(N, C, h, w) to be added to the embedding; None: the constant `no_mask_embed` alone."""


@dataclass(frozen=True)
class PromptConfig:
    """How a family encodes prompts."""

    width: int = 256
    box_corners: Literal["after_points", "before_points"] = "before_points"
    """SAM 1 appends a box and pads only where there is none; SAM 2 turns a box into two points, in front, and always pads."""
    mask_channels: int = 16
    drawn: bool = False
    """Whether clicks and boxes are also drawn as maps beside the mask prompt. Not in the published models: a network
    trained on few photographs follows its prompts only so (see docs/models/nano.md)."""


DRAWN_MAPS = 3
"""Positive clicks, negative clicks, the box's inside."""

UNSEEN = 1e-8
"""What a click draws so far from itself is nothing: less than float32 rounds of what is made of it."""


class PromptEncoder(nn.Module):
    """Prompts to tokens and a dense map."""

    def __init__(self, config: PromptConfig, input_size: int, stride: int = 16) -> None:
        super().__init__()
        self.config = config
        self.input_size = input_size
        self.side = cells_across(input_size, stride)
        self.pe_layer = FourierPositions(config.width)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, config.width) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, config.width)
        maps, channels = 1 + DRAWN_MAPS * config.drawn, config.mask_channels
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(maps, channels // 4, 2, stride=2),
            LayerNorm2d(channels // 4),
            nn.GELU(),
            nn.Conv2d(channels // 4, channels, 2, stride=2),
            LayerNorm2d(channels),
            nn.GELU(),
            nn.Conv2d(channels, config.width, 1),
        )
        self.no_mask_embed = nn.Embedding(1, config.width)

    def dense_positions(self) -> Tensor:
        """The position encodings of the embedding's cells, row by row: (1, h*w, C)."""
        return self.pe_layer.grid(self.side, self.side).flatten(1).T[None]

    def forward(self, prompts: Prompts) -> PromptTokens:
        return PromptTokens(self.encode_sparse(prompts), self.encode_dense(prompts))

    def encode_sparse(self, prompts: Prompts) -> Tensor:
        count, device = prompts.rows, self.no_mask_embed.weight.device
        points = torch.zeros(count, 0, 2, dtype=torch.float32, device=device) if prompts.points is None else prompts.points
        labels = torch.zeros(count, 0, dtype=torch.int64, device=device) if prompts.labels is None else prompts.labels
        has_points, has_box = prompts.points is not None, prompts.boxes is not None
        pads = has_points or has_box
        if self.config.box_corners == "after_points":
            pads = has_points and not has_box
        if pads:
            points = torch.cat([points, points.new_zeros(count, 1, 2) - 0.5], dim=1)
            labels = torch.cat([labels, labels.new_full((count, 1), PADDING)], dim=1)
        if prompts.boxes is not None:
            corners = prompts.boxes.reshape(count, 2, 2)
            corner_labels = torch.cat([labels.new_full((count, 1), corner) for corner in (TOP_LEFT, BOTTOM_RIGHT)], dim=1)
            after = self.config.box_corners == "after_points"
            points = torch.cat([points, corners] if after else [corners, points], dim=1)
            labels = torch.cat([labels, corner_labels] if after else [corner_labels, labels], dim=1)
        return self.embed_points(points, labels)

    def embed_points(self, points: Tensor, labels: Tensor) -> Tensor:
        """(N, T, 2), (N, T) -> (N, T, C)."""
        positions = self.pe_layer((points + 0.5) / self.input_size)
        kinds = [self.not_a_point_embed, *self.point_embeddings]
        table = torch.cat([kind.get_parameter("weight") for kind in kinds])  # (5, C)
        embedded = table[labels.long() + 1]  # (N, T, C)
        return torch.where((labels == PADDING)[..., None], embedded, positions + embedded)

    def encode_dense(self, prompts: Prompts) -> Tensor | None:
        if not self.config.drawn:
            return None if prompts.masks is None else self.mask_downscaling(prompts.masks)
        maps = draw_prompts(prompts, 4 * self.side, self.input_size, self.no_mask_embed.weight.device)
        if prompts.masks is None:
            return self._of_maps(maps)
        return self.mask_downscaling(torch.cat([prompts.masks / 8, maps], dim=1))  # logits are a few units, maps at most one

    def dense_where_drawn(self, clicks: Prompts) -> list[tuple[Part, Tensor]]:
        """`encode_dense` of clicks alone: of each prompt the part that is not as in `blank`, (1, C, rows, columns)."""
        maps = draw_prompts(clicks, 4 * self.side, self.input_size, self.no_mask_embed.weight.device)
        parts = [Part.around((drawn > UNSEEN).any(0)) or Part(0, 1, 0, 1) for drawn in maps]  # a click may lie outside
        cells = [part.shrunk(4) for part in parts]
        return [(part, self._of_maps(part.enlarged(4).of(drawn))) for part, drawn in zip(cells, maps.split(1), strict=True)]

    def blank(self) -> Tensor:
        """What a prompt without a mask that draws nothing makes of every cell: (1, C, h, w)."""
        device = self.no_mask_embed.weight.device
        return self._of_maps(torch.zeros(1, DRAWN_MAPS, 4 * self.side, 4 * self.side, dtype=torch.float32, device=device))

    def _of_maps(self, maps: Tensor) -> Tensor:
        """Of prompts without a mask: (N, 3, 4H, 4W) -> (N, C, H, W)."""
        dense = self.mask_downscaling(F.pad(maps, (0, 0, 0, 0, 1, 0)))
        return dense + self.no_mask_embed.weight[:, :, None, None]


def draw_prompts(prompts: Prompts, side: int, input_size: int, device: torch.device, radius: float = 0.02) -> Tensor:
    """Draws prompts as maps: (N, 3, side, side): positive clicks, negative clicks, the box's inside.

    A click is a Gaussian bump of standard deviation `radius` (of the image's side); bumps of one kind are joined by their
    maximum, as the disks of RITM (Sofiiuk et al., "Reviving Iterative Training", section 3.1).
    """
    centre = (torch.arange(side, dtype=torch.float32, device=device) + 0.5) / side  # of a map's cell, in the unit interval
    maps = torch.zeros(prompts.rows, DRAWN_MAPS, side, side, dtype=torch.float32, device=device)
    if prompts.points is not None and prompts.labels is not None and prompts.points.shape[1]:
        unit = (prompts.points.float() + 0.5) / input_size  # (N, T, 2)
        bump_x = torch.exp(-0.5 * ((centre - unit[..., :1]) / radius) ** 2)  # (N, T, side)
        bump_y = torch.exp(-0.5 * ((centre - unit[..., 1:]) / radius) ** 2)
        for channel, label in enumerate((FOREGROUND, BACKGROUND)):
            own = bump_y * (prompts.labels == label)[..., None]
            bumps = own[..., :, None] * bump_x[..., None, :]  # (N, T, side, side)
            maps[:, channel] = bumps.amax(dim=1) if bumps.shape[1] > 1 else bumps[:, 0]
    if prompts.boxes is not None:
        x0, y0, x1, y1 = (prompts.boxes.float() / input_size).unbind(-1)  # (N,) each
        cell = 1 / side  # a border cell counts by its share
        across = ramp((centre - x0[:, None]) / cell) * ramp((x1[:, None] - centre) / cell)  # (N, side)
        down = ramp((centre - y0[:, None]) / cell) * ramp((y1[:, None] - centre) / cell)
        maps[:, 2] = down[:, :, None] * across[:, None, :]
    return maps


def ramp(x: Tensor) -> Tensor:
    """0 outside, 1 inside, linear over the one cell between."""
    return F.hardtanh(x + 0.5, 0.0, 1.0)
