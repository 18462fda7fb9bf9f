"""A prompt on a large picture: the window around it, enlarged until the object lies within."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from ..arrange import without_small_regions
from ..errors import InvalidPrompt
from ..prompts import Prompt, parse_prompts
from ..reading.large import LargePicture
from ..segment.segmenter import Segmenter
from ..segments import Segments
from .windows import Window

SIDE = 1024
"""Of the first window, in the picture's pixels."""

SURE = 0.6
"""The score from which an answer is taken as it is: inside of something large `nano` gives 0.57 to what it imagines there."""


@dataclass(frozen=True, eq=False)
class Windowed:
    """The answer within its window."""

    cut: Segments
    """Candidates, in the window's pixels, with its picture."""
    window: Window
    size: tuple[int, int]
    """(height, width) of the large picture."""

    @property
    def score(self) -> float:
        return float(self.best.cut.scores[0])

    @property
    def cut_off(self) -> bool:
        """Whether the best mask reaches an edge beyond which the picture goes on."""
        best = self.best.cut.boxes_xyxy * self.window.factor + np.array([self.window.x0, self.window.y0] * 2)
        return bool(self.window.cuts(best, self.size).any())

    @property
    def best(self) -> Windowed:
        """Its surest candidate alone."""
        return replace(self, cut=self.cut.best)

    def without_small_regions(self, least: int) -> Windowed:
        """As `arrange.without_small_regions`, of the large picture's pixels."""
        return replace(self, cut=without_small_regions(self.cut, -(-least // self.window.factor**2)))

    @property
    def placed(self) -> Segments:
        """The same in the large picture's pixels, as run lengths; its picture is black, and takes no memory."""
        window = self.window
        return self.cut.placed(black(self.size), window.x0, window.y0, window.factor)


def black(size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 that takes no memory."""
    return np.broadcast_to(np.uint8(0), (*size, 3))


def segment_in(
    model: Segmenter,
    picture: LargePicture,
    points: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    boxes: ArrayLike | None = None,
    *,
    multimask: bool | None = None,
    side: int = SIDE,
) -> Windowed:
    """One object: points (T, 2), labels (T,), box (4,), all in the large picture's pixels.

    side: of the first window. It grows while the prompt takes more than half of it, while the best mask reaches an edge beyond
    which the picture goes on, and while the model is unsure, as it is where all it sees is the inside of something; so what is
    found does not depend on any grid. Where it stays unsure, its surest answer counts. Raises InvalidPrompt, and what reading
    raises.
    """
    size = picture.height, picture.width
    prompts = parse_prompts(points, labels, boxes, None, size)
    if len(prompts) != 1:
        raise InvalidPrompt(f"a large picture is asked for one object at a time, got prompts of {len(prompts)}")
    x0, y0, x1, y1 = extent(prompts[0])
    while 2 * max(x1 - x0, y1 - y0) > side and side < max(size):
        side *= 2
    unsure = []
    while True:
        window = around((x0 + x1) / 2, (y0 + y1) / 2, side, size)
        found = Windowed(_asked(model, window.read(picture), prompts[0], window, multimask), window, size)
        if found.score >= SURE and not found.cut_off:
            return found
        if not found.cut_off:
            unsure.append(found)
        if side >= max(size):
            return max(unsure, key=lambda one: one.score, default=found)
        side *= 2


def extent(prompt: Prompt) -> tuple[float, float, float, float]:
    """The box around all that a prompt names."""
    corners = prompt.points if prompt.box is None else np.concatenate([prompt.points, prompt.box.reshape(2, 2)])
    (x0, y0), (x1, y1) = corners.min(0).tolist(), corners.max(0).tolist()
    return x0, y0, x1, y1


def around(x: float, y: float, side: int, size: tuple[int, int]) -> Window:
    """A window so large around a place, moved into the picture."""
    height, width = size
    x0 = int(min(max(0, round(x) - side // 2), max(0, width - side)))
    y0 = int(min(max(0, round(y) - side // 2), max(0, height - side)))
    return Window(x0, y0, min(width, x0 + side), min(height, y0 + side))


def _asked(model: Segmenter, pixels: np.ndarray, prompt: Prompt, window: Window, multimask: bool | None) -> Segments:
    photo = model.encode(pixels)
    within = prompt.moved(-window.x0, -window.y0)
    height, width = photo.size
    points = within.points / window.factor if len(within.points) else None
    box = None if within.box is None else (within.box / window.factor).clip(0, (width, height, width, height))
    return photo.segment(points, within.labels if points is not None else None, box, multimask=multimask)
