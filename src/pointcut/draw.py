"""Pictures of masks: cut-outs, black-and-white masks, and overlays with contour, clicks and score."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from . import masks as mask_maths
from .errors import OutputError
from .files import replacing
from .prompts import FOREGROUND, Prompt

COLOURS = ((30, 144, 255), (255, 140, 0), (50, 205, 50), (220, 20, 60), (148, 0, 211), (0, 206, 209), (255, 215, 0))
"""Of objects, in turn."""

Background: TypeAlias = Literal["dim", "remove", "outline"]
"""What becomes of what is beside an object: darkened; white; or left, and the object outlined in red."""

SMALLEST = 224
"""The longer side of a close-up, at least: what models that look at pictures are made for."""

BAND = 64
"""Rows that are tinted together: what lies between the steps stays in a processor's cache."""

GREEN, RED, WHITE, BLACK = (0, 200, 80), (230, 30, 60), (255, 255, 255), (0, 0, 0)


def cutout(image: np.ndarray, mask: np.ndarray) -> Image.Image:
    """The object alone: RGB (H, W, 3) and mask (H, W) -> RGBA of the same size, transparent and black elsewhere."""
    rgba = np.empty((*mask.shape, 4), np.uint8)
    np.multiply(image, mask[..., None], out=rgba[..., :3])
    np.multiply(mask, np.uint8(255), out=rgba[..., 3])
    return Image.fromarray(rgba)


def mask_picture(mask: np.ndarray) -> Image.Image:
    """White where the mask is true, black elsewhere, 8-bit grey."""
    return Image.fromarray(mask.astype(np.uint8) * 255)


def close_up(
    image: np.ndarray, mask: np.ndarray, x0: int, y0: int, *, context: float, background: Background, side: int
) -> Image.Image:
    """One object and a little around it.

    image: (H, W, 3) uint8. mask: (h, w) bool, the part of a mask that lies at x0, y0 (`Segments.part`). context: what is shown
    around its box, on each side, as a share of the box's longer side. side: the result's longer side at most, in pixels.
    """
    (height, width), margin = image.shape[:2], max(2, round(context * max(mask.shape)))
    y1, x1 = y0 + mask.shape[0], x0 + mask.shape[1]
    left, top, right, bottom = max(0, x0 - margin), max(0, y0 - margin), min(width, x1 + margin), min(height, y1 + margin)
    part = image[top:bottom, left:right]
    inside = np.zeros(part.shape[:2], bool)
    inside[y0 - top : y1 - top, x0 - left : x1 - left] = mask
    if background == "outline":
        shown = part.copy()
        shown[mask_maths.border(~inside, max(2, round(max(inside.shape) / 100)))] = RED  # around it: all of it is seen
    else:
        shown = np.where(inside[..., None], part, (part * 0.35 + 40).astype(np.uint8) if background == "dim" else np.uint8(255))
    picture = Image.fromarray(shown)
    longer = max(picture.size)
    scale = min(side, max(longer, SMALLEST)) / longer
    small = max(1, round(scale * picture.width)), max(1, round(scale * picture.height))
    return picture if small == picture.size else picture.resize(small, Image.Resampling.LANCZOS)


def overlay(image: np.ndarray, masks: np.ndarray, prompts: Sequence[Prompt] = (), captions: Sequence[str] = ()) -> Image.Image:
    """The picture with each mask tinted and outlined, the prompts drawn, and each mask's caption beside it."""
    unit = max(1, round(min(image.shape[:2]) / 300))  # the width of lines, so that big pictures get big marks
    boxes = mask_maths.boxes_xyxy(masks).astype(int)
    top = max(0, boxes[:, 1].min(initial=len(image)) - 1)
    rows = slice(top, boxes[:, 3].max(initial=0) + 1)
    drawn, tinted = image.copy(), image[rows].astype(np.float32)  # as much of a large picture as there are masks
    for i, (mask, (x0, y0, x1, y1)) in enumerate(zip(masks, boxes, strict=True)):
        colour = np.array(COLOURS[i % len(COLOURS)], np.float32)
        down, across = slice(max(0, y0 - 1), y1 + 1), slice(max(0, x0 - 1), x1 + 1)  # what ends at its box ends there
        part, inside = tinted[down.start - top : down.stop - top, across], mask[down, across]
        np.multiply(part, 0.55, out=part, where=inside[..., None])
        np.add(part, 0.45 * colour, out=part, where=inside[..., None])
        within = mask_maths.erode(inside, unit)
        part[inside & ~mask_maths.erode(within, unit)] = WHITE
        part[inside & ~within] = colour
    drawn[rows] = tinted.astype(np.uint8)
    picture = Image.fromarray(drawn)
    pen = ImageDraw.Draw(picture)
    for prompt in prompts:
        _draw_prompt(pen, prompt, unit)
    font = ImageFont.load_default(size=max(10, 7 * unit))
    for (x0, y0, _, _), caption in zip(boxes, captions, strict=False):
        _label(pen, (float(x0), float(y0)), caption, font, image.shape[:2])
    return picture


def mosaic(image: np.ndarray, labels: np.ndarray, captions: Sequence[tuple[str, float, float]] = ()) -> Image.Image:
    """The picture with many masks: labels (H, W) with 0 for nothing, each tinted in a colour of its own and outlined.

    captions: words, and the place x, y of their middle.
    """
    unit = max(1, round(min(image.shape[:2]) / 400))
    colours = np.concatenate([[BLACK], distinct_colours(int(labels.max(initial=0)))]).astype(np.float32)
    half, edges = 0.5 * colours, (0.35 * colours + 0.65 * 255).astype(np.uint8)
    drawn = image.copy()
    for first in range(0, len(image), BAND):
        rows = slice(first, first + BAND)
        inside = labels[rows] > 0
        tinted = np.float32(0.5) * image[rows] + np.take(half, labels[rows], axis=0)
        np.copyto(drawn[rows], tinted.astype(np.uint8), where=inside[..., None])
    edge = _borders(labels, unit) & (labels > 0)
    drawn[edge] = edges[labels[edge]]
    picture = Image.fromarray(drawn)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size=max(10, 7 * unit))
    for text, x, y in captions:
        x0, y0, x1, y1 = pen.textbbox((0, 0), text, font=font, anchor="mm")
        pen.rectangle((x + x0 - 2, y + y0 - 2, x + x1 + 2, y + y1 + 2), fill=BLACK)
        pen.text((x, y), text, fill=WHITE, font=font, anchor="mm")
    return picture


def _borders(labels: np.ndarray, thickness: int) -> np.ndarray:
    """(H, W) bool: within so many pixels of a neighbour with another label."""
    edge = np.zeros(labels.shape, bool)
    for one, next_one in ((labels[:-1], labels[1:]), (labels[:, :-1], labels[:, 1:])):
        differs = one != next_one
        edge[: len(one), : one.shape[1]] |= differs
        edge[-len(one) :, -one.shape[1] :] |= differs
    return ~mask_maths.erode(~edge, thickness - 1)


def sheet(tiles: Sequence[Image.Image], captions: Sequence[str] = (), columns: int = 4) -> Image.Image:
    """Pictures side by side, all in squares or rectangles as large as the largest, each with its caption above."""
    width, height = (max(tile.size[axis] for tile in tiles) for axis in (0, 1))
    above = 20 if captions else 0
    gap = 6 if captions else 0
    columns = min(columns, len(tiles))
    picture = Image.new("RGB", (columns * (width + gap), -(-len(tiles) // columns) * (height + above + gap)), WHITE)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size=13)
    for i, tile in enumerate(tiles):
        x, y = i % columns * (width + gap), i // columns * (height + above + gap)
        picture.paste(tile, (x + (width - tile.width) // 2, y + above))
        if captions:
            pen.text((x + 2, y + 2), captions[i], fill=BLACK, font=font)
    return picture


def distinct_colours(count: int) -> np.ndarray:
    """(count, 3) float: neighbours in the row differ most; hues by the golden angle, so that any count looks even."""
    hues = (np.arange(count) * 0.61803398875) % 1
    value = np.where(np.arange(count) % 3 == 1, 0.75, 1.0)[:, None]
    channels = np.abs((hues[:, None] * 6 + np.array((0, 4, 2))) % 6 - 3) - 1
    return 255 * value * (1 - 0.8 * (1 - channels.clip(0, 1)))


def _draw_prompt(pen: ImageDraw.ImageDraw, prompt: Prompt, unit: int) -> None:
    if prompt.box is not None:
        x0, y0, x1, y1 = (float(v) for v in prompt.box)
        pen.rectangle((x0, y0, x1, y1), outline=GREEN, width=2 * unit)
    for (x, y), label in zip(prompt.points.tolist(), prompt.labels.tolist(), strict=True):
        radius, colour = 4 * unit, GREEN if label == FOREGROUND else RED
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour, outline=WHITE, width=unit)
        arm = radius / 2
        pen.line((x - arm, y, x + arm, y), fill=WHITE, width=unit)
        if label == FOREGROUND:
            pen.line((x, y - arm, x, y + arm), fill=WHITE, width=unit)


def _label(
    pen: ImageDraw.ImageDraw,
    corner: tuple[float, float],
    text: str,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
    size: tuple[int, int],
) -> None:
    """White text on a dark plate above `corner`, kept inside the picture."""
    x0, y0, x1, y1 = pen.textbbox((0, 0), text, font=font)
    width, height = x1 - x0 + 8, y1 - y0 + 6
    x = min(max(0.0, corner[0]), max(0.0, size[1] - width))
    y = min(max(0.0, corner[1] - height), max(0.0, size[0] - height))
    pen.rectangle((x, y, x + width, y + height), fill=BLACK)
    pen.text((x + 4 - x0, y + 3 - y0), text, fill=WHITE, font=font)


def jpeg(picture: Image.Image, quality: int) -> bytes:
    """A picture as the bytes of a JPEG file."""
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()


RUNS = 3
"""zlib's strategy for runs of one value (Z_RLE): photographs are written in a third of the time with it, about as small, and
masks and labels smaller."""


def save(picture: Image.Image, path: Path, texts: Mapping[str, str] | None = None) -> None:
    """Writes a picture by its name's suffix, to a temporary name first; a PNG with texts. Raises OutputError."""
    suffix = path.suffix.lower()
    if suffix in {".jpg", ".jpeg"} and picture.mode == "RGBA":
        raise OutputError(f"{path}: JPEG cannot hold transparency; name it .png or .webp")
    kind = Image.registered_extensions().get(suffix)
    if kind is None:
        raise OutputError(f"{path}: {suffix or 'no suffix'} is not a kind of picture; name it .png, .webp or .jpg")
    options: dict[str, Any] = {}
    if kind == "PNG":
        options = {"compress_type": RUNS}
        if texts is not None:
            options["pnginfo"] = PngInfo()
            for name, text in texts.items():
                options["pnginfo"].add_text(name, text)
    with replacing(path) as temporary:
        picture.save(temporary, format=kind, **options)
