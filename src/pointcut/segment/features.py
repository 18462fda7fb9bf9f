"""What segments look like to the encoder: one vector each, for telling alike from different."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..masks import cell_shares
from ..nets.running import inference, upload
from ..segments import Segments
from .session import EncodedImage


def feature_width(photo: EncodedImage) -> int:
    """How many numbers `pooled_features` gives for each mask."""
    return sum(level.shape[1] for level in (photo.features.embedding, *photo.features.high_res))


def pooled_features(photo: EncodedImage, cut: Segments, *, centred: bool = True) -> np.ndarray:
    """(N, C) float32, of length one: the mean of the encoder's maps under each mask, each map's part of length one before.

    The embedding tells what a thing is, the finer maps (SAM 2) its colour and texture: together they tell alike from other
    better than either. A mask smaller than a cell counts by its share of it.

    centred: from each map the picture's own mean is taken, which is what all places share; within one picture nearly everything
    is alike without that. Across pictures it makes no difference (`benchmarks/retrieval.py`), and of a whole picture nothing
    would be left.
    """
    if not len(cut):
        return np.zeros((0, feature_width(photo)), np.float32)
    levels = [_seen(photo, level) for level in (photo.features.embedding, *photo.features.high_res)]  # (1, C, h, w) each
    grids = [(level.shape[2], level.shape[3]) for level in levels]
    covered = zip(*(cell_shares(*cut.part(row), photo.size, grids) for row in range(len(cut))), strict=True)
    with inference(photo.device):
        parts = []
        for shares, level in zip(covered, levels, strict=True):
            cells = level[0].flatten(1).T  # (S, C)
            cells = cells - cells.mean(0) if centred else cells
            weights = upload(np.stack(shares), photo.device).flatten(1)  # (N, S)
            parts.append(F.normalize(weights @ cells, dim=1))
        return F.normalize(torch.cat(parts, dim=1), dim=1).cpu().numpy()


def _seen(photo: EncodedImage, level: Tensor) -> Tensor:
    """The part of a map that shows the picture."""
    height, width = (max(1, round(n * level.shape[-1] / photo.frame.side)) for n in photo.frame.content)
    return level[..., :height, :width]
