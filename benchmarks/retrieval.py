"""Segments found again: how well on films, how fast among 100,000, exactly and approximately.

python benchmarks/retrieval.py ../shared/data/eval/davis2016_val [--segments 100000]

How well: of each frame its labelled object asks, among the labelled objects and automatic masks of all frames that are at least
20 frames away or of another film; counted is the share of the first ten that show the same object (IoU 0.5 or more).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import pointcut
from pointcut.evaluate.data import Example, examples
from pointcut.index import Entry, entry_id, open_store
from pointcut.library import Library
from pointcut.segment.features import pooled_features

FIRST = 10


def colours(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(512,) of length one: the roots of the shares of 8 x 8 x 8 colours, a baseline that knows nothing of things."""
    cells = (image[mask] >> 5).astype(np.int64) @ (64, 8, 1)
    counts = np.sqrt(np.bincount(cells, minlength=512))
    return counts / np.linalg.norm(counts)


def gathered(model: pointcut.Segmenter, frames: list[Example]) -> list[dict[str, Any]]:
    """A row for each mask: whose it is, and its vectors."""
    library, rows = Library("unused", model), []
    config = pointcut.AutomaticConfig(8, pred_iou_thresh=0.5, stability_score_thresh=0.7, stability_score_offset=0.5)
    for example in frames:
        photo, truth = model.encode(example.path), example.truths[0]
        found = photo.segment_everything(config)
        masks = [truth, *(mask for mask in found.masks if mask.sum() > 400)]
        cut = pointcut.Segments.of_masks(photo.image, np.stack(masks))
        vectors, features = library.vectors(photo, cut), pooled_features(photo, cut, centred=False)
        for i, mask in enumerate(masks):
            same = (mask & truth).sum() / (mask | truth).sum() >= 0.5
            place = {
                "film": example.path.parent.parent.name,
                "frame": int(example.path.stem),
                "asks": i == 0,
                "same": bool(same),
            }
            rows.append(place | {"vector": vectors[i], "features": features[i], "colours": colours(photo.image, mask)})
    return rows


def how_well(rows: list[dict[str, Any]]) -> None:
    film, frame, same = (np.array([row[name] for row in rows]) for name in ("film", "frame", "same"))
    tables = {name: np.stack([row[name] for row in rows]) for name in ("vector", "features", "colours")}
    tables["random"] = np.random.default_rng(0).standard_normal((len(rows), 64))
    print(f"{sum(row['asks'] for row in rows)} questions among {len(rows)} segments of {len(set(film))} films\n")
    print(f"| | the first shows the same | of the first {FIRST} |\n|---|---|---|")
    titles = {"vector": "nano's features and colours", "features": "nano's features alone"}
    titles |= {"colours": "colour histogram (8 x 8 x 8)", "random": "random"}
    for name, title in titles.items():
        table = tables[name] / np.linalg.norm(tables[name], axis=1, keepdims=True)
        first, ten = [], []
        for i, row in enumerate(rows):
            if row["asks"]:
                away = (film != film[i]) | (abs(frame - frame[i]) >= 20)
                best = np.argsort(np.where(away, -(table @ table[i]), np.inf))[:FIRST]
                right = same[best] & (film[best] == film[i])
                first.append(right[0])
                ten.append(right.mean())
        print(f"| {title} | {np.mean(first):.3f} | {np.mean(ten):.3f} |")


def how_fast(seeds: np.ndarray, count: int, folder: Path) -> None:
    """Adds `count` vectors drawn around real ones, a thousand at a time, and asks."""
    rng = np.random.default_rng(0)
    vectors = seeds[rng.integers(0, len(seeds), count)] + rng.normal(0, 0.3 / seeds.shape[1] ** 0.5, (count, seeds.shape[1]))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    print(f"\n{count} segments of {seeds.shape[1]} numbers\n")
    print("| store | added a second | query p50 (ms) | p99 (ms) | recall@10 |\n|---|---|---|---|---|")
    asked = rng.integers(0, count, 200)
    truth = [set(np.argsort(-(vectors @ vectors[i]), kind="stable")[:FIRST].tolist()) for i in asked]
    for kind, modes in (("exact", (True,)), ("lance", (True, False))):
        store = open_store(folder / kind, "benchmark", seeds.shape[1], kind)
        began = time.perf_counter()
        for start in range(0, count, 1000):
            rows = range(start, min(count, start + 1000))
            store.add([small(i) for i in rows], vectors[list(rows)])
        rate = count / (time.perf_counter() - began)
        store.compact()
        for exact in modes:
            spent, found = [], 0
            for i, right in zip(asked, truth, strict=True):
                began = time.perf_counter()
                hits = store.search(vectors[i], FIRST, exact=exact)
                spent.append(1000 * (time.perf_counter() - began))
                found += len(right & {int(hit.entry.counts) for hit in hits})
            title = kind if kind == "exact" else f"lance, {'all' if exact else 'approximately'}"
            p50, p99 = np.percentile(spent, (50, 99))
            print(f"| {title} | {rate:.0f} | {p50:.1f} | {p99:.1f} | {found / FIRST / len(asked):.3f} |", flush=True)


def small(i: int) -> Entry:
    """An entry with a thumbnail of usual size."""
    box = {"x0": 0.0, "y0": 0.0, "x1": 9.0, "y1": 9.0}
    return Entry(
        entry_id("benchmark", str(i)),
        f"{i % 5000}.jpg",
        str(i % 5000),
        9,
        9,
        str(i),
        **box,
        area=i,
        score=0.5,
        stability=0.5,
        thumbnail=bytes(3000),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--segments", type=int, default=100_000)
    parser.add_argument("--every", type=int, default=4, help="frame of each film")
    asked = parser.parse_args()
    rows = gathered(pointcut.load("nano", device="cpu"), list(examples(asked.folder, 1))[:: asked.every])
    how_well(rows)
    with tempfile.TemporaryDirectory(prefix="pointcut-bench-") as folder:
        how_fast(np.stack([row["vector"] for row in rows]), asked.segments, Path(folder))


if __name__ == "__main__":
    main()
