"""Photographed cut-outs to paste into training pictures: `python training/nano/stamps.py STAMPS --out DATA/stamps`.

Reads a folder of PNG files with transparency (Debian's tuxpaint-stamps-default puts one at /usr/share/tuxpaint/stamps) and
copies those that are photographs of one thing, large enough to be pasted, to `images/` below --out. What is transparent stays
so: photos.py takes it for what is not the object.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

SMALLEST = 90
"""Pixels of the longer side: smaller ones are blurred by what they are enlarged to."""

MOST_GLASS = 0.2
"""Half transparent pixels to opaque ones: more are smoke and fireworks."""

FEWEST_COLOURS = 0.12
"""Different colours to opaque pixels: fewer are drawings (letters, signs, cartoons), which teach borders of one colour."""


def is_photographed(path: Path) -> bool:
    with Image.open(path) as picture:
        if "A" not in picture.getbands() and "transparency" not in picture.info:
            return False
        pixels = np.asarray(picture.convert("RGBA"))
    opaque = pixels[..., 3] > 127
    glass = (pixels[..., 3] > 25) & (pixels[..., 3] < 230)
    if not 0.05 * opaque.size < opaque.sum() < 0.97 * opaque.size or glass.sum() > MOST_GLASS * opaque.sum():
        return False
    extent = max(np.ptp(axis) + 1 for axis in np.nonzero(opaque))
    colours = np.unique(pixels[opaque][:, :3] >> 2, axis=0)
    return extent >= SMALLEST and len(colours) >= FEWEST_COLOURS * min(opaque.sum(), 40_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stamps", type=Path, help="folder of PNG files with transparency, looked through to the bottom")
    parser.add_argument("--out", type=Path, required=True, help="folder of the training set to make")
    args = parser.parse_args()
    images = args.out / "images"
    images.mkdir(parents=True, exist_ok=True)
    found = sorted(args.stamps.rglob("*.png"))
    kept = [path for path in found if is_photographed(path)]
    for path in kept:
        shutil.copyfile(path, images / "-".join(path.relative_to(args.stamps).parts))
    print(f"{len(kept)} of {len(found)} stamps are photographs: {images}")


if __name__ == "__main__":
    main()
