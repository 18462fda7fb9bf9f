"""What segments look like to the encoder: one vector each, for telling alike from different."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from ..segments import Segments
from .session import EncodedImage


def pooled_features(photo: EncodedImage, cut: Segments) -> np.ndarray:
    """(N, C) float32, of length one: the mean of the image embedding under each mask, less the picture's own mean.

    The picture's mean is what all places share (light, camera, position in the square); without it nearly everything is alike.
    A mask smaller than a cell counts by its share of it.
    """
    embedding = photo.features.embedding[0]  # (C, h, w)
    side = embedding.shape[-1]
    height, width = (max(1, round(n * side / photo.frame.side)) for n in photo.frame.content)
    cells = embedding[:, :height, :width].flatten(1).T  # (S, C)
    cells = cells - cells.mean(0)
    vectors = []
    for row in range(len(cut)):
        mask = torch.tensor(cut.mask(row), dtype=torch.float32, device=cells.device)
        share = F.interpolate(mask[None, None], (height, width), mode="area").flatten()  # (S,)
        vectors.append(share @ cells / share.sum().clamp(min=1e-6))
    if not vectors:
        return np.zeros((0, cells.shape[1]), np.float32)
    return F.normalize(torch.stack(vectors), dim=1).cpu().numpy()
