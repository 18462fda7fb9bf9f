"""HEIC, as telephones write it: by libheif, through the extra `heic`."""

from __future__ import annotations

from typing import IO

from ..errors import BrokenImage, MissingExtra
from ..images import Picture, Reading, check_size, open_picture


def read(file: IO[bytes], how: Reading, name: str) -> Picture:
    """The file's main picture, turned as people see it. Raises BrokenImage, ImageTooLarge, MissingExtra."""
    try:
        from pillow_heif import open_heif
    except ImportError:
        raise MissingExtra(f"{name}: HEIC needs the extra: pip install 'pointcut[heic]'") from None
    try:
        heif = open_heif(file)
        width, height = heif.size
    except Exception as error:
        raise BrokenImage(f"{name}: broken or cut off ({error})") from None
    check_size(width, height, name, how.max_pixels)
    try:
        image = heif.to_pillow()
    except Exception as error:
        raise BrokenImage(f"{name}: broken or cut off ({error})") from None
    return open_picture(image, how, name)
