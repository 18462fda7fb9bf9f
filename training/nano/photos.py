"""The training photographs: folders of `images/` and `masks/` to arrays in memory.

Layout: `<set>/images/X.jpg` with `<set>/masks/X.png` (palette PNG: 0 unlabelled, 1..254 objects, 255 void), or one folder
deeper for video frames; a set without masks gives textures only.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

VOID = 255
LONGEST = 512


@dataclass(frozen=True)
class Photo:
    """One photograph: `image` (H, W, 3) uint8 RGB; `labels` (H, W) uint8, zeros where nothing is labelled."""

    image: np.ndarray
    labels: np.ndarray


def load_photo(image: Path, mask: Path | None) -> Photo:
    picture = Image.open(image).convert("RGB")
    scale = min(1.0, LONGEST / max(picture.size))
    size = round(picture.width * scale), round(picture.height * scale)
    pixels = np.asarray(picture.resize(size, Image.Resampling.BICUBIC))
    if mask is None:
        return Photo(pixels, np.zeros(pixels.shape[:2], np.uint8))
    return Photo(pixels, np.asarray(Image.open(mask).resize(size, Image.Resampling.NEAREST)))


def load_sets(root: Path) -> dict[str, list[Photo]]:
    """Every set below `root`, by its folder's name."""
    sets: dict[str, list[Photo]] = {}
    for folder in sorted(root.rglob("images")):
        masks = folder.parent / "masks"
        photos = [
            load_photo(image, masks / f"{image.stem}.png" if masks.is_dir() else None)
            for image in sorted(folder.iterdir())
            if image.suffix.lower() in {".jpg", ".jpeg", ".png"}
        ]
        sets.setdefault(folder.relative_to(root).parts[0], []).extend(photos)
    if not sets:
        raise SystemExit(f"no folder named 'images' below {root}: see training/nano/README.md for the layout")
    return sets


def objects_of(photo: Photo, least: float) -> list[int]:
    """The ids of the objects that cover at least that share of the photograph."""
    ids, counts = np.unique(photo.labels, return_counts=True)
    return [int(i) for i, n in zip(ids, counts, strict=True) if 0 < i < VOID and n >= least * photo.labels.size]
