"""Parts of a large picture as a network is shown them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..reading.large import LargePicture

FINEST = 4096
"""Windows with a longer side are read and drawn at a half, a quarter, ... of their size."""


@dataclass(frozen=True)
class Window:
    """Pixels x0 <= x < x1, y0 <= y < y1 of the large picture."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def factor(self) -> int:
        """How many of the picture's pixels, each way, one of the pixels that are read stands for."""
        return max(1, -(-max(self.x1 - self.x0, self.y1 - self.y0) // FINEST))

    def read(self, picture: LargePicture) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        factor = self.factor
        shape = -(-(self.y1 - self.y0) // factor), -(-(self.x1 - self.x0) // factor)
        return picture.window(self.x0, self.y0, self.x1, self.y1, None if factor == 1 else shape)

    @property
    def near(self) -> int:
        """How near to an edge, in the picture's pixels, a mask may well be cut by it: networks stop a little short of it."""
        return max(self.factor, max(self.x1 - self.x0, self.y1 - self.y0) // 64)

    def shared(self, other: Window) -> Window | None:
        """What lies in both."""
        both = Window(max(self.x0, other.x0), max(self.y0, other.y0), min(self.x1, other.x1), min(self.y1, other.y1))
        return both if both.x0 < both.x1 and both.y0 < both.y1 else None

    def cuts(self, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """(N,) bool: which boxes (N, 4), in the picture's pixels, reach this window's edge where the picture goes on."""
        height, width = size
        near = self.near
        cut = (boxes[:, 0] < self.x0 + near) & (self.x0 > 0)
        cut |= (boxes[:, 1] < self.y0 + near) & (self.y0 > 0)
        cut |= (boxes[:, 2] > self.x1 - near) & (self.x1 < width)
        return cut | ((boxes[:, 3] > self.y1 - near) & (self.y1 < height))
