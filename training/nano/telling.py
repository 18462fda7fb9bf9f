"""What a teacher's image encoder tells beside its masks: its embedding of a photograph, which the network's own is to contain.

label.py keeps a photograph's embedding as it is; a training picture is a view of the photograph, turned and bent, with things
pasted over it. So each pixel remembers the place that it came from (`Photo.places`), and the embedding is read there.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photos import Photo, told_below
from pointcut.nets.layers import cells_across
from pointcut.nets.sam2 import NANO

TOLD = 256
"""Channels of the teacher's embedding."""


def told_of(scene: Photo) -> np.ndarray:
    """The teacher's embedding in the middle of each cell of a square scene: (C, h, w) float32, zeros where nothing is told."""
    side = cells_across(scene.labels.shape[0], NANO.stride)
    if scene.told is None or scene.places is None:
        return np.zeros((TOLD, side, side), np.float32)
    middles = ((np.arange(side) + 0.5) * scene.labels.shape[0] / side).astype(int)
    places = torch.from_numpy(scene.places[np.ix_(middles, middles)])[None]
    there = F.grid_sample(torch.from_numpy(scene.told.astype(np.float32))[None], 2 * places - 1, align_corners=False)[0]
    return (there * (places[0, ..., 0] >= 0)).numpy()


class Teller(nn.Module):
    """Makes the teacher's embedding of the network's own; thrown away after training."""

    centre: Tensor
    spread: Tensor

    def __init__(self, width: int, root: Path, weight: float) -> None:
        """width: channels of the network's embedding; root: folder of training sets; weight: of the loss, among the others."""
        super().__init__()
        self.weight = weight
        self.project = nn.Conv2d(width, TOLD, 1)
        maps = [np.load(path, mmap_mode="r")[:, ::4, ::4] for path in told_below(root)]
        values = torch.from_numpy(np.stack(maps, axis=1).astype(np.float32)).flatten(1) if maps else torch.ones(TOLD, 2)
        self.register_buffer("centre", values.mean(1))
        self.register_buffer("spread", values.std(1).clamp(min=1e-3))

    def loss(self, embedding: Tensor, told: Tensor) -> Tensor:
        """How far it is off where something is told: squared, in each channel's spread. (B, C, h, w) twice."""
        known = (told != 0).any(1)  # (B, h, w)
        said, true = (x.permute(0, 2, 3, 1)[known].float() for x in (self.project(embedding), told))  # (N, TOLD)
        return F.mse_loss(said, (true - self.centre) / self.spread) if len(true) else said.sum()
