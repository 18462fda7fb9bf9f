"""The search: points on a grid, three candidates each, filtered by the model's own score, by stability, and by overlap.

The order of events and every rule are those of
https://github.com/facebookresearch/sam2/blob/main/sam2/automatic_mask_generator.py; what differs is what is not computed: a
candidate with a poor score is never enlarged, an enlarged one is never drawn (columns.py), the stability of one that overlaps a
better one is not measured, and only survivors are encoded.

This file knows networks and pictures, and nothing of sessions: a `View` is all that it needs of an encoded picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .. import rle
from ..components import without_small_parts
from ..images import Frame
from ..masks import boxes_xyxy
from ..nets.decoder import ImageSide
from ..nets.promptable import Promptable
from ..nets.prompts import FOREGROUND, Prompts
from ..nets.running import Download, inference, upload
from ..pixels import fitted
from .columns import FAR_SIDES, Enlarged, Place, areas_of, boxes_of, enlarged, rows_of, run_lengths, toggles_of
from .config import AutomaticConfig, Crop, crops_of
from .cores import on_all_cores
from .overlap import box_nms

EDGE = 20.0
"""A box this close (in pixels) to a crop's edge, and not at the picture's, is a cut-off thing: the next crop has it whole."""

MEASURED_TOGETHER = 8
"""Candidates that are measured at once on a CPU: more do not fit its cache."""

MEASURED_ON_A_GPU = 256
"""And there: it waits for each of many small steps."""

ON_A_CPU = 16
"""Points between two reports of progress there; they are decoded one by one, and their candidates measured together."""


@dataclass(frozen=True, eq=False)
class View:
    """An encoded picture, or crop of one."""

    net: Promptable
    side: ImageSide
    frame: Frame


class Candidates(NamedTuple):
    """N masks of one crop with a good score that it does not cut off, as columns of a table; not yet encoded."""

    boxes: np.ndarray
    """(N, 4) float32, as in `Found`."""
    scores: np.ndarray
    """(N,) float32."""
    points: np.ndarray
    """(N, 2) float32."""
    logits: Tensor
    """(N, h, w) float32, on the network's device."""

    def rows(self, index: np.ndarray) -> Candidates:
        """index: bool for each row."""
        return Candidates(self.boxes[index], self.scores[index], self.points[index], rows_of(self.logits, index))


@dataclass(frozen=True, eq=False)
class Found:
    """N masks that were found, as columns of a table; best first."""

    counts: list[np.ndarray]
    """Run lengths of each mask in the whole picture (COCO's, uncompressed)."""
    boxes: np.ndarray
    """(N, 4) float32 x0, y0, x1, y1 in pixels, the far sides inclusive (the references' convention)."""
    scores: np.ndarray
    """(N,) float32: the IoU that the model expects."""
    stability: np.ndarray
    """(N,) float32."""
    points: np.ndarray
    """(N, 2) float32 x, y: the grid's point that found it."""
    crops: np.ndarray
    """(N, 4) int64 x0, y0, x1, y1: the crop that it was found in."""
    logits: np.ndarray
    """(N, h, w) float16, low resolution, of its crop."""

    def __len__(self) -> int:
        return len(self.scores)

    def rows(self, index: np.ndarray) -> Found:
        return Found(
            [self.counts[i] for i in index],
            *(x[index] for x in (self.boxes, self.scores, self.stability, self.points, self.crops, self.logits)),
        )

    @classmethod
    def joined(cls, parts: list[Found]) -> Found:
        columns = ("boxes", "scores", "stability", "points", "crops", "logits")
        counts = [x for part in parts for x in part.counts]
        return cls(counts, *(np.concatenate([getattr(part, name) for part in parts]) for name in columns))


def search(
    whole: View,
    encode_crop: Callable[[Crop], View],
    config: AutomaticConfig,
    progress: Callable[[int, int], None] | None = None,
) -> Found:
    """Everything in a picture.

    encode_crop: encodes a part of the picture; called for crops only. progress: called with points done and points in all,
    after every few points; what it raises ends the search.
    """
    size = whole.frame.height, whole.frame.width
    crops = crops_of(*size, config)
    total, done = sum(len(config.grid(crop.layer)) for crop in crops), 0

    def advance(points: int) -> None:
        nonlocal done
        done += points
        if progress is not None and points:
            progress(done, total)

    found = []
    for crop in crops:
        view = whole if crop.layer == 0 else encode_crop(crop)
        found.append(_survivors(_asked(view, crop, size, config, advance), view, crop, size, config))
    everything = Found.joined(found)
    if len(crops) > 1:  # smaller crops saw it better
        x0, y0, x1, y1 = everything.crops.T
        preferred = 1 / ((x1 - x0) * (y1 - y0))
        everything = everything.rows(box_nms(everything.boxes, preferred, config.crop_nms_thresh))
    if config.min_mask_region_area:
        everything = _tidied(everything, *size, config)
    return everything


def _asked(
    view: View, crop: Crop, size: tuple[int, int], config: AutomaticConfig, advance: Callable[[int], None]
) -> list[Candidates]:
    """What the points of a crop's grid give, a few points after another."""
    side = 4 * view.net.prompt_encoder.side
    grid, covered = config.grid(crop.layer), np.zeros((side, side), bool)
    parts = [_none(side, view.net.device)]

    def measured(points: np.ndarray) -> tuple[int, Candidates]:
        with inference(view.net.device):  # each thread has its own
            part = _measured(view, points, crop, size, config)
            if config.skip_covered:  # what is found tells where to ask next
                part = part.rows(_stable(_stability(view, part.logits, config), config))
            return len(points), part

    for rows in config.rounds(crop.layer):
        asked = grid[rows][~_covers(covered, grid[rows], view.frame)]
        advance(len(rows) - len(asked))
        for count, part in _spread(view)(measured, _batches(asked, view, config)):
            parts.append(part)
            if config.skip_covered:
                covered |= _coverage(part, config)
            advance(count)
    return parts


def _together(view: View) -> int:
    return MEASURED_TOGETHER if view.net.device.type == "cpu" else MEASURED_ON_A_GPU


def _spread(view: View) -> Callable[..., Iterator[Any]]:
    """`map`, on a CPU over its cores."""
    return on_all_cores if view.net.device.type == "cpu" else map


def _survivors(parts: list[Candidates], view: View, crop: Crop, size: tuple[int, int], config: AutomaticConfig) -> Found:
    """The stable candidates of one crop without those that overlap a better one, best first."""
    boxes, scores, points = (np.concatenate(column) for column in list(zip(*parts, strict=True))[:3])
    logits = [one for part in parts for one in part.logits]  # a gigabyte of them is not copied
    stability = np.full(len(scores), np.nan, np.float32)

    def of(rows: np.ndarray) -> Tensor:
        return torch.stack([logits[row] for row in rows]) if len(rows) else parts[0].logits[:0]

    def stable(rows: np.ndarray) -> np.ndarray:
        together = _together(view)
        few = (rows[first : first + together] for first in range(0, len(rows), together))
        stability[rows] = np.concatenate(list(_spread(view)(lambda some: _stability(view, of(some), config), few)))
        return _stable(stability[rows], config)

    kept = box_nms(boxes, scores, config.box_nms_thresh, stable)
    drawn = of(kept)
    return Found(
        counts=_encoded(drawn, view, crop, size, config),
        boxes=boxes[kept],
        scores=scores[kept],
        stability=stability[kept],
        points=points[kept],
        crops=np.tile(np.array(_corners(crop)), (len(kept), 1)),
        logits=drawn.half().cpu().numpy(),
    )


def _encoded(logits: Tensor, view: View, crop: Crop, size: tuple[int, int], config: AutomaticConfig) -> list[np.ndarray]:
    """(N, h, w) -> the run lengths of each mask in the whole picture."""
    place = Place(crop.x0, crop.y0, view.frame.height, *size)

    def encode(some: Tensor) -> list[np.ndarray]:
        with torch.inference_mode():
            toggles = toggles_of(_enlarged(view, some), config.mask_threshold, place)
        return [run_lengths(toggles.of(row), size[0] * size[1]) for row in range(len(some))]

    pieces = torch.split(logits, _together(view)) if len(logits) else ()
    return [counts for piece in _spread(view)(encode, pieces) for counts in piece]


def _batches(grid: np.ndarray, view: View, config: AutomaticConfig) -> Iterator[np.ndarray]:
    """(P, 2) in [0, 1] -> pixels of the crop (N, 2) float32, as many as are decoded together."""
    points = (grid * (view.frame.width, view.frame.height)).astype(np.float32)
    together = ON_A_CPU if view.net.device.type == "cpu" else config.points_per_batch
    for start in range(0, len(points), together):
        yield points[start : start + together]


LARGE = 0.25
"""A mask of more than this share of its crop is more likely the ground than a thing: it keeps no point from being asked."""


def _coverage(found: Candidates, config: AutomaticConfig) -> np.ndarray:
    """(h, w) bool: where something was found that is not large."""
    masks = (found.logits > config.mask_threshold).cpu().numpy()
    return masks[masks.mean(axis=(1, 2)) <= LARGE].any(axis=0)


def _covers(covered: np.ndarray, grid: np.ndarray, frame: Frame) -> np.ndarray:
    """Which points (P, 2) in [0, 1] lie in `covered` (h, w)."""
    height, width = frame.content
    x, y = (grid * (width, height) * (covered.shape[0] / frame.side)).astype(np.int64).clip(0, covered.shape[0] - 1).T
    return covered[y, x]


def _measured(view: View, points: np.ndarray, crop: Crop, size: tuple[int, int], config: AutomaticConfig) -> Candidates:
    """The candidates of some points, with their boxes."""
    logits, scores, rows = _candidates(view, points, config)
    place = Place(crop.x0, crop.y0, view.frame.height, *size)
    boxes = [
        boxes_of(_enlarged(view, some), config.mask_threshold, place)
        for some in torch.split(logits, _together(view))
        if len(some)
    ]
    own_scores, own_rows = Download(scores, rows).arrays()
    found = Candidates(
        boxes=np.concatenate([np.zeros((0, 4), np.float32), *boxes]),
        scores=own_scores,
        points=points[own_rows] + np.array((crop.x0, crop.y0), np.float32),
        logits=logits,
    )
    cut_off = _cut_off(found.boxes, _corners(crop), size)
    return found.rows(~cut_off) if cut_off.any() else found  # masks are not copied for nothing


def _stability(view: View, logits: Tensor, config: AutomaticConfig) -> np.ndarray:
    """(N, h, w) -> (N,) float32, at the picture's size."""
    offset = config.stability_score_offset
    thresholds = config.mask_threshold + offset, config.mask_threshold - offset
    with torch.inference_mode(), np.errstate(invalid="ignore"):
        inner, outer = areas_of(_enlarged(view, logits), thresholds)
        return (inner / outer).astype(np.float32)  # nothing over nothing is not a number, and passes no filter


def _stable(stability: np.ndarray, config: AutomaticConfig) -> np.ndarray:
    """(N,) bool."""
    if config.stability_score_thresh <= 0:
        return np.ones(len(stability), bool)
    return stability >= config.stability_score_thresh


def _enlarged(view: View, logits: Tensor) -> Enlarged:
    """Low-resolution logits (N, h, w), to be looked at in the size of the view's picture."""
    return enlarged(fitted(logits, view.frame), view.frame.height, view.frame.width)


def _corners(crop: Crop) -> tuple[int, int, int, int]:
    return crop.x0, crop.y0, crop.x1, crop.y1


def _none(side: int, device: torch.device) -> Candidates:
    """side: h and w of the logits."""
    boxes, scores, points = (np.zeros(shape, np.float32) for shape in ((0, 4), (0,), (0, 2)))
    return Candidates(boxes, scores, points, torch.zeros(0, side, side, dtype=torch.float32, device=device))


def _candidates(view: View, points: np.ndarray, config: AutomaticConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (M, h, w), scores (M,), and whose points they are (M,): what passes the model's own score."""
    net, device = view.net, view.net.device
    xy = upload(view.frame.points_to_model(points), device)[:, None]  # (N, 1, 2)
    labels = torch.full(xy.shape[:2], FOREGROUND, device=device)
    prompts = Prompts(xy, labels)
    limit = config.pred_iou_thresh if config.pred_iou_thresh > 0 else -torch.inf
    if config.use_m2m or not config.multimask_output:
        answer = net.predict(view.side, prompts, config.multimask_output)
        if config.use_m2m:
            answer = net.refine(view.side, prompts, answer)
        rows = torch.arange(len(points), device=device).repeat_interleave(answer.scores.shape[1])
        good = (answer.scores.flatten() > limit).nonzero()[:, 0]
        return answer.logits.flatten(0, 1)[good], answer.scores.flatten()[good], rows[good]
    return net.good_candidates(view.side, prompts, limit)


def _cut_off(boxes: np.ndarray, crop: tuple[int, int, int, int], size: tuple[int, int]) -> np.ndarray:
    """(N,) whether a box ends at a side of its crop that is no side of the picture.

    Source: https://github.com/facebookresearch/sam2/blob/main/sam2/utils/amg.py (is_box_near_crop_edge)
    """
    at_crop = np.abs(boxes - np.array(crop, np.float32)) <= EDGE
    at_picture = np.abs(boxes - np.array((0, 0, size[1], size[0]), np.float32)) <= EDGE
    return (at_crop & ~at_picture).any(axis=1)


def _tidied(found: Found, height: int, width: int, config: AutomaticConfig) -> Found:
    """Small holes filled and small islands dropped; of masks that have become alike, those that needed no change stay.

    Source: https://github.com/facebookresearch/segment-anything/blob/main/segment_anything/automatic_mask_generator.py
    (postprocess_small_regions)
    """
    counts, boxes, untouched = list(found.counts), found.boxes.copy(), np.ones(len(found))
    for i, lengths in enumerate(found.counts):
        mask = rle.from_runs(lengths, height, width)
        clean = without_small_parts(mask, config.min_mask_region_area)
        if clean is not mask:
            counts[i], untouched[i] = rle.runs(clean), 0
            boxes[i] = boxes_xyxy(clean[None])[0] - FAR_SIDES
    tidy = replace(found, counts=counts, boxes=boxes)
    return tidy.rows(box_nms(boxes, untouched, max(config.box_nms_thresh, config.crop_nms_thresh)))
