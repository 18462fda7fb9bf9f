"""A picture to labelled masks: where preparing, detecting and segmenting meet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .automatic.config import AutomaticConfig
from .describe import Description
from .detect import Detector
from .errors import InputError, InvalidPrompt
from .prompts import PointsLike
from .segment.segmenter import Segmenter
from .segment.session import EncodedImage
from .segments import Segments


@dataclass(frozen=True)
class Preparation:
    """What the network is shown of a picture. Prompts and masks stay in the whole picture's pixels. Raises InputError."""

    crop: tuple[int, int, int, int] | None = None
    """x0, y0, x1, y1: only this part is looked at; what lies beyond the picture is cut off."""
    long_side: int | None = None
    """The part is made smaller where its longer side exceeds this."""
    zoom: bool = False
    """Each mask is drawn anew from what is around it (`EncodedImage.zoom_in`)."""

    def __post_init__(self) -> None:
        if self.crop is not None and (self.crop[0] >= self.crop[2] or self.crop[1] >= self.crop[3]):
            raise InputError(f"a crop is x0, y0, x1, y1 with x0 < x1 and y0 < y1, got {self.crop}")
        if self.long_side is not None and self.long_side < 16:
            raise InputError(f"the long side must be at least 16 pixels, got {self.long_side}")

    def encode(self, model: Segmenter, pixels: np.ndarray) -> Part:
        """pixels: (H, W, 3) uint8 RGB. Raises InputError where the crop lies outside."""
        height, width = pixels.shape[:2]
        x0, y0, x1, y1 = self.crop or (0, 0, width, height)
        x0, y0, x1, y1 = max(0, x0), max(0, y0), min(width, x1), min(height, y1)
        if x0 >= x1 or y0 >= y1:
            raise InputError(f"the crop {self.crop} lies outside of the picture, {width} x {height}")
        part = pixels if (x0, y0, x1, y1) == (0, 0, width, height) else pixels[y0:y1, x0:x1]
        return Part(model.encode(part, long_side=self.long_side, max_pixels=part.size), pixels, x0, y0, self.zoom)

    def told(self) -> dict[str, Any]:
        """What a record says of it."""
        told: dict[str, Any] = {} if self.crop is None else {"crop": list(self.crop)}
        told |= {} if self.long_side is None else {"long_side": self.long_side}
        return told | {"zoom": True} if self.zoom else told


@dataclass(frozen=True, eq=False)
class Part:
    """An encoded part of a picture that answers in the whole picture's pixels."""

    photo: EncodedImage
    whole: np.ndarray
    """(H, W, 3) uint8 RGB."""
    x0: int
    y0: int
    """Where the part begins."""
    zoom: bool = False
    """Whether each mask is drawn anew, the best of each object."""

    @property
    def is_whole(self) -> bool:
        """Whether there is no more of the picture."""
        return self.photo.size == self.whole.shape[:2]

    def segment(
        self,
        points: PointsLike | None = None,
        labels: PointsLike | None = None,
        boxes: np.ndarray | None = None,
        mask: np.ndarray | None = None,
        multimask: bool | None = None,
    ) -> Segments:
        """As `EncodedImage.segment`; boxes are cut to the part. Raises InvalidPrompt."""
        if self.is_whole:
            return self._closer(self.photo.segment(points, labels, boxes, mask, multimask=multimask))
        height, width = self.photo.size
        start = np.array([self.x0, self.y0], np.float32)
        if points is not None:
            points = _moved(points, -start)
        if boxes is not None:
            boxes = (np.asarray(boxes, np.float32) - np.tile(start, 2)).clip(0, (width, height, width, height))
        if mask is not None:
            mask = mask[..., self.y0 : self.y0 + height, self.x0 : self.x0 + width]
        try:
            return self._placed(self._closer(self.photo.segment(points, labels, boxes, mask, multimask=multimask)))
        except InvalidPrompt as error:
            raise InvalidPrompt(f"within the crop, which begins at {self.x0}, {self.y0}: {error}") from None

    def segment_everything(
        self, config: AutomaticConfig | None = None, progress: Callable[[int, int], None] | None = None
    ) -> Segments:
        """As `EncodedImage.segment_everything`; to look closer is the second half of the progress."""
        if not self.zoom or progress is None:
            return self._placed(self._closer(self.photo.segment_everything(config, progress)))
        cut = self.photo.segment_everything(config, lambda done, total: progress(done, 2 * total))
        return self._placed(self.photo.zoom_in(cut, progress=lambda done, total: progress(total + done, 2 * total)))

    def segment_found(self, detector: Detector, text: str | None) -> Found:
        """What a detector finds in the part: a mask for each of its boxes. Raises InputError."""
        detected = detector(self.photo.image, text).within(self.photo.size)
        if not len(detected):
            return Found(Segments.read_back(self.whole, (), (), ()), (), np.zeros(0, np.float32))
        cut = self._placed(self._closer(self.photo.segment(boxes=detected.boxes_xyxy)).best)
        return Found(cut, detected.labels, detected.scores)

    def _closer(self, cut: Segments) -> Segments:
        return self.photo.zoom_in(cut) if self.zoom else cut

    def _placed(self, cut: Segments) -> Segments:
        return cut if self.is_whole else cut.placed(self.whole, self.x0, self.y0)


@dataclass(frozen=True, eq=False)
class Found:
    """The masks of a picture, and what is known of each. Of detected boxes a mask a box, best box first."""

    cut: Segments
    labels: tuple[str, ...]
    """What each is; () where nobody said."""
    box_scores: np.ndarray
    """(N,) float32, 0..1: the detector's; (0,) where none was asked."""
    descriptions: tuple[Description, ...] = ()
    """What a vision-language model said of each; () where none was asked."""

    @property
    def texts(self) -> tuple[str, ...]:
        """The descriptions, empty where there is none."""
        return tuple(one.text for one in self.descriptions)


def _moved(points: Any, by: np.ndarray) -> Any:
    """Points of one object or of many, each any number."""
    try:
        return np.asarray(points, np.float32) + by
    except ValueError:  # uneven lists
        return [np.asarray(one, np.float32).reshape(-1, 2) + by for one in points]
