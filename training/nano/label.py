"""Labels photographs with a larger model: `python training/nano/label.py --data DATA --sets A,B --teacher FILE --out SET`.

Searches every photograph of the sets for all that the teacher finds without prompts, and lays the masks out in layers: a mask
goes into the first layer in which it hides next to nothing, the largest first, so wholes come before their parts. Each layer
becomes a photograph with a palette mask of its own, `images/X-0.jpg` with `masks/X-0.png`. What the teacher's encoder makes of
the photograph is kept, too (`told/X.npy`, 2 MB; telling.py). Photographs that are done are left out when it is started again.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import pointcut
from photos import LAYERS
from pointcut.automatic.config import AutomaticConfig
from pointcut.files import replacing
from pointcut.segment.segmenter import Segmenter
from pointcut.weights.load import load_network

SEARCH = AutomaticConfig(points_per_side=12, stability_score_thresh=0.9)
LEAST, MOST = 0.003, 0.9
"""What share of a photograph a mask covers."""
HIDDEN = 0.05
"""The share of a mask that may be hidden by what is in its layer already."""


def layers_of(masks: list[np.ndarray]) -> list[np.ndarray]:
    """Masks (H, W) bool -> label maps (H, W) uint8, the largest masks in the first."""
    layers: list[np.ndarray] = []
    for mask in sorted(masks, key=np.count_nonzero, reverse=True):
        area = np.count_nonzero(mask)
        if not LEAST * mask.size <= area <= MOST * mask.size:
            continue
        for layer in layers:
            taken = layer > 0
            if layer.max() < 254 and np.count_nonzero(mask & taken) <= HIDDEN * area:
                layer[mask & ~taken] = layer.max() + 1
                break
        else:
            if len(layers) < LAYERS:
                layers.append(mask.astype(np.uint8))
    return layers


def save_labels(labels: np.ndarray, path: Path) -> None:
    """Saves a label map (H, W) uint8 as a PNG, each label in a colour of its own."""
    image = Image.fromarray(labels, "P")
    image.putpalette(np.random.default_rng(0).integers(0, 256, 768, np.uint8).tobytes())
    image.save(path)


@cache
def loaded(teacher: Path) -> Segmenter:
    """Each process has one of its own, and one core."""
    torch.set_num_threads(1)
    return pointcut.load(teacher, device="cpu")


def label(teacher: Path, score: float, photo: Path, out: Path, stem: str) -> int:
    """Writes the layers of one photograph; returns how many things it found. Its embedding is last: then it is done."""
    with Image.open(photo) as opened:
        picture = opened.convert("RGB")
    height, width = picture.height, picture.width
    encoded = loaded(teacher).encode(np.asarray(picture))
    found = encoded.segment_everything(replace(SEARCH, pred_iou_thresh=score))
    masks = [mask.reshape(height, width) for mask in found.masks]
    layers = layers_of(masks)
    for i, layer in enumerate(layers):
        picture.save(out / "images" / f"{stem}-{i}.jpg", quality=95)
        save_labels(layer, out / "masks" / f"{stem}-{i}.png")
    with replacing(out / "told" / f"{stem}.npy") as temporary, temporary.open("wb") as file:
        np.save(file, encoded.features.embedding[0].half().numpy())
    return sum(int(layer.max()) for layer in layers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of training sets")
    parser.add_argument("--sets", required=True, help="which of them, divided by commas")
    parser.add_argument("--teacher", type=Path, required=True, help="weight file, as mobile_sam.pt")
    parser.add_argument("--score", type=float, default=0.86, help="masks that the teacher expects to be worse are dropped")
    parser.add_argument("--out", type=Path, required=True, help="folder of the training set to make")
    args = parser.parse_args()
    load_network(args.teacher)  # a wrong file is told before anything else
    for name in ("images", "masks", "told"):
        (args.out / name).mkdir(parents=True, exist_ok=True)
    todo = [
        (photo, f"{name}-{photo.stem}")
        for name in args.sets.split(",")
        for photo in sorted((args.data / name / "images").iterdir())
        if not (args.out / "told" / f"{name}-{photo.stem}.npy").exists()
    ]
    cores = os.cpu_count() or 1
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(label, args.teacher, args.score, photo, args.out, stem) for photo, stem in todo]
        for i, (result, (photo, _)) in enumerate(zip(waiting, todo, strict=True), 1):
            print(f"{i} of {len(todo)}: {photo.name}: {result.result()}", flush=True)


if __name__ == "__main__":
    main()
