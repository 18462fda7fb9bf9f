"""Who is judged: a model, a network of random weights, OpenCV's GrabCut, and the box itself.

Each answers a box with a mask, and clicks with candidates; so every number has a neighbour.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..nets.promptable import Promptable
from ..opencv import opencv
from ..segment.segmenter import Segmenter
from ..segment.session import EncodedImage, Encoder
from ..segments import Segments


@dataclass(frozen=True, eq=False)
class Answer:
    """Candidates with the scores that the contender gives them, and what it wants back with the next click."""

    masks: np.ndarray
    """(K, H, W) bool."""
    scores: np.ndarray
    """(K,)."""
    memory: Segments | None = None

    @property
    def chosen(self) -> np.ndarray:
        return self.masks[int(self.scores.argmax())]


class Contender(ABC):
    """Someone who cuts out what is pointed at in one picture after another."""

    most_clicks = 20

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def look(self, path: Path) -> None:
        """The next picture."""

    @abstractmethod
    def box(self, box: np.ndarray) -> Answer:
        """x0, y0, x1, y1 -> one mask."""

    @abstractmethod
    def clicks(self, points: list[tuple[float, float]], labels: list[int], before: Answer | None) -> Answer:
        """All clicks so far (1 this, 0 not this), and the answer to all but the last."""


class Model(Contender):
    """A network of ours."""

    def __init__(self, name: str, segmenter: Segmenter) -> None:
        super().__init__(name)
        self.segmenter = segmenter
        self.photo: EncodedImage | None = None

    @property
    def encoded(self) -> EncodedImage:
        if self.photo is None:
            raise RuntimeError("look at a picture first")
        return self.photo

    def look(self, path: Path) -> None:
        self.photo = self.segmenter.encode(path)

    def box(self, box: np.ndarray) -> Answer:
        return self._answer(self.encoded.segment(boxes=box))

    def clicks(self, points: list[tuple[float, float]], labels: list[int], before: Answer | None) -> Answer:
        previous = None if before is None else before.memory
        return self._answer(self.encoded.segment(points=points, labels=labels, previous=previous))

    @staticmethod
    def _answer(cut: Segments) -> Answer:
        return Answer(cut.masks, cut.scores, cut.best)


def random_network(segmenter: Segmenter, seed: int = 0) -> Model:
    """The same network, its weights drawn at random."""
    torch.manual_seed(seed)
    net: Promptable = type(segmenter.net)(segmenter.net.config)  # type: ignore[call-arg,arg-type]  # every family takes its row
    net.bake()
    return Model("random weights", Segmenter(Encoder(net.to(segmenter.device), segmenter.name)))


class BoxItself(Contender):
    """The box as the mask; clicks mean nothing to it."""

    most_clicks = 0

    def __init__(self) -> None:
        super().__init__("the box itself")
        self.size = 0, 0

    def look(self, path: Path) -> None:
        from PIL import Image

        with Image.open(path) as image:
            self.size = image.height, image.width

    def box(self, box: np.ndarray) -> Answer:
        mask = np.zeros(self.size, bool)
        x0, y0, x1, y1 = box.astype(int)
        mask[y0:y1, x0:x1] = True
        return Answer(mask[None], np.ones(1))

    def clicks(self, points: list[tuple[float, float]], labels: list[int], before: Answer | None) -> Answer:
        raise NotImplementedError


class GrabCut(Contender):
    """OpenCV's GrabCut, five rounds: from the box, or, on a smaller picture, from a disc around one click. It is slow."""

    most_clicks = 1
    radius = 0.02
    """Of the click's disc, as a share of the picture's longer side; four times as far the object is likely."""
    longest = 320
    """The longer side of the picture that a click is asked of."""

    def __init__(self) -> None:
        super().__init__("GrabCut")
        self.cv2 = opencv("GrabCut's baselines")
        self.bgr = np.zeros((0, 0, 3), np.uint8)

    def look(self, path: Path) -> None:
        from ..images import open_image

        self.bgr = np.ascontiguousarray(open_image(path)[..., ::-1])

    def box(self, box: np.ndarray) -> Answer:
        x0, y0, x1, y1 = (int(v) for v in box)
        height, width = self.bgr.shape[:2]
        if x1 - x0 >= width - 1 and y1 - y0 >= height - 1:  # no background is left to learn from
            return Answer(np.ones((1, height, width), bool), np.ones(1))
        mask = np.zeros((height, width), np.uint8)
        return Answer(self._cut(self.bgr, mask, (x0, y0, x1 - x0, y1 - y0))[None], np.ones(1))

    def clicks(self, points: list[tuple[float, float]], labels: list[int], before: Answer | None) -> Answer:  # noqa: ARG002
        cv2, (height, width) = self.cv2, self.bgr.shape[:2]
        scale = min(1.0, self.longest / max(height, width))
        small = cv2.resize(self.bgr, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        seeds = np.full(small.shape[:2], cv2.GC_PR_BGD, np.uint8)
        centre = round(points[0][0] * scale), round(points[0][1] * scale)
        radius = max(2, round(self.radius * max(seeds.shape)))
        cv2.circle(seeds, centre, 4 * radius, cv2.GC_PR_FGD, -1)
        cv2.circle(seeds, centre, radius, cv2.GC_FGD, -1)
        mask = self._cut(small, seeds, (0, 0, 0, 0)).astype(np.uint8)
        mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
        return Answer(mask[None].astype(bool), np.ones(1))

    def _cut(self, bgr: np.ndarray, mask: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
        background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
        mode = self.cv2.GC_INIT_WITH_RECT if any(box) else self.cv2.GC_INIT_WITH_MASK
        self.cv2.setRNGSeed(0)
        self.cv2.grabCut(bgr, mask, box, background, foreground, 5, mode)
        return (mask == self.cv2.GC_FGD) | (mask == self.cv2.GC_PR_FGD)
