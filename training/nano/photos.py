"""The training photographs: folders of `images/` and `masks/` to arrays in memory.

Layout: `<set>/images/X.jpg` with `<set>/masks/X.png` (palette PNG: 0 unlabelled, 1..254 objects, 255 void), or one folder
deeper for video frames; a set without masks gives textures only, unless its pictures have transparency: then each is one
object, cut out.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from pointcut.files import folders_named

VOID = 255
LONGEST = 640
LAYERS = 4
"""Label maps of one photograph that a teacher may make, for things lie over one another: wholes, and their parts (label.py)."""


@dataclass(frozen=True)
class Photo:
    """One photograph: `image` (H, W, 3) uint8 RGB; `labels` (H, W) uint8, zeros where nothing is labelled."""

    image: np.ndarray
    labels: np.ndarray
    cut_out: bool = False
    """It shows one object alone: to be pasted, but no scene and no texture."""
    told: np.ndarray | None = None
    """(C, h, w) float16: the embedding that a teacher has of it (label.py), of the square that the photograph is padded to."""
    places: np.ndarray | None = None
    """(H, W, 2) float32 x, y: where in that square, from 0 to 1, each pixel came from; below 0 where from elsewhere."""
    layers: np.ndarray | None = None
    """(H, W, LAYERS) uint8: all of a teacher's label maps, zeros where there is none; a click means one thing in each."""
    by_people: bool = True
    """People labelled it, so that `labels` tells which of the things that a click may mean they would have meant."""


def load_photo(image: Path, mask: Path | None) -> Photo:
    picture = Image.open(image)
    if mask is None and (picture.mode in ("RGBA", "LA") or "transparency" in picture.info):
        return cut_out(np.asarray(picture.convert("RGBA")))
    picture = picture.convert("RGB")
    pixels = np.asarray(picture.resize(shrunk(picture), Image.Resampling.BICUBIC))
    return Photo(pixels, np.zeros(pixels.shape[:2], np.uint8) if mask is None else load_labels(mask))


def load_labels(mask: Path) -> np.ndarray:
    """(H, W) uint8, as large as the photograph."""
    labels = Image.open(mask)
    return np.asarray(labels.resize(shrunk(labels), Image.Resampling.NEAREST))


def shrunk(picture: Image.Image) -> tuple[int, int]:
    """Its width and height in memory."""
    scale = min(1.0, LONGEST / max(picture.size))
    return round(picture.width * scale), round(picture.height * scale)


def cut_out(pixels: np.ndarray) -> Photo:
    """(H, W, 4) RGBA -> the object; around it go on the colours of its border, which a soft border is mixed with."""
    pixels = np.pad(pixels, ((8, 8), (8, 8), (0, 0)))
    solid = (pixels[..., 3] > 127).astype(np.uint8)
    inner = cv2.erode(solid, np.ones((3, 3), np.uint8))
    source = inner if inner.any() else solid
    _, nearest = cv2.distanceTransformWithLabels(1 - source, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    colours = np.zeros((nearest.max() + 1, 3), np.uint8)
    colours[nearest[source > 0]] = pixels[source > 0, :3]
    return Photo(colours[nearest], solid, cut_out=True)


def load_sets(root: Path) -> dict[str, list[Photo]]:
    """Every set below `root`, by its folder's name. Says which: shares of a set that is missing go to the others."""
    cv2.setNumThreads(1)  # before workers are forked: OpenCV's threads would not live on in them, and be waited for
    sets: dict[str, list[Photo]] = {}
    lessons = {path.stem: lesson(path) for path in told_below(root)}
    for folder in folders_named("images", root):
        masks, name = folder.parent / "masks", folder.relative_to(root).parts[0]
        for image in sorted(folder.iterdir()):
            if image.suffix.lower() in {".jpg", ".jpeg", ".png"}:
                photo = load_photo(image, masks / f"{image.stem}.png" if masks.is_dir() else None)
                of_this = lessons.get(f"{name}-{image.stem}") or lessons.get(image.stem)
                if known := of_this or lessons.get(image.stem.rpartition("-")[0]):
                    photo = replace(photo, told=known.told, layers=known.layers, by_people=of_this is not None)
                sets.setdefault(name, []).append(photo)
    if not sets:
        raise SystemExit(f"no folder named 'images' below {root}: see training/nano/README.md for the layout")
    print(", ".join(f"{name}: {len(photos)}" for name, photos in sets.items()), file=sys.stderr, flush=True)
    return sets


def told_below(root: Path) -> list[Path]:
    """The files of what a teacher's embedding says (label.py), in order."""
    return sorted(path for folder in folders_named("told", root) for path in folder.glob("*.npy"))


class Lesson(NamedTuple):
    """What a teacher says of a photograph (label.py)."""

    told: np.ndarray
    layers: np.ndarray | None


def lesson(told: Path) -> Lesson:
    """The embedding in that file, and the label maps that lie beside it, if it found anything."""
    maps = [load_labels(path) for path in sorted((told.parent.parent / "masks").glob(f"{told.stem}-[0-9].png"))]
    empty = [np.zeros_like(maps[0])] * (LAYERS - len(maps)) if maps else []
    return Lesson(np.load(told, mmap_mode="r"), np.dstack(maps + empty) if maps else None)


def objects_of(photo: Photo, least: float) -> list[int]:
    """The ids of the objects that cover at least that share of the photograph."""
    ids, counts = np.unique(photo.labels, return_counts=True)
    return [int(i) for i, n in zip(ids, counts, strict=True) if 0 < i < VOID and n >= least * photo.labels.size]


def scenes_of(sets: dict[str, list[Photo]]) -> list[Photo]:
    """All photographs that show more than one object cut out."""
    return [photo for photos in sets.values() for photo in photos if not photo.cut_out]
