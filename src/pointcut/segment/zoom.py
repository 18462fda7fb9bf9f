"""Looking closer: what is around each object is encoded on its own, so that small things are drawn as finely as large ones.

Source of the idea: the zoom-in of interactive segmentation, which crops around the last mask
(https://github.com/SamsungLabs/ritm_interactive_segmentation/blob/master/isegm/inference/transforms/zoom_in.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import InputError, InvalidPrompt
from ..pixels import rough_to_logits
from ..prompts import FOREGROUND, Prompt
from ..segments import Segments

if TYPE_CHECKING:
    from .session import EncodedImage

TIMES = 3.0
"""How many times as long as an object's box its surroundings are, each way. Of 1.5 to 4 the best on photographs that `nano` was
not trained on, judged by its teacher's masks."""

NARROWEST = 0.5
"""Surroundings of a thin object have sides of at least this proportion: the network sees them stretched to a square."""

NEARLY_ALL = 0.8
"""Parts that hold more of the picture are not encoded on their own: nothing would be seen closer."""

TOGETHER = 8
"""Parts that are encoded in one batch."""

NO_POINTS, NO_LABELS = np.zeros((0, 2), np.float32), np.zeros(0, np.int64)


class Part(NamedTuple):
    """Pixels x0 <= x < x1, y0 <= y < y1 of a picture."""

    x0: int
    y0: int
    x1: int
    y1: int

    def of(self, pixels: np.ndarray) -> np.ndarray:
        """(H, W, ...) -> (h, w, ...)."""
        return pixels[self.y0 : self.y1, self.x0 : self.x1]


def zoom_in(
    photo: EncodedImage, cut: Segments, times: float = TIMES, progress: Callable[[int, int], None] | None = None
) -> Segments:
    """See `EncodedImage.zoom_in`."""
    if cut.image.shape != photo.image.shape:
        raise InvalidPrompt("these segments belong to another picture: its size differs")
    if not 1 < times < np.inf:
        raise InputError(f"times says how much larger than the object its surroundings are; it is above 1, got {times}")
    best, drawn = cut.best, []
    for row, answer in enumerate(closer_looks(photo, best, times)):
        drawn.append(answer)
        if progress is not None:
            progress(row + 1, len(best))
    side = photo.side.grid[0] * 4
    logits = [rough_to_logits(answer.mask(0), photo.frame, side, photo.device).cpu().numpy() for answer in drawn]
    absent = [answer.object_scores for answer in drawn]
    return replace(
        best,
        stored=tuple(answer.rle()[0] for answer in drawn),
        scores=np.array([answer.scores[0] for answer in drawn], np.float32),
        stability=np.array([answer.stability[0] for answer in drawn], np.float32),
        logits=np.array(logits, np.float32).reshape(-1, side, side),
        object_scores=None if best.object_scores is None else np.concatenate([*absent, np.zeros(0, np.float32)]),
    )


def closer_looks(photo: EncodedImage, best: Segments, times: float) -> Iterator[Segments]:
    """Of each mask (one an object) the answer to a closer look, in the whole picture's pixels."""
    for first in range(0, len(best), TOGETHER):
        some = [best[row] for row in range(first, min(first + TOGETHER, len(best)))]
        asked = [asked_of(one) for one in some]
        parts = [None if ask is None or ask.box is None else part_of(photo.size, ask.box, times) for ask in asked]
        seen = [part for part in parts if part is not None]
        encoded = iter(photo.encoder.encode([part.of(photo.image) for part in seen]) if seen else [])
        for one, ask, part in zip(some, asked, parts, strict=True):
            if ask is None:
                yield one
                continue
            if part is None:
                answer = look(photo, ask)
            else:
                answer = look(next(encoded), moved_into(part, ask)).placed(photo.image, part.x0, part.y0)
            yield answer if ask.mask is None else replace(answer, scores=one.scores)  # it was taken for what is meant


def look(seen: EncodedImage, ask: Prompt) -> Segments:
    """The answer, and what it becomes when it goes in again."""
    points, labels = (ask.points, ask.labels) if len(ask.points) else (None, None)
    answer = seen.segment(points, labels, ask.box, ask.mask, multimask=False)
    return seen.segment(points, labels, ask.box, previous=answer, multimask=False)


def asked_of(one: Segments) -> Prompt | None:
    """What is asked from close up about one mask; None where it is empty.

    A box alone says what is meant. A click means part and whole: what was found says which, as a rough mask and by its box
    (`nano` makes more of the mask, MobileSAM of the box).
    """
    number = int(one.objects[0])
    prompt = one.prompts[number] if number < len(one.prompts) else Prompt(NO_POINTS, NO_LABELS)
    if prompt.box is not None and prompt.mask is None and not len(prompt.points):
        return prompt
    if not one.areas[0]:
        return None
    if prompt.box is not None:
        return replace(prompt, mask=one.mask(0))
    clicks = prompt.points[prompt.labels == FOREGROUND]
    corners = np.concatenate([clicks, clicks + 1, one.boxes_xyxy[0].reshape(2, 2)])
    return Prompt(prompt.points, prompt.labels, np.concatenate([corners.min(0), corners.max(0)]), one.mask(0))


def part_of(size: tuple[int, int], box: np.ndarray, times: float) -> Part | None:
    """What is around a box (4,) in a picture of `size` (height, width); None where there is nothing to see closer."""
    low, high = box.reshape(2, 2)
    sides = high - low
    middle, reach = (low + high) / 2, times * np.maximum(sides, NARROWEST * sides.max()) / 2
    (x0, y0), (x1, y1) = np.floor(middle - reach).astype(int), np.ceil(middle + reach).astype(int)
    height, width = size
    part = Part(max(0, int(x0)), max(0, int(y0)), min(width, int(x1)), min(height, int(y1)))
    return None if (part.x1 - part.x0) * (part.y1 - part.y0) > NEARLY_ALL * height * width else part


def moved_into(part: Part, ask: Prompt) -> Prompt:
    """The same in the part's pixels, without clicks that lie outside: they are far away, and said what it is not."""
    moved = ask.moved(-part.x0, -part.y0)
    inside = ((moved.points >= 0) & (moved.points < (part.x1 - part.x0, part.y1 - part.y0))).all(1)
    rough = None if ask.mask is None else part.of(ask.mask)
    return Prompt(moved.points[inside], moved.labels[inside], moved.box, rough)
