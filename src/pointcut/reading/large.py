"""Pictures of any size, read in parts: TIFF, JPEG and PNG by GDAL, everything else whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from ..errors import MissingExtra
from ..images import MapPlace, Reading, opened
from . import read_picture
from .raster import Raster, is_tiff, open_raster


class LargePicture(Protocol):
    """What is read in parts."""

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...

    @property
    def place(self) -> MapPlace | None: ...

    def window(self, x0: int, y0: int, x1: int, y1: int, shape: tuple[int, int] | None = None) -> np.ndarray:
        """(H, W, 3) uint8 RGB of pixels x0 <= x < x1, y0 <= y < y1; made smaller to `shape` (height, width) if given."""
        ...

    def told(self) -> dict[str, Any]:
        """What a record says of how it was read."""
        ...


class Whole:
    """A picture in memory (or a memory map) as a large one."""

    place: MapPlace | None = None

    def __init__(self, pixels: np.ndarray, told: dict[str, Any] | None = None) -> None:
        """pixels: (H, W, 3) uint8 RGB."""
        self.pixels, self._told = pixels, told or {}
        self.height, self.width = pixels.shape[:2]

    def window(self, x0: int, y0: int, x1: int, y1: int, shape: tuple[int, int] | None = None) -> np.ndarray:
        part = np.ascontiguousarray(self.pixels[y0:y1, x0:x1])
        if shape is None or shape == part.shape[:2]:
            return part
        return np.asarray(Image.fromarray(part).resize((shape[1], shape[0]), Image.Resampling.BOX))

    def told(self) -> dict[str, Any]:
        return self._told


@contextmanager
def open_large(source: str | Path | np.ndarray, how: Reading | None = None) -> Iterator[LargePicture]:
    """Opens a file or an array (H, W, 3) uint8 to be read in parts.

    `how.max_pixels` holds for what must be read whole: kinds of files that GDAL is not asked for, photographs that EXIF turns,
    or where the extra `geo` is not installed. Raises as `read_picture` does.
    """
    how = how or Reading()
    if isinstance(source, np.ndarray):
        yield Whole(source)
        return
    path = Path(source)
    with opened(path) as file:
        head = file.read(8)
    with ExitStack() as stack:
        raster = _in_parts(stack, path, head, how)
        if raster is not None:
            yield raster
            return
        picture = read_picture(path, how)
        yield Whole(picture.pixels, picture.told())


def _in_parts(stack: ExitStack, path: Path, head: bytes, how: Reading) -> Raster | None:
    """The file opened by GDAL, if that sees in it what people do; None: it must be read whole."""
    photo = {b"\xff\xd8\xff": "JPEG", b"\x89PNG"[:3]: "PNG"}.get(head[:3])
    if not is_tiff(head) and photo is None:
        return None
    try:
        raster = stack.enter_context(open_raster(path, how, str(path), photo or "GTiff"))
    except MissingExtra:
        return None  # small ones can be read whole, and of large ones the limit will speak
    plain = photo is None or raster.is_plain_photograph()
    return raster if plain else None
