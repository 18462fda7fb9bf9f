"""Draws what README and docs show of the library, with the built-in model and the shipped photographs.

python docs/_tools/gallery.py FOLDER        # `make gallery` also draws what commands and the page show
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

import pointcut
from pointcut import draw

EXAMPLES = Path(__file__).parents[2] / "examples"

Click = tuple[int, int, int]
"""x, y, and 1 for the object or 0 for what is not."""

HEAD: tuple[Click, ...] = ((225, 110, 1), (225, 45, 1), (225, 190, 0))
SAUCER: tuple[Click, ...] = ((230, 140, 0), (300, 290, 0), (60, 60, 0))
SAUCER_BOX = (75, 95, 480, 398)
HELMET_BOX = (300, 300, 512, 512)
CUP_BOX = (165, 10, 415, 280)
PERSON: tuple[Click, ...] = ((225, 110, 1), (110, 380, 1), (330, 300, 1), (400, 410, 1), (40, 60, 0))


def shown(cut: pointcut.Segments) -> Image.Image:
    return draw.overlay(cut.image, cut.masks, cut.prompts, [f"{score:.2f}" for score in cut.scores])


def candidates(photo: pointcut.EncodedImage, click: Click) -> Image.Image:
    """What one click may have meant."""
    cut = photo.segment(points=[click[:2]])
    return row([shown(one) for one in cut], [f"candidate {i + 1}" for i in range(len(cut))])


def refined(photo: pointcut.EncodedImage, clicks: Sequence[Click], box: tuple[int, ...] | None = None) -> Image.Image:
    """The mask after each click; a box stands before the first."""
    tiles, cut = [], None
    for count in range(0 if box else 1, len(clicks) + 1):
        points, labels = [one[:2] for one in clicks[:count]] or None, [one[2] for one in clicks[:count]] or None
        cut = photo.segment(points=points, labels=labels, boxes=box, previous=cut)
        tiles.append(shown(cut.best))
    words = ["the box"] if box else []
    words += [f"click {i + 1}: {'this too' if one[2] else 'not this'}" for i, one in enumerate(clicks)]
    return row(tiles, words if box else ["the first click", *words[1:]])


def cleaned(photo: pointcut.EncodedImage, box: tuple[int, ...], least: int) -> Image.Image:
    """A mask as the model gives it, and without its small holes and islands."""
    cut = photo.segment(boxes=box)
    tiles = [shown(one).crop(box) for one in (cut, pointcut.without_small_regions(cut, least))]
    return row(tiles, ["as the model sees it", f"without regions below {least} pixels"])


def closer(photo: pointcut.EncodedImage, box: tuple[int, ...]) -> Image.Image:
    """What is in a box at first, and from close up."""
    cut = photo.segment(boxes=box)
    return row([shown(one).crop(box) for one in (cut, photo.zoom_in(cut))], ["at first", "from close up"])


def row(tiles: list[Image.Image], captions: list[str]) -> Image.Image:
    for tile in tiles:
        tile.thumbnail((300, 300))
    return draw.sheet(tiles, captions, columns=len(tiles))


def film(model: pointcut.Segmenter, path: Path, box: tuple[int, ...], every: int = 4) -> list[Image.Image]:
    """Frames of a film with the followed object."""
    tracker = model.track(path)
    tracker.prompt(0, 1, boxes=box)
    return [shown(frame.segments) for frame in tracker.run() if frame.index % every == 0]


def main() -> None:
    folder = Path(sys.argv[1])
    model = pointcut.load("nano", device="cpu")
    astronaut, coffee = (model.encode(EXAMPLES / "photos" / name) for name in ("astronaut.jpg", "coffee.jpg"))
    pictures = {
        "candidates.jpg": candidates(astronaut, (225, 110, 1)),
        "refine-head.jpg": refined(astronaut, HEAD),
        "refine-saucer.jpg": refined(coffee, SAUCER, SAUCER_BOX),
        "refine-person.jpg": refined(astronaut, PERSON),
        "refine-helmet.jpg": cleaned(astronaut, HELMET_BOX, 1000),
        "closer.jpg": closer(coffee, CUP_BOX),
    }
    for name, picture in pictures.items():
        draw.save(picture, folder / name)
    first, *others = film(model, EXAMPLES / "films" / "astronaut.mp4", (76, 0, 204, 150))
    for frame in (first, *others):
        frame.thumbnail((240, 240))
    first.save(folder / "astronaut.gif", save_all=True, append_images=others, duration=160, loop=0, optimize=True)


if __name__ == "__main__":
    main()
