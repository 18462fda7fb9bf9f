"""What other ways to search cost and bring: `python benchmarks/searching.py --data DIR [--model nano] [--pictures N]`.

Searches the first N pictures below DIR with the full grid, coarse to fine (`skip_covered`), and with the full grid and each
mask drawn anew from close up (`zoom_in`). Of the masks that the full grid finds (duplicates dropped) it prints the share that
has a counterpart (IoU 0.8) in the other's, beside the time. Beside stands the share of the labelled objects that each finds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from pycocotools import mask as coco

import pointcut
from pointcut import EncodedImage, Segments
from pointcut.automatic.config import default_config
from pointcut.bench import machine
from pointcut.evaluate.data import examples
from pointcut.evaluate.measure import recall


def recovered(full: Segments, other: Segments, least: float = 0.8) -> float:
    """The share of the masks of one that the other has."""
    if not len(full):
        return 1.0
    if not len(other):
        return 0.0
    return float((coco.iou(full.rle(), other.rle(), [0] * len(other)).max(axis=1) >= least).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--pictures", type=int, default=20)
    args = parser.parse_args()
    model = pointcut.load(args.model)
    grid = default_config(model.name)
    ways: dict[str, Callable[[EncodedImage], Segments]] = {
        "full grid": lambda photo: photo.segment_everything(grid),
        "coarse to fine": lambda photo: photo.segment_everything(replace(grid, skip_covered=True)),
        "from close up": lambda photo: photo.zoom_in(photo.segment_everything(grid)),
    }
    rows: dict[str, list[tuple[float, ...]]] = {name: [] for name in ways}
    for example in [e for e, _ in zip(examples(args.data, 40), range(args.pictures), strict=False)]:
        photo = model.encode(example.path)
        found: dict[str, Segments] = {}
        for name, way in ways.items():
            started = time.perf_counter()
            cut = way(photo)
            seconds = time.perf_counter() - started
            found[name] = pointcut.without_duplicates(cut)
            share = recovered(found["full grid"], found[name])
            rows[name].append(
                (seconds, len(found[name]), 100 * share, *(100 * x for x in recall(found[name], example).values()))
            )
    print(f"{args.model}, {machine()}, {len(rows['full grid'])} pictures, {time.strftime('%Y-%m-%d')}\n")
    print("| | seconds | masks | of the full grid's | labelled objects found (IoU 0.5) | found well (IoU 0.75) |")
    print("|---|---|---|---|---|---|")
    for name, values in rows.items():
        seconds, masks, *shares = np.mean(values, axis=0)
        print(f"| {name} | {seconds:.2f} | {masks:.1f} | {' | '.join(f'{share:.0f} %' for share in shares)} |")


if __name__ == "__main__":
    main()
