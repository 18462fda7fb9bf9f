"""Copies photographs out of a system's folders of pictures, for label.py: `python training/nano/gather.py --out SET FOLDER...`.

Debian's wallpapers and portraits for accounts are free photographs. A wallpaper that lies there in many sizes is taken in one,
and what looks like a picture before it is left out. Every fourth goes to --held-out instead: no leg sees it, so shares of a
mean can be judged by it.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = re.compile(r"\d+x\d+(_\d+x\d+)?")
"""Names of wallpapers that lie there in many sizes."""

WANTED = "1920x1080"
LONGEST = 1024


def is_one_of_a_kind(path: Path) -> bool:
    """Not another size, a thumbnail, an older edition, or a desktop's logo."""
    other_size = path.stem != WANTED and SIZE.fullmatch(path.stem)
    return not other_size and path.stem != "screenshot" and not {"legacy", "desktop"} & set(path.parts)


def likeness(picture: Image.Image) -> bytes:
    """The same for pictures that look alike: which of 8x8 pieces are brighter than all together."""
    small = np.asarray(picture.convert("L").resize((8, 8), Image.Resampling.BOX))
    return np.packbits(small > small.mean()).tobytes()


def name_of(path: Path) -> str:
    return f"{path.parents[2].name}-{path.name}" if path.stem == WANTED else path.name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+", help="looked through to the bottom")
    parser.add_argument("--out", type=Path, required=True, help="folder of the set to make")
    parser.add_argument("--held-out", type=Path, required=True, help="folder of the set that is not trained on")
    args = parser.parse_args()
    seen: set[bytes] = set()
    kept: dict[str, Image.Image] = {}
    for path in sorted((path for folder in args.folders for path in folder.rglob("*.jpg")), key=name_of):
        if is_one_of_a_kind(path):
            with Image.open(path) as opened:
                picture = opened.convert("RGB")
            alike = likeness(picture)
            if alike not in seen:
                seen.add(alike)
                picture.thumbnail((LONGEST, LONGEST))
                kept[name_of(path)] = picture
    for i, (name, picture) in enumerate(kept.items()):
        images = (args.out if i % 4 else args.held_out) / "images"
        images.mkdir(parents=True, exist_ok=True)
        picture.save(images / name, quality=92)
    print(f"{len(kept)} photographs, a quarter of them in {args.held_out}")


if __name__ == "__main__":
    main()
