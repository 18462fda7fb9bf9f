"""A plain residual convolutional trunk: the one that the built-in model uses in Hiera's place.

3x3 convolutions with batch normalisation learn from a few hundred photographs in minutes and run in milliseconds on a CPU,
where a small Hiera learnt nothing in the same time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from .layers import ConvNorm


@dataclass(frozen=True)
class ConvNetConfig:
    """A size of the trunk: one row of a table."""

    widths: tuple[int, int, int, int] = (32, 64, 128, 256)
    """Channels after each stage, finest first."""
    stages: tuple[int, int, int, int] = (2, 2, 3, 2)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut. Source: He et al., "Deep Residual Learning", figure 2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(width, width)
        self.conv2 = ConvNorm(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu_(self.conv2(F.relu_(self.conv1(x))).add_(x))


class Stage(nn.Module):
    """Halves the map and widens it, then refines it with residual blocks."""

    def __init__(self, width_in: int, width: int, depth: int) -> None:
        super().__init__()
        self.down = ConvNorm(width_in, width, stride=2)
        self.blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(F.relu_(self.down(x)))


class ConvNet(nn.Module):
    """The trunk: pixels to four maps, at 1/4, 1/8, 1/16 and 1/32 of their size."""

    def __init__(self, config: ConvNetConfig) -> None:
        super().__init__()
        self.stem = ConvNorm(3, config.widths[0], stride=2)
        inputs = (config.widths[0], *config.widths)
        self.stages = nn.ModuleList(
            Stage(a, b, depth) for a, b, depth in zip(inputs, config.widths, config.stages, strict=False)
        )

    def bake(self, input_size: int) -> None:  # noqa: ARG002  # trunks are baked alike; the size does not matter here
        """Folds every normalisation into its convolution."""
        for module in self.modules():
            if isinstance(module, ConvNorm):
                module.bake()

    def forward(self, x: Tensor, heads: Sequence[nn.Conv2d]) -> list[Tensor]:
        """(B, 3, H, W) -> four maps, finest first, each through its head, a 1x1 convolution."""
        x = F.relu_(self.stem(x))
        maps = []
        for stage, head in zip(self.stages, heads, strict=True):
            x = stage(x)
            maps.append(head(x))
        return maps
