"""What a smaller square, a limit of the long side or a crop costs in IoU, and saves in time, on labelled photographs.

python benchmarks/preprocessing.py ../shared/data/eval/coco_by_val [--model nano] [--pictures 0]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np

import pointcut
from pointcut.evaluate.data import Example, examples
from pointcut.evaluate.measure import deepest, iou
from pointcut.images import open_image
from pointcut.masks import boxes_xyxy
from pointcut.pipeline import Preparation

Box = tuple[int, int, int, int]


def around(box: np.ndarray, share: float, size: tuple[int, int]) -> Box:
    """The box, so many times as large, within the picture."""
    (x0, y0, x1, y1), (height, width) = box.tolist(), size
    more_x, more_y = (share - 1) / 2 * (x1 - x0), (share - 1) / 2 * (y1 - y0)
    corners = max(0, x0 - more_x), max(0, y0 - more_y), min(width, x1 + more_x), min(height, y1 + more_y)
    return tuple(round(value) for value in corners)  # type: ignore[return-value]  # four of them


def measure(
    model: pointcut.Segmenter, pictures: list[Example], prepare: Callable[[np.ndarray, tuple[int, int]], Preparation]
) -> tuple[float, float, float]:
    """Mean IoU with the object's box, with a click in its middle (best of three), and the median milliseconds of encoding."""
    boxed, clicked, spent = [], [], []
    for example in pictures:
        pixels = open_image(example.path)
        for truth in example.truths:
            box = boxes_xyxy(truth[None])[0]
            began = time.perf_counter()
            part = prepare(box, truth.shape).encode(model, pixels)
            spent.append(1000 * (time.perf_counter() - began))
            boxed.append(iou(part.segment(boxes=box).mask(0), truth, example.known))
            point, _ = deepest(truth)
            clicked.append(max(iou(mask, truth, example.known) for mask in part.segment(points=[point]).masks))
    return float(np.mean(boxed)), float(np.mean(clicked)), statistics.median(spent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--sides", default="256,384,512,640,768")
    parser.add_argument("--pictures", type=int, default=0, help="0: all")
    asked = parser.parse_args()
    pictures = list(islice(examples(asked.folder, 1), asked.pictures or None))
    own = pointcut.load(asked.model, device="cpu")
    side = own.net.input_size
    measure(own, pictures[:3], lambda *_: Preparation())
    print(f"{sum(len(example.truths) for example in pictures)} objects of {len(pictures)} pictures, {asked.model}\n")
    print("| choice | box IoU | one click, best of three | encode (ms) |\n|---|---|---|---|")

    def row(name: str, model: pointcut.Segmenter, prepare: Callable[[np.ndarray, tuple[int, int]], Preparation]) -> None:
        box, click, spent = measure(model, pictures, prepare)
        print(f"| {name} | {box:.3f} | {click:.3f} | {spent:.0f} |", flush=True)

    row(f"as it is (a square of {side})", own, lambda *_: Preparation())
    for other in map(int, asked.sides.split(",")):
        if other != side:
            row(f"`--side {other}`", pointcut.load(asked.model, device="cpu", side=other), lambda *_: Preparation())
    for limit in (160, 256, 384):
        row(f"`--long-side {limit}`", own, lambda *_, limit=limit: Preparation(long_side=limit))  # type: ignore[misc]
    for share in (1.2, 2.0, 3.0):
        row(
            f"`--crop`, {share:g} times the object's box",
            own,
            lambda box, size, share=share: Preparation(crop=around(box, share, size)),  # type: ignore[misc]
        )


if __name__ == "__main__":
    main()
