"""How well a model cuts out what it is shown: `python benchmarks/evaluate.py --data DIR [--model nano] [--json]`.

DIR holds sets as `<set>/images/X.jpg` with `<set>/masks/X.png`, or video sequences one folder deeper. Every object of at least
1 % of its picture is asked for

- by its true box (the model's single answer),
- by one click at its deepest point (best of the three candidates by the true mask; and the one with the highest score),
- by up to five clicks, each in the deepest point of the largest error, the mask so far fed back.

The click protocol is that of the interactive segmentation papers (Xu et al. 2016; Sofiiuk et al., RITM, section 4). The box
itself as a mask, and OpenCV's GrabCut from the same box, stand beside as baselines.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

import pointcut
from pointcut.masks import boxes_xyxy

VOID = 255
LEAST = 0.01
CLICKS = 5


def pictures(root: Path, every: int) -> Iterator[tuple[str, Path, Path]]:
    """(set, image, mask) of every labelled picture; of a video every `every`-th frame."""
    for folder in sorted(root.rglob("images")):
        name = folder.parent.relative_to(root).as_posix()
        files = sorted(folder.iterdir())
        for image in files[:: every if "/" in name else 1]:
            mask = folder.parent / "masks" / f"{image.stem}.png"
            if mask.is_file():
                yield name if name != "." else root.name, image, mask


def iou(mask: np.ndarray, truth: np.ndarray, known: np.ndarray) -> float:
    union = np.count_nonzero((mask | truth) & known)
    return np.count_nonzero(mask & truth & known) / union if union else 1.0


def deepest(region: np.ndarray) -> tuple[tuple[float, float], float]:
    """The point (x, y) farthest from a region's border, the picture's edge included, and how far."""
    depth = cv2.distanceTransform(np.pad(region.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return (float(x), float(y)), float(depth[y, x])


def correction(mask: np.ndarray, truth: np.ndarray, known: np.ndarray) -> tuple[tuple[float, float], int]:
    """The next click: in the deepest point of what is missed (label 1) or added (0)."""
    missed, missed_depth = deepest(truth & ~mask & known)
    added, added_depth = deepest(mask & ~truth & known)
    return (missed, 1) if missed_depth >= added_depth else (added, 0)


def grabcut(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """OpenCV's GrabCut, five rounds from the box."""
    x0, y0, x1, y1 = (int(v) for v in box)
    mask = np.zeros(image.shape[:2], np.uint8)
    if x1 - x0 >= image.shape[1] - 1 and y1 - y0 >= image.shape[0] - 1:
        return np.ones_like(mask, bool)  # no background is left to learn from
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    bgr = np.ascontiguousarray(image[..., ::-1])
    cv2.setRNGSeed(0)
    cv2.grabCut(bgr, mask, (x0, y0, x1 - x0, y1 - y0), background, foreground, 5, cv2.GC_INIT_WITH_RECT)
    return (mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD)


def judge(photo: pointcut.EncodedImage, truth: np.ndarray, known: np.ndarray, with_grabcut: bool) -> dict[str, float]:
    """The figures of one object."""
    box = boxes_xyxy(truth[None])[0]
    answer = photo.segment(boxes=box)
    row = {"box": iou(answer.masks[0], truth, known)}
    row["box_score_error"] = abs(float(answer.scores[0]) - row["box"])

    point, _ = deepest(truth)
    points, labels = [point], [1]
    cut = photo.segment(points=points)
    ious = [iou(mask, truth, known) for mask in cut.masks]
    row["click_best_of_three"] = max(ious)
    row["click_own_choice"] = ious[int(cut.scores.argmax())]
    row["click_score_error"] = float(np.abs(cut.scores - ious).mean())
    cut = cut.best
    for n in range(2, CLICKS + 1):
        point, label = correction(cut.masks[0], truth, known)
        points, labels = [*points, point], [*labels, label]
        cut = photo.segment(points=points, labels=labels, previous=cut)
        row[f"clicks_{n}"] = iou(cut.masks[0], truth, known)

    inside = np.zeros_like(truth)
    x0, y0, x1, y1 = box.astype(int)
    inside[y0:y1, x0:x1] = True
    row["baseline_box_itself"] = iou(inside, truth, known)
    if with_grabcut:
        row["baseline_grabcut"] = iou(grabcut(photo.image, box), truth, known)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--every", type=int, default=8, help="of a video's frames, take every n-th")
    parser.add_argument("--no-grabcut", action="store_true", help="leave that baseline out; it takes half of the time")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    model = pointcut.load(args.model, device=args.device)
    rows: dict[str, list[dict[str, float]]] = defaultdict(list)
    started = time.monotonic()
    for name, image, mask in pictures(args.data, args.every):
        labels = np.asarray(Image.open(mask))
        known = labels != VOID
        ids, counts = np.unique(labels, return_counts=True)
        chosen = [i for i, n in zip(ids, counts, strict=True) if 0 < i < VOID and n >= LEAST * labels.size]
        if chosen:
            photo = model.encode(image)
            rows[name].extend(judge(photo, labels == i, known, not args.no_grabcut) for i in chosen)
    if not rows:
        raise SystemExit(f"no labelled pictures below {args.data}: expected <set>/images/X.jpg with <set>/masks/X.png")
    table = {
        name: {"objects": len(found)} | {key: round(float(np.mean([r[key] for r in found])), 3) for key in found[0]}
        for name, found in rows.items()
    }
    if args.json:
        print(json.dumps(table, indent=1))
        return
    print(f"{args.model}, mean IoU, {platform.processor() or platform.machine()}, {time.strftime('%Y-%m-%d')}, ", end="")
    print(f"{time.monotonic() - started:.0f} s\n")
    columns = list(next(iter(table.values())))
    print("| set | " + " | ".join(columns) + " |\n|" + "---|" * (len(columns) + 1))
    for name, values in table.items():
        print(f"| {name} | " + " | ".join(str(values[c]) for c in columns) + " |")


if __name__ == "__main__":
    main()
