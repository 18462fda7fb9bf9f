"""What `skip_covered` costs and saves: `python benchmarks/coarse_to_fine.py --data DIR [--model nano] [--pictures N]`.

Searches the first N pictures below DIR twice, with the full grid and coarse to fine. Of the masks that the full grid finds
(duplicates dropped) it prints the share that has a counterpart (IoU 0.8) in the other's, beside the time. Beside stands the
share of the labelled objects that each finds (IoU 0.5).
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from pycocotools import mask as coco

import pointcut
from pointcut import Segments
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
    full_config = default_config(model.name)
    configs = {"full grid": full_config, "coarse to fine": replace(full_config, skip_covered=True)}
    rows: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in configs}
    for example in [e for e, _ in zip(examples(args.data, 40), range(args.pictures), strict=False)]:
        photo = model.encode(example.path)
        found: dict[str, Segments] = {}
        for name, config in configs.items():
            started = time.perf_counter()
            cut = photo.segment_everything(config)
            seconds = time.perf_counter() - started
            found[name] = pointcut.without_duplicates(cut)
            share = recovered(found["full grid"], found[name])
            rows[name].append((seconds, len(found[name]), share, recall(found[name], example)["recall@0.5"]))
    print(f"{args.model}, {machine()}, {args.pictures} pictures, {time.strftime('%Y-%m-%d')}\n")
    print("| | seconds | masks | of the full grid's | labelled objects found (IoU 0.5) |\n|---|---|---|---|---|")
    for name, values in rows.items():
        seconds, masks, share, objects = np.mean(values, axis=0)
        print(f"| {name} | {seconds:.2f} | {masks:.1f} | {100 * share:.0f} % | {100 * objects:.0f} % |")


if __name__ == "__main__":
    main()
