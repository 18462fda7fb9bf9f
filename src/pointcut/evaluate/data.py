"""Labelled pictures: `<set>/images/X.jpg` with `<set>/masks/X.png` (0 unlabelled, 1..254 objects, 255 void), or one deeper."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import InputError

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
    """Every labelled picture below `root`; of a video (a set one folder deeper) every `every`-th frame. Raises InputError."""
    found = False
    for folder in sorted(root.rglob("images")):
        name = folder.parent.relative_to(root).as_posix()
        for image in sorted(folder.iterdir())[:: every if "/" in name else 1]:
            mask = folder.parent / "masks" / f"{image.stem}.png"
            if not mask.is_file():
                continue
            labels = np.asarray(Image.open(mask))
            ids, counts = np.unique(labels, return_counts=True)
            chosen = [i for i, n in zip(ids, counts, strict=True) if 0 < i < VOID and n >= LEAST * labels.size]
            if chosen:
                found = True
                set_name = root.name if name == "." else name.partition("/")[0]
                yield Example(set_name, image, [labels == i for i in chosen], labels != VOID)
    if not found:
        raise InputError(f"no labelled pictures below {root}: expected <set>/images/X.jpg with <set>/masks/X.png")
