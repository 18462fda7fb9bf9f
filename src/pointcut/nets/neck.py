"""SAM 2's feature pyramid neck.

Sources: Lin et al., "Feature Pyramid Networks", section 3;
https://github.com/facebookresearch/sam2/blob/main/sam2/modeling/backbones/image_encoder.py
"""

from __future__ import annotations

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn

from .convnet import ConvNet
from .hiera import Hiera


class FpnNeck(nn.Module):
    """Brings the trunk's maps to one width; the two coarsest are added up, the finer ones stand alone."""

    def __init__(self, trunk_widths: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(  # coarsest first, as in the checkpoints
            nn.Sequential(OrderedDict(conv=nn.Conv2d(w, width, 1))) for w in reversed(trunk_widths)
        )

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Four maps, finest first -> three: at 1/4, 1/8 and 1/16 of the image; the coarsest only feeds the third."""
        coarsest, coarse, middle, fine = (conv(x) for conv, x in zip(self.convs, reversed(maps), strict=False))
        coarse = coarse + F.interpolate(coarsest.float(), scale_factor=2.0, mode="nearest").to(coarse.dtype)
        return fine, middle, coarse


class ImageEncoder(nn.Module):
    """Trunk and neck: pixels (B, 3, S, S) to maps at 1/4, 1/8 and 1/16."""

    def __init__(self, trunk: Hiera | ConvNet, neck: FpnNeck) -> None:
        super().__init__()
        self.trunk = trunk
        self.neck = neck

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.neck(self.trunk(pixels))
