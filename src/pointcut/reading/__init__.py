"""Files of every kind to pictures: photographs by Pillow (`images`), and HEIC, DICOM, GeoTIFF and deep colour by extras.

Only for files that their owner chose: the server decodes strangers' bytes with `images.open_image` alone.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import IO

from ..images import ImageSource, Picture, Reading, is_heic, open_picture, opened
from . import dicom, heic, raster

__all__ = ["SUFFIXES", "pages_of", "read_picture"]

PHOTOGRAPHS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".ppm", ".pgm"}
SUFFIXES = frozenset(PHOTOGRAPHS | {".heic", ".heif", ".dcm", ".dicom"})
"""Of files that are taken out of a folder."""

HEAD = 132
"""Bytes that tell what a file is."""


def read_picture(source: ImageSource, how: Reading | None = None, name: str = "image data") -> Picture:
    """Reads a picture: all that `open_image` takes, and as a path, bytes or binary file also HEIC, DICOM and GeoTIFF.

    Raises UnreadableImage, ImageTooLarge, InputError (no such page or band), MissingExtra.
    """
    how = how or Reading()
    if isinstance(source, str | os.PathLike):
        with opened(Path(source)) as file:
            return _from_file(file, how, str(source))
    if isinstance(source, bytes | bytearray | memoryview):
        return _from_file(io.BytesIO(source), how, name)
    return open_picture(source, how, name)


def _from_file(file: IO[bytes], how: Reading, name: str) -> Picture:
    head = file.read(HEAD)
    file.seek(0)
    if dicom.is_dicom(head):
        return dicom.read(file, how, name)
    if is_heic(head):
        return heic.read(file, how, name)
    source = file.getvalue() if isinstance(file, io.BytesIO) else Path(name)
    if raster.is_tiff(head) and raster.is_wanted(file, how):
        return raster.read(source, how, name)
    return open_picture(source, how, name)


def pages_of(path: Path) -> int:
    """How many pages a TIFF has, or frames a DICOM file; 1 for all others, and for what cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
            file.seek(0)
            if dicom.is_dicom(head):
                return dicom.frames_of(file)
            return raster.pages_of(file) if raster.is_tiff(head) else 1
    except Exception:
        return 1  # its row will say what is wrong with it
