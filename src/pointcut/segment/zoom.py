"""Looking closer: what is around each object is encoded on its own, so that small things are drawn as finely as large ones.

Source of the idea: the zoom-in of interactive segmentation, which crops around the last mask
(https://github.com/SamsungLabs/ritm_interactive_segmentation/blob/master/isegm/inference/transforms/zoom_in.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..automatic.config import Crop
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

LEAST = 64
"""Pixels that they are wide and high, if the picture is: of fewer there is nothing more to see."""

NEARLY_ALL = 0.8
"""Where they hold more of the picture, the picture is looked at again."""

NO_POINTS, NO_LABELS = np.zeros((0, 2), np.float32), np.zeros(0, np.int64)


def zoom_in(
    photo: EncodedImage, cut: Segments, times: float = TIMES, progress: Callable[[int, int], None] | None = None
) -> Segments:
    """See `EncodedImage.zoom_in`."""
    if cut.image.shape != photo.image.shape:
        raise InvalidPrompt("these segments belong to another picture: its size differs")
    if not 1 < times < np.inf:
        raise InputError(f"times says how much larger than the object its surroundings are; it is above 1, got {times}")
    best, drawn = cut.best, []
    for row, one in enumerate(best):
        drawn.append(closer_look(photo, one, times))
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


def closer_look(photo: EncodedImage, one: Segments, times: float) -> Segments:
    """One mask, drawn anew, in the whole picture's pixels."""
    ask = asked_of(one)
    if ask is None or ask.box is None:
        return one
    crop = around(ask.box, photo.size, times)
    if crop is None:
        answer = look(photo, ask)
    else:
        answer = look(photo.crop(crop), moved_into(crop, ask)).placed(photo.image, crop.x0, crop.y0)
    return answer if ask.mask is None else replace(answer, scores=one.scores)  # it was taken for what is meant


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


def around(box: np.ndarray, size: tuple[int, int], times: float) -> Crop | None:
    """The surroundings of a box (4,) in a picture of `size` (height, width); None where they are nearly all of it."""
    low, high = box.reshape(2, 2)
    sides = high - low
    middle, reach = (low + high) / 2, np.maximum(times * np.maximum(sides, NARROWEST * sides.max()), LEAST) / 2
    (x0, y0), (x1, y1) = np.floor(middle - reach).astype(int), np.ceil(middle + reach).astype(int)
    height, width = size
    crop = Crop(max(0, int(x0)), max(0, int(y0)), min(width, int(x1)), min(height, int(y1)), layer=0)
    return None if (crop.x1 - crop.x0) * (crop.y1 - crop.y0) > NEARLY_ALL * height * width else crop


def moved_into(crop: Crop, ask: Prompt) -> Prompt:
    """The same in the crop's pixels, without clicks that lie outside: they are far away, and said what it is not."""
    moved = ask.moved(-crop.x0, -crop.y0)
    inside = ((moved.points >= 0) & (moved.points < (crop.x1 - crop.x0, crop.y1 - crop.y0))).all(1)
    rough = None if ask.mask is None else ask.mask[crop.y0 : crop.y1, crop.x0 : crop.x1]
    return Prompt(moved.points[inside], moved.labels[inside], moved.box, rough)
