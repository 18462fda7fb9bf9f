"""How many things there are in a picture, or how many like one that is pointed at, there or in another picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from . import draw
from .arrange import apart, label_map, select, without_duplicates
from .automatic.config import AutomaticConfig
from .segment.features import pooled_features
from .segment.session import EncodedImage
from .segments import Segments

LARGEST = 0.5
"""A mask of more than this share of the picture is not counted: it is the ground."""


class Specimen(NamedTuple):
    """What is counted, as any picture can be asked for it that the same model encodes and that shows things as large."""

    features: np.ndarray
    """(C,) float32 of length one (features.py)."""
    area: int
    """Pixels."""

    @classmethod
    def of(cls, photo: EncodedImage, cut: Segments) -> Specimen:
        """cut: one segment of that picture, as `photo.segment(points=[...]).best` gives it."""
        return cls(pooled_features(photo, cut[:1])[0], int(cut.areas[0]))


@dataclass(frozen=True, eq=False)
class Counted:
    """What was counted, each thing once."""

    cut: Segments
    similarity: np.ndarray | None = None
    """(N,) float32, -1 to 1: how like the example each is; None without an example."""

    def __len__(self) -> int:
        return len(self.cut)

    def picture(self) -> Image.Image:
        """Every counted thing in a colour of its own, with its number in its middle."""
        labels = label_map(self.cut)
        boxes = self.cut.boxes_xyxy
        places = [((x0 + x1) / 2, (y0 + y1) / 2) for x0, y0, x1, y1 in boxes.tolist()]
        return draw.mosaic(self.cut.image, labels, [(str(number), *place) for number, place in enumerate(places, start=1)])


def count_objects(
    photo: EncodedImage,
    like: Specimen | Segments | None = None,
    *,
    config: AutomaticConfig | None = None,
    similarity: float = 0.5,
    size_ratio: float = 4.0,
    min_area: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Counted:
    """Counts everything, or everything like an example.

    like: one segment of the same picture, or what `Specimen.of` gives of another one. similarity: the cosine between a
    thing's features (features.py) and the example's from which on it counts. size_ratio: how many times larger or smaller than
    the example it may be. min_area: pixels. config, progress: as in `EncodedImage.segment_everything`.

    Things are whole: a part of something counted is not counted again. Where parts of the example's size are meant (the fingers
    of a hand), point at one of them: of masks that share pixels the one counts that is most like the example, in size, too.
    """
    found = photo.segment_everything(config, progress)
    height, width = photo.size
    largest = int(LARGEST * height * width)
    if like is None:
        return Counted(without_duplicates(select(found, min_area=min_area, max_area=largest), iou=0.5, inside=0.7))
    features, area = like if isinstance(like, Specimen) else Specimen.of(photo, like)
    alike = select(found, min_area=max(min_area, int(area / size_ratio)), max_area=min(largest, int(area * size_ratio)))
    closeness = pooled_features(photo, alike) @ features
    rows = np.flatnonzero(closeness >= similarity)
    alike, closeness = alike[rows], closeness[rows]
    ratio = alike.areas / area
    rows = apart(alike, closeness * np.sqrt(np.minimum(ratio, 1 / ratio)), inside=0.7)
    return Counted(alike[rows], closeness[rows])
