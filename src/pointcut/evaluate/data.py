"""Labelled pictures: `<set>/images/X.jpg` with `<set>/masks/X.png` (0 unlabelled, 1..254 objects, 255 void), or one deeper."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import InputError
from ..files import folders_named
from ..images import open_image

VOID = 255
LEAST = 0.01
"""Objects of a smaller share of their picture are not asked for."""


@dataclass(frozen=True, eq=False)
class Example:
    """One picture with its objects."""

    set_name: str
    path: Path
    truths: list[np.ndarray]
    """Masks (H, W) bool of the objects."""
    known: np.ndarray
    """(H, W) bool: false where the picture is marked void; those pixels count neither way."""


def examples(root: Path, every: int) -> Iterator[Example]:
    """Every labelled picture below `root`; of a video (a set one folder deeper) every `every`-th frame.

    Raises InputError where there are none, and for a picture or its labels that cannot be read or do not belong together.
    """
    found, seen = False, 0
    for folder in folders_named("images", root):
        name = folder.parent.relative_to(root).as_posix()
        for image in files_in(folder)[:: every if "/" in name else 1]:
            mask = folder.parent / "masks" / f"{image.stem}.png"
            if not mask.is_file():
                continue
            labels = labels_in(mask)
            size = open_image(image).shape[:2]
            if size != labels.shape:
                raise InputError(f"{mask}: has labels for {labels.shape} pixels (height, width), its picture is {size}")
            seen += 1
            ids, counts = np.unique(labels, return_counts=True)
            chosen = [i for i, n in zip(ids, counts, strict=True) if 0 < i < VOID and n >= LEAST * labels.size]
            if chosen:
                found = True
                set_name = root.name if name == "." else name.partition("/")[0]
                yield Example(set_name, image, [labels == i for i in chosen], labels != VOID)
    if seen and not found:
        raise InputError(
            f"no objects in the {seen} label pictures below {root}: objects are 1 to 254, 0 is nothing, 255 does not count, "
            f"and what is smaller than {LEAST:.0%} of its picture is left out"
        )
    if not found:
        raise InputError(f"no labelled pictures below {root}: expected <set>/images/X.jpg with <set>/masks/X.png")


def files_in(folder: Path) -> list[Path]:
    """The files of a folder, in order of their names, without hidden ones."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def labels_in(path: Path) -> np.ndarray:
    """(H, W) integers: a label picture, grey or with a palette. Raises InputError."""
    try:
        with Image.open(path) as picture:
            labels = np.asarray(picture)
    except (OSError, SyntaxError) as error:
        raise InputError(f"{path}: cannot be read as a label picture ({error})") from None
    if labels.dtype == bool:  # black and white: one object
        labels = labels.astype(np.uint8)
    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"{path}: holds colours; a label picture is grey or has a palette, one number a pixel")
    return labels
