"""Copies photographs out of a system's folders of pictures, for label.py: `python training/nano/gather.py --out SET FOLDER...`.

Debian's wallpapers and portraits for accounts are free photographs, and so are the animals and monuments that GCompris shows
children: those lie in files of resources (.rcc), which may be named in a folder's place. A wallpaper that lies there in many
sizes is taken in one, and what looks like a picture before it is left out. Every fourth goes to --held-out instead: no leg sees
it, so shares of a mean can be judged by it.
"""

from __future__ import annotations

import argparse
import io
import re
import struct
from collections.abc import Iterator
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


def pictures_in(place: Path) -> Iterator[tuple[str, Path | io.BytesIO]]:
    """All pictures of a folder, to the bottom, or of a file of resources, with names."""
    if place.is_dir():
        for path in filter(is_one_of_a_kind, place.rglob("*.jpg")):
            yield name_of(path), path
        return
    for i, content in enumerate(resources(place.read_bytes())):
        if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
            yield f"{place.stem}-{i:02}.jpg", io.BytesIO(content)


def resources(file: bytes) -> Iterator[bytes]:
    """What is in a file of Qt's resource compiler: each content behind its length.

    Source: https://github.com/qt/qtbase/blob/dev/src/tools/rcc/rcc.cpp (writeHeader, writeDataBlobs)
    """
    magic, _, _, begin, end = struct.unpack_from(">4s4I", file)
    if magic != b"qres":
        raise SystemExit("neither a folder nor a file of Qt resources")
    while begin < end:
        (length,) = struct.unpack_from(">I", file, begin)
        yield file[begin + 4 : begin + 4 + length]
        begin += 4 + length


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("places", type=Path, nargs="+", help="folders, looked through to the bottom, and files of resources")
    parser.add_argument("--out", type=Path, required=True, help="folder of the set to make")
    parser.add_argument("--held-out", type=Path, required=True, help="folder of the set that is not trained on")
    args = parser.parse_args()
    seen: set[bytes] = set()
    kept: dict[str, Image.Image] = {}
    found = [named for place in args.places for named in pictures_in(place)]
    for name, source in sorted(found, key=lambda named: named[0]):
        with Image.open(source) as opened:
            if opened.has_transparency_data:  # a cut-out or a button
                continue
            picture = opened.convert("RGB")
        alike = likeness(picture)
        if alike not in seen:
            seen.add(alike)
            picture.thumbnail((LONGEST, LONGEST))
            kept[name] = picture
    for i, (name, picture) in enumerate(kept.items()):
        images = (args.out if i % 4 else args.held_out) / "images"
        images.mkdir(parents=True, exist_ok=True)
        picture.save(images / name, quality=92)
    print(f"{len(kept)} photographs, a quarter of them in {args.held_out}")


if __name__ == "__main__":
    main()
