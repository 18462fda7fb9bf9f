"""Times automatic masks: `python benchmarks/automatic.py [--size WxH] [--points N] [--threads N] [--rounds N] [--json]`.

Contenders, each in a process of its own, in turn, the median of all rounds: Pointcut, and the reference's loop around
`transformers`' `Sam2Model` with the same random weights (step for step what its `mask-generation` pipeline does; the pipeline
itself needs torchvision, which has no CPU build). The threshold of the predicted IoU is set so that about a third of the
candidates pass it; masks of random weights are rough, so the stability that is asked for is low. With random weights two
points of three have a candidate above the threshold; with --alike the three of a point have one score, and pass or fail
together. Beside the time stands in how many masks the two differ. Peak memory is that of the process, PyTorch included;
encoding is counted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from pointcut.bench import machine, peak_megabytes
from speed import photograph, random_weights

STABILITY = 0.5
BATCH = 64
"""Points that the reference decodes together."""


def ours(folder: Path, image: np.ndarray, points: int, threshold: float) -> tuple[float, list[dict[str, Any]]]:
    """Picture in memory to `Segments`: seconds, and the masks."""
    from pointcut.automatic.config import AutomaticConfig
    from pointcut.segment.segmenter import load

    model = load(folder, device="cpu")
    config = AutomaticConfig(points_per_side=points, pred_iou_thresh=threshold, stability_score_thresh=STABILITY)
    started = time.perf_counter()
    cut = model.encode(image).segment_everything(config)
    return time.perf_counter() - started, list(cut.rle())


def theirs(folder: Path, image: np.ndarray, points: int, threshold: float) -> tuple[float, list[dict[str, Any]]]:
    """The reference's loop: every candidate enlarged, then filtered, then encoded one by one, then suppressed."""
    import torch
    import torch.nn.functional as F
    from transformers import Sam2Model

    from pointcut import rle
    from pointcut.automatic.config import even_grid
    from pointcut.automatic.overlap import box_nms
    from pointcut.images import Frame
    from pointcut.masks import boxes_xyxy
    from pointcut.pixels import to_square

    model = Sam2Model.from_pretrained(folder).eval()
    frame = Frame(image.shape[0], image.shape[1], 1024, "squash")
    grid = torch.from_numpy(frame.points_to_model(even_grid(points) * (image.shape[1], image.shape[0])))
    started = time.perf_counter()
    kept, boxes, scores = [], [], []
    with torch.inference_mode():
        embeddings = model.get_image_embeddings(to_square(image, frame, torch.device("cpu")))
        for chunk in grid.split(BATCH):
            labels = torch.ones(1, len(chunk), 1, dtype=torch.int)
            answer = model(
                image_embeddings=embeddings, input_points=chunk[None, :, None], input_labels=labels, multimask_output=True
            )
            logits = F.interpolate(answer.pred_masks[0], image.shape[:2], mode="bilinear").flatten(0, 1)
            score = answer.iou_scores[0].flatten()
            logits, score = logits[score > threshold], score[score > threshold]
            inner = (logits > 1).sum(-1, dtype=torch.int16).sum(-1, dtype=torch.int32)
            outer = (logits > -1).sum(-1, dtype=torch.int16).sum(-1, dtype=torch.int32)
            stable = inner / outer >= STABILITY
            masks = (logits[stable] > 0).numpy()
            boxes.append(boxes_xyxy(masks) - np.array((0, 0, 1, 1), np.float32))
            kept += [rle.encode(mask) for mask in masks]
            scores.append(score[stable].numpy())
    rows = box_nms(np.concatenate(boxes), np.concatenate(scores), 0.7)
    return time.perf_counter() - started, [kept[i] for i in rows]


CONTENDERS = {"Pointcut": ours, "transformers, the reference's loop": theirs}


def threshold_of(folder: Path, image: np.ndarray) -> float:
    """The predicted IoU that a third of the candidates pass."""
    from pointcut.automatic.config import even_grid
    from pointcut.segment.segmenter import load

    photo = load(folder, device="cpu").encode(image)
    points = even_grid(6) * (image.shape[1], image.shape[0])
    return float(np.quantile(photo.segment([[p] for p in points], multimask=True).scores, 2 / 3))


def differing(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> int:
    """Masks of one list that have no counterpart with an IoU of 0.999 in the other, either way."""
    from pycocotools import mask as coco

    if not first or not second:
        return len(first) + len(second)
    ious = coco.iou(first, second, [0] * len(second))
    return int((ious.max(1) < 0.999).sum() + (ious.max(0) < 0.999).sum())


def measure(name: str, args: argparse.Namespace, folder: Path, threshold: float) -> dict[str, Any]:
    options = {"--size": args.size, "--points": args.points, "--threads": args.threads}
    own = {"--one": name, "--weights": folder, "--threshold": threshold}
    command = [sys.executable, __file__, *(str(part) for option in (options | own).items() for part in option)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Of one contender's rounds."""
    seconds = [one["seconds"] for one in results]
    return {
        "seconds": statistics.median(seconds),
        "range": (min(seconds), max(seconds)),
        "peak_mb": max(one["peak_mb"] for one in results),
        "masks": len(results[0]["masks"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="1800x1200", help="of the photograph, width x height")
    parser.add_argument("--points", type=int, default=32, help="per side of the grid")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1, help="how often each is timed; the median counts")
    parser.add_argument("--alike", action="store_true", help="the candidates of a point have one score")
    parser.add_argument("--json", action="store_true")
    for name, kind in {"--one": str, "--weights": Path, "--threshold": float}.items():
        parser.add_argument(name, type=kind, help=argparse.SUPPRESS)
    args = parser.parse_args()
    width, height = (int(n) for n in args.size.split("x"))
    image = photograph((width, height))

    import torch

    torch.set_num_threads(args.threads)
    if args.one:
        seconds, masks = CONTENDERS[args.one](args.weights, image, args.points, args.threshold)
        print(json.dumps({"seconds": seconds, "peak_mb": peak_megabytes(), "masks": masks}))
        return
    with tempfile.TemporaryDirectory() as folder:
        random_weights(Path(folder), alike=args.alike)
        threshold = threshold_of(Path(folder), image)
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTENDERS}
        for turn in range(args.rounds):
            for name, results in runs.items():
                print(f"{name}, {turn + 1} of {args.rounds}", file=sys.stderr)
                results.append(measure(name, args, Path(folder), threshold))
    first, second = (results[0]["masks"] for results in runs.values())
    table = {name: summary(results) for name, results in runs.items()}
    if args.json:
        print(json.dumps({"contenders": table, "differing_masks": differing(first, second)}, indent=1))
        return
    grid = f"{args.points} x {args.points} points, " + (
        "a third of the points kept" if args.alike else "a third of the candidates"
    )
    print(f"{machine()}, {args.threads} threads, {args.size}, {grid}, SAM 2.1 tiny, float32, {time.strftime('%Y-%m-%d')}")
    ours_took, theirs_took = (row["seconds"] for row in table.values())
    print(f"{theirs_took / ours_took:.1f} times faster; masks without an equal (IoU 0.999): {differing(first, second)}\n")
    print("| | seconds | from, to | peak memory (MB) | masks |\n|---|---|---|---|---|")
    for name, row in table.items():
        least, most = row["range"]
        print(f"| {name} | {row['seconds']:.1f} | {least:.1f}, {most:.1f} | {row['peak_mb']:.0f} | {row['masks']} |")


if __name__ == "__main__":
    main()
