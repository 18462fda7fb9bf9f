"""The figures of one object, and of many.

Protocol of the clicks: Xu et al., "Deep Interactive Object Selection", section 4; Sofiiuk et al., "Reviving Iterative Training
with Mask Guidance" (RITM), section 4: the first click in the object's deepest point, each further one in the deepest point of
the largest error, the mask so far fed back; NoC@t is how many clicks it takes to reach an IoU of t, 20 where it never does.
Boundary F: Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation" (DAVIS), section 5.2.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ..masks import boxes_xyxy, erode
from ..opencv import opencv
from ..segments import Segments
from .contenders import Contender, Model
from .data import Example

CLICKS = 20
GOALS = (0.8, 0.85, 0.9)
BOUNDARY = 0.008
"""How far a border may be from the true one, as a share of the picture's diagonal."""


def iou(mask: np.ndarray, truth: np.ndarray, known: np.ndarray) -> float:
    union = np.count_nonzero((mask | truth) & known)
    return np.count_nonzero(mask & truth & known) / union if union else 1.0


def depth(region: np.ndarray) -> np.ndarray:
    """How far (Euclidean, pixels) each pixel of a region (H, W) is from its border, the picture's edge included."""
    cv2 = opencv("clicks and borders")
    return cv2.distanceTransform(np.pad(region.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]


def deepest(region: np.ndarray) -> tuple[tuple[float, float], float]:
    """The point (x, y) farthest from a region's border, and how far."""
    distance = depth(region)
    y, x = np.unravel_index(int(distance.argmax()), distance.shape)
    return (float(x), float(y)), float(distance[y, x])


def correction(mask: np.ndarray, truth: np.ndarray, known: np.ndarray) -> tuple[tuple[float, float], int]:
    """The next click: in the deepest point of what is missed (label 1) or added (0)."""
    missed, missed_depth = deepest(truth & ~mask & known)
    added, added_depth = deepest(mask & ~truth & known)
    return (missed, 1) if missed_depth >= added_depth else (added, 0)


def boundary_f(mask: np.ndarray, truth: np.ndarray) -> float:
    """The harmonic mean of the shares of each border that lie near the other."""
    reach = max(1.0, BOUNDARY * float(np.hypot(*mask.shape)))
    own, other = (m & ~erode(m) for m in (mask, truth))
    if not own.any() or not other.any():
        return float(own.any() == other.any())
    precision, recall = (float((depth(~b)[a] <= reach).mean()) for a, b in ((own, other), (other, own)))
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def judge(contender: Contender, truth: np.ndarray, known: np.ndarray) -> dict[str, float]:
    """One object's figures; those that a contender cannot have are missing."""
    answer = contender.box(boxes_xyxy(truth[None])[0])
    row = {"box IoU": iou(answer.chosen, truth, known), "boundary F": boundary_f(answer.chosen & known, truth)}
    errors = [abs(float(answer.scores.max()) - row["box IoU"])]
    if not contender.most_clicks:
        return row
    point, _ = deepest(truth)
    points, labels = [point], [1]
    started = time.perf_counter()
    answer = contender.clicks(points, labels, None)
    seconds = time.perf_counter() - started
    ious = [iou(mask, truth, known) for mask in answer.masks]
    errors += np.abs(answer.scores - ious).tolist()
    row |= {"1 click, best": max(ious), "1 click, own": ious[int(answer.scores.argmax())]}
    reached = [row["1 click, own"]]
    for _ in range(1, contender.most_clicks):
        point, label = correction(answer.chosen, truth, known)
        points, labels = [*points, point], [*labels, label]
        answer = contender.clicks(points, labels, answer)
        reached.append(iou(answer.chosen, truth, known))
    if len(reached) > 4:
        row["5 clicks"] = reached[4]
    if contender.most_clicks >= CLICKS:
        for goal in GOALS:
            row[f"NoC@{100 * goal:.0f}"] = next((n for n, value in enumerate(reached, 1) if value >= goal), CLICKS)
    if isinstance(contender, Model):
        row |= {"score error": float(np.mean(errors)), "click ms": 1000 * seconds}
    return row


def recall(cut: Segments, example: Example) -> dict[str, float]:
    """Which share of a picture's objects automatic masks find, at an IoU of 0.5 and of 0.75."""
    best = []
    for truth in example.truths:
        best.append(max((iou(cut.mask(row), truth, example.known) for row in _meeting(cut, truth)), default=0.0))
    return {f"recall@{goal}": float(np.mean([value >= goal for value in best])) for goal in (0.5, 0.75)}


def _meeting(cut: Segments, truth: np.ndarray) -> np.ndarray:
    """The rows whose boxes meet the object's."""
    x0, y0, x1, y1 = boxes_xyxy(truth[None])[0]
    boxes = cut.boxes_xyxy
    return np.flatnonzero((boxes[:, 0] < x1) & (boxes[:, 2] > x0) & (boxes[:, 1] < y1) & (boxes[:, 3] > y0))


def evaluate(
    contenders: list[Contender],
    pictures: list[Example],
    *,
    automatic: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """One row for each object and contender: set, picture, object (its number), contender, and the figures."""
    rows: list[dict[str, Any]] = []
    for done, example in enumerate(pictures):
        for contender in contenders:
            started = time.perf_counter()
            contender.look(example.path)
            encode = time.perf_counter() - started
            own: dict[str, Any] = {"set": example.set_name, "picture": str(example.path), "contender": contender.name}
            found = {}
            if isinstance(contender, Model):
                own["encode ms"] = 1000 * encode
                if automatic:
                    found = recall(contender.encoded.segment_everything(), example)
            for number, truth in enumerate(example.truths):
                rows.append(own | {"object": number} | judge(contender, truth, example.known) | found)
        if progress is not None:
            progress(done + 1, len(pictures))
    return rows
