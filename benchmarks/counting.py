"""How well things are counted: `python benchmarks/counting.py --data DIR [--model nano] [--pictures N] [--points N]`.

DIR holds sets as `<set>/images/X` with `<set>/masks/X.png`. Of each set the first N pictures with at least three objects are
counted three times: everything, what is like one example (a click at the deepest point of the object of middle size), and what
is like that of the set's first picture. Beside the mean numbers stand the mean error, in things and as a share of the true
number.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

import pointcut
from pointcut.automatic.config import default_config
from pointcut.bench import machine
from pointcut.count import Specimen
from pointcut.evaluate.data import VOID, files_in, labels_in
from pointcut.evaluate.measure import deepest


def objects(mask: Path) -> list[np.ndarray]:
    """The masks of a labelled picture, by size."""
    labels = labels_in(mask)
    masks = [labels == i for i in np.unique(labels) if 0 < i < VOID]
    return sorted(masks, key=np.count_nonzero)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--pictures", type=int, default=10, help="of each set")
    parser.add_argument("--points", type=int, default=24, help="per side of the grid")
    args = parser.parse_args()
    model = pointcut.load(args.model)
    config = replace(default_config(model.name), points_per_side=args.points)
    print(f"{args.model}, {machine()}, {args.points} x {args.points} points, {time.strftime('%Y-%m-%d')}\n")
    print("| set | pictures | things | counted | error | counted like one | error | like one of the first picture | error |")
    print("|---|---|---|---|---|---|---|---|---|")
    for folder in sorted(args.data.rglob("images")):
        rows: list[tuple[int, ...]] = []
        first: Specimen | None = None
        for image in files_in(folder):
            mask = folder.parent / "masks" / f"{image.stem}.png"
            things = objects(mask) if mask.is_file() else []
            if len(things) < 3 or len(rows) == args.pictures:
                continue
            photo = model.encode(image)
            example = photo.segment(points=[deepest(things[len(things) // 2])[0]]).best
            all_found = pointcut.count_objects(photo, config=config)
            like_one = pointcut.count_objects(photo, example, config=config)
            first = first or Specimen.of(photo, example)
            like_first = pointcut.count_objects(photo, first, config=config)
            rows.append((len(things), len(all_found), len(like_one), len(like_first)))
        if rows:
            truth, *ways = np.array(rows, float).T
            cells = [len(rows), f"{truth.mean():.1f}"]
            for counted in ways:
                error = np.abs(counted - truth)
                cells += [f"{counted.mean():.1f}", f"{error.mean():.1f} ({100 * (error / truth).mean():.0f} %)"]
            print(f"| {folder.parent.relative_to(args.data)} | " + " | ".join(map(str, cells)) + " |")


if __name__ == "__main__":
    main()
