"""What a smaller square, a limit of the long side, a crop or zooming in does to IoU and time, on labelled photographs.

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
from pointcut.evaluate.measure import boundary_f, deepest, iou
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
) -> str:
    """A row: with the object's box mean IoU and boundary F; with a click in its middle the IoU of the best candidate and of the
    model's choice; the median milliseconds of encoding the picture, and of the box's answer."""
    figures, encoding, answering = [], [], []
    for example in pictures:
        pixels = open_image(example.path)
        for truth in example.truths:
            box = boxes_xyxy(truth[None])[0]
            times = [time.perf_counter()]
            part = prepare(box, truth.shape).encode(model, pixels)
            times.append(time.perf_counter())
            boxed = part.segment(boxes=box).mask(0)
            times.append(time.perf_counter())
            point, _ = deepest(truth)
            clicked = part.segment(points=[point])
            ious = [iou(mask, truth, example.known) for mask in clicked.masks]
            own = ious[int(clicked.scores.argmax())]
            figures.append((iou(boxed, truth, example.known), boundary_f(boxed & example.known, truth), max(ious), own))
            encoding.append(1000 * (times[1] - times[0]))
            answering.append(1000 * (times[2] - times[1]))
    means = (f"{mean:.3f}" for mean in np.mean(figures, axis=0))
    return " | ".join((*means, *(f"{statistics.median(spent):.0f}" for spent in (encoding, answering))))


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
    print("| choice | box IoU | boundary F | 1 click, best | own | encode (ms) | box (ms) |\n|---|---|---|---|---|---|---|")

    def row(name: str, model: pointcut.Segmenter, prepare: Callable[[np.ndarray, tuple[int, int]], Preparation]) -> None:
        print(f"| {name} | {measure(model, pictures, prepare)} |", flush=True)

    row(f"as it is (a square of {side})", own, lambda *_: Preparation())
    row("`--zoom`", own, lambda *_: Preparation(zoom=True))
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
