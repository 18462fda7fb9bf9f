"""Who says where things are: text, or nothing, to labelled boxes. Masks come from the boxes then.

A detector is an object with a name that is called with a picture (`Detector`). `open_detector("grounding-dino:MODEL")` finds
the one built in and those that installed packages offer under the entry point `pointcut.detectors`: a function that takes what
stands behind the colon, and the device, and gives a Detector.

    [project.entry-points."pointcut.detectors"]
    mine = "my_package:open_my_detector"
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Protocol, TypeAlias

import numpy as np

from ..errors import InputError

__all__ = ["Detections", "Detector", "detectors", "open_detector"]

GROUP = "pointcut.detectors"
"""The entry point under which packages offer detectors."""

DEFAULT = "grounding-dino"


@dataclass(frozen=True, eq=False)
class Detections:
    """Labelled boxes of one picture, best first. Raises InputError where their numbers differ."""

    boxes_xyxy: np.ndarray
    """(N, 4) float32 x0, y0, x1, y1 in the picture's pixels, within the picture."""
    labels: tuple[str, ...]
    """What each is."""
    scores: np.ndarray
    """(N,) float32, 0..1: how sure the detector is."""

    def __post_init__(self) -> None:
        if not self.boxes_xyxy.shape == (len(self.labels), 4) or self.scores.shape != (len(self.labels),):
            raise InputError(
                f"a detector must give as many boxes (N, 4) and scores (N,) as labels, got {self.boxes_xyxy.shape}, "
                f"{self.scores.shape} and {len(self.labels)} labels"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def within(self, size: tuple[int, int]) -> Detections:
        """Best first, cut to a picture of `size` (height, width), without what has no area there."""
        height, width = size
        boxes = np.nan_to_num(self.boxes_xyxy.astype(np.float32)).clip(0, (width, height, width, height))
        order = np.argsort(-self.scores, kind="stable")
        kept = [int(i) for i in order if boxes[i, 2] - boxes[i, 0] >= 1 and boxes[i, 3] - boxes[i, 1] >= 1]
        return Detections(boxes[kept].reshape(-1, 4), tuple(self.labels[i] for i in kept), self.scores[kept])


class Detector(Protocol):
    """What finds boxes. It may be called from several threads at once."""

    @property
    def name(self) -> str:
        """As results tell it, with the model and what else they depend on."""
        ...

    def __call__(self, image: np.ndarray, text: str | None) -> Detections:
        """image: (H, W, 3) uint8 RGB. text: what to look for, phrases that end in a full stop; None: whatever it knows."""
        ...


Opener: TypeAlias = Callable[[str, str], Detector]
"""(what stands behind the colon, the device) -> the detector."""


def detectors() -> list[str]:
    """The names of the detectors that are installed."""
    return sorted({DEFAULT} | {point.name for point in entry_points(group=GROUP)})


def open_detector(which: str = DEFAULT, device: str = "cpu") -> Detector:
    """`NAME` or `NAME:MODEL`. Raises InputError (no such detector), MissingExtra, ModelError."""
    name, _, model = which.partition(":")
    offered = {point.name: point for point in entry_points(group=GROUP)}
    if name in offered:
        opener: Opener = offered[name].load()
        return opener(model, device)
    if name == DEFAULT:
        from .grounding_dino import GroundingDino

        return GroundingDino.open(model, device)
    raise InputError(f"no detector is called {name!r}; there are {', '.join(detectors())}")
