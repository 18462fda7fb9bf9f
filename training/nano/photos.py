"""The training photographs: folders of `images/` and `masks/` to arrays in memory.

Layout: `<set>/images/X.jpg` with `<set>/masks/X.png` (palette PNG: 0 unlabelled, 1..254 objects, 255 void), or one folder
deeper for video frames; a set without masks gives textures only, unless its pictures have transparency: then each is one
object, cut out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

VOID = 255
LONGEST = 512


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


def load_photo(image: Path, mask: Path | None) -> Photo:
    picture = Image.open(image)
    if mask is None and (picture.mode in ("RGBA", "LA") or "transparency" in picture.info):
        return cut_out(np.asarray(picture.convert("RGBA")))
    picture = picture.convert("RGB")
    scale = min(1.0, LONGEST / max(picture.size))
    size = round(picture.width * scale), round(picture.height * scale)
    pixels = np.asarray(picture.resize(size, Image.Resampling.BICUBIC))
    if mask is None:
        return Photo(pixels, np.zeros(pixels.shape[:2], np.uint8))
    return Photo(pixels, np.asarray(Image.open(mask).resize(size, Image.Resampling.NEAREST)))


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
    """Every set below `root`, by its folder's name."""
    cv2.setNumThreads(1)  # before workers are forked: OpenCV's threads would not live on in them, and be waited for
    sets: dict[str, list[Photo]] = {}
    told = {path.stem: path for path in root.rglob("told/*.npy")}
    for folder in sorted(root.rglob("images")):
        masks, name = folder.parent / "masks", folder.relative_to(root).parts[0]
        for image in sorted(folder.iterdir()):
            if image.suffix.lower() in {".jpg", ".jpeg", ".png"}:
                photo = load_photo(image, masks / f"{image.stem}.png" if masks.is_dir() else None)
                known = told.get(f"{name}-{image.stem}") or told.get(image.stem.rpartition("-")[0])
                photo = replace(photo, told=np.load(known, mmap_mode="r")) if known else photo
                sets.setdefault(name, []).append(photo)
    if not sets:
        raise SystemExit(f"no folder named 'images' below {root}: see training/nano/README.md for the layout")
    return sets


def objects_of(photo: Photo, least: float) -> list[int]:
    """The ids of the objects that cover at least that share of the photograph."""
    ids, counts = np.unique(photo.labels, return_counts=True)
    return [int(i) for i, n in zip(ids, counts, strict=True) if 0 < i < VOID and n >= least * photo.labels.size]


def scenes_of(sets: dict[str, list[Photo]]) -> list[Photo]:
    """All photographs that show more than one object cut out."""
    return [photo for photos in sets.values() for photo in photos if not photo.cut_out]
