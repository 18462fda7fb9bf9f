"""SAM 2's feature pyramid neck.

Sources: Lin et al., "Feature Pyramid Networks", section 3;
https://github.com/facebookresearch/sam2/blob/main/sam2/modeling/backbones/image_encoder.py
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from .convnet import ConvNet
from .hiera import Hiera
from .layers import Fuser, bilinear, cells_across

TRUNK_STRIDE = 16
"""Pixels for each cell of the coarsest map that a trunk and its neck make."""


class FpnNeck(nn.Module):
    """Brings the trunk's maps to one width; the two coarsest are added up, the finer ones stand alone."""

    def __init__(self, trunk_widths: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(  # coarsest first, as in the checkpoints
            nn.Sequential(OrderedDict(conv=nn.Conv2d(w, width, 1))) for w in reversed(trunk_widths)
        )

    @property
    def heads(self) -> list[nn.Conv2d]:
        """The 1x1 convolutions, finest map first."""
        return [cast("nn.Conv2d", cast("nn.Sequential", conv)[0]) for conv in reversed(self.convs)]

    def join(self, maps: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Four maps that passed the heads, finest first -> three: at 1/4, 1/8, 1/16; the coarsest only feeds the third."""
        fine, middle, coarse, coarsest = maps
        return fine, middle, coarse + F.interpolate(coarsest, scale_factor=2.0, mode="nearest")


class MergedHead(nn.Conv2d):
    """One 1x1 convolution that does the work of two. Made of loaded weights, it is no part of the state."""

    def __init__(self, first: nn.Conv2d, second: nn.Conv2d) -> None:
        super().__init__(first.in_channels, second.out_channels, 1, device="meta")
        weight, bias = second.weight.flatten(1), second.get_parameter("bias")
        merged = (weight @ first.weight.flatten(1))[:, :, None, None], bias + weight @ first.get_parameter("bias")
        self.weight, self.bias = (nn.Parameter(x.detach(), requires_grad=False) for x in merged)

    def _save_to_state_dict(self, destination: dict[str, Tensor], prefix: str, keep_vars: bool) -> None:
        pass


class ImageEncoder(nn.Module):
    """Trunk and neck: pixels (B, 3, S, S) to maps at 1/4, 1/8 and 1/16.

    fuser: what the map at 1/16 passes at the end; in the published models nothing. stride: pixels for each cell of the coarsest
    map that is given; if that is not 16, all three are brought to so many cells.
    """

    def __init__(self, trunk: Hiera | ConvNet, neck: FpnNeck, fuser: Fuser, stride: int = TRUNK_STRIDE) -> None:
        super().__init__()
        self.trunk = trunk
        self.neck = neck
        self.fuser = fuser
        self.stride = stride
        self.merged = nn.ModuleList()

    def merge(self, following: Sequence[nn.Conv2d]) -> None:
        """Takes in 1x1 convolutions that the finest maps will pass next: the wide maps between them are never computed."""
        self.merged = nn.ModuleList(MergedHead(*pair) for pair in zip(self.neck.heads, following, strict=False))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        merged = cast("list[nn.Conv2d]", list(self.merged))
        fine, middle, coarse = self.neck.join(self.trunk(pixels, [*merged, *self.neck.heads[len(merged) :]]))
        if self.stride != TRUNK_STRIDE:
            cells = cells_across(pixels.shape[-1], self.stride)
            fine, middle, coarse = (bilinear(x, (n * cells, n * cells)) for x, n in ((fine, 4), (middle, 2), (coarse, 1)))
        return fine, middle, self.fuser(coarse)
