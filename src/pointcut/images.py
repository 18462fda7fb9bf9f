"""Anything that holds a picture to RGB pixels, and the frame that maps those pixels to a model's square.

What is accepted and how it becomes 8-bit RGB:

- paths, bytes, binary file objects, PIL images, numpy arrays (H, W), (H, W, 1), (H, W, 3) RGB, (H, W, 4) RGBA;
- EXIF orientation is applied: the picture is as people see it, and so are the coordinates;
- transparency is laid over white; CMYK, palette, grey and bilevel are converted; of an animation the first frame is taken;
- 16-bit and float pictures are stretched from their own smallest to their own largest value.
"""

from __future__ import annotations

import io
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, TypeAlias

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import BrokenImage, ImageTooLarge, UnreadableImage, UnsupportedImage

ImageSource: TypeAlias = "str | os.PathLike[str] | bytes | IO[bytes] | Image.Image | np.ndarray"

MAX_PIXELS = 64_000_000
"""The default limit of width times height."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "PPM")
"""What files are decoded; Pillow's other decoders stay shut."""

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Of RGB in [0, 1], as all SAM networks expect (the ImageNet figures)."""


def open_image(source: ImageSource, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Reads a picture as uint8 RGB (H, W, 3), contiguous and not writeable.

    Raises UnreadableImage (missing, empty, truncated, not an image, wrong shape or type) or ImageTooLarge.
    """
    if isinstance(source, np.ndarray):
        pixels = _from_array(source, max_pixels)
    elif isinstance(source, Image.Image):
        pixels = _from_pil(source, "image", max_pixels)
    elif isinstance(source, bytes | bytearray | memoryview):
        pixels = _from_file(io.BytesIO(source), "image data", max_pixels)
    elif isinstance(source, str | os.PathLike):
        pixels = _from_path(Path(source), max_pixels)
    elif hasattr(source, "read"):
        pixels = _from_file(io.BytesIO(source.read()), getattr(source, "name", "file object"), max_pixels)
    else:
        raise UnreadableImage(
            f"expected a path, bytes, a file object, a PIL image or a numpy array, got {type(source).__name__}"
        )
    pixels = np.ascontiguousarray(pixels)
    if pixels.flags.writeable:
        if pixels is source or pixels.base is not None:
            pixels = pixels.copy()  # freezing must not reach the caller's array
        pixels.flags.writeable = False
    return pixels


def open_mask(source: ImageSource) -> np.ndarray:
    """Reads a picture as a mask, bool (H, W): whatever is not black is object. Raises as `open_image` does."""
    return open_image(source).max(axis=2) > 0


def _from_path(path: Path, max_pixels: int) -> np.ndarray:
    try:
        with path.open("rb") as file:
            return _from_file(file, str(path), max_pixels)
    except FileNotFoundError:
        raise UnreadableImage(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UnreadableImage(f"{path}: is a folder, not an image; name its files, as in {path}/*.jpg") from None
    except PermissionError:
        raise UnreadableImage(f"{path}: may not be read (permission denied)") from None


def _from_file(file: IO[bytes], name: str, max_pixels: int) -> np.ndarray:
    head = file.read(64)
    file.seek(0)
    if not head:
        raise BrokenImage(f"{name}: the file is empty")
    if head[4:8] == b"ftyp" and head[8:12] in {b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"heim"}:
        raise UnsupportedImage(f"{name}: HEIC is not read yet; convert it to JPEG or PNG first")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is stricter
            image = Image.open(file, formats=_decoders())
        return _from_pil(image, name, max_pixels)
    except Image.DecompressionBombError:
        raise ImageTooLarge(f"{name}: far more than the limit of {max_pixels / 1e6:g} million pixels") from None
    except UnidentifiedImageError:
        raise UnsupportedImage(f"{name}: not an image of a known kind ({', '.join(_decoders())})") from None
    except (UnreadableImage, ImageTooLarge):
        raise
    except Exception as e:  # decoders of broken files raise whatever they like; a test throws thousands at them
        raise BrokenImage(f"{name}: broken or cut off ({e})") from None


def _decoders() -> tuple[str, ...]:
    """The formats above, as far as this Pillow was built with them."""
    Image.init()
    return tuple(kind for kind in FORMATS if kind in Image.OPEN)


def _from_pil(image: Image.Image, name: str, max_pixels: int) -> np.ndarray:
    _check_size(image.width, image.height, name, max_pixels)
    image.load()
    image = _upright(image)
    if image.mode in {"I", "F"} or image.mode.startswith("I;16"):
        return _grey_to_rgb(_stretch(np.asarray(image), name))
    if image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.asarray(image.convert("RGB"))


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image  # broken EXIF says nothing about the picture


def _from_array(array: np.ndarray, max_pixels: int) -> np.ndarray:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)) or 0 in array.shape:
        raise UnreadableImage(f"expected an array (H, W), (H, W, 3) RGB or (H, W, 4) RGBA, got shape {array.shape}")
    _check_size(array.shape[1], array.shape[0], "array", max_pixels)
    if array.dtype == np.uint16 and (array.ndim == 2 or array.shape[2] == 1):
        array = _stretch(array, "array")
    if array.dtype != np.uint8:
        raise UnreadableImage(
            f"expected uint8 (0..255), got {array.dtype}; scale it first, as in (image * 255).astype('uint8') for 0..1"
        )
    if array.ndim == 2:
        return _grey_to_rgb(array)
    if array.shape[2] == 1:
        return _grey_to_rgb(array[..., 0])
    if array.shape[2] == 4:
        return np.asarray(
            Image.alpha_composite(
                Image.new("RGBA", array.shape[1::-1], "white"), Image.fromarray(np.ascontiguousarray(array))
            ).convert("RGB")
        )
    return array


def _check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageTooLarge(
            f"{name}: {width} x {height} is {width * height / 1e6:.0f} million pixels, the limit is {max_pixels / 1e6:g}; "
            "make it smaller, or raise max_pixels"
        )
    if not width or not height:
        raise UnreadableImage(f"{name}: the picture has no pixels ({width} x {height})")


def _stretch(values: np.ndarray, name: str) -> np.ndarray:
    """A deep grey picture to uint8, from its own smallest to its own largest value."""
    values = values.astype(np.float64)
    finite = np.isfinite(values)
    if not finite.any():
        raise UnreadableImage(f"{name}: holds no finite value")
    low, high = values[finite].min(), values[finite].max()
    scaled = (np.where(finite, values, low) - low) * (255 / (high - low) if high > low else 0)
    return scaled.round().astype(np.uint8)


def _grey_to_rgb(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2)


@dataclass(frozen=True)
class Frame:
    """How a picture lies in the model's square of `side` pixels.

    `squash` stretches it over the whole square (SAM 2); `pad` keeps its proportions, in the upper left corner (SAM 1).
    """

    height: int
    width: int
    side: int
    fit: Literal["squash", "pad"]

    @property
    def content(self) -> tuple[int, int]:
        """(height, width) of the picture within the square."""
        if self.fit == "squash":
            return self.side, self.side
        # https://github.com/facebookresearch/segment-anything/blob/main/segment_anything/utils/transforms.py
        scale = self.side / max(self.height, self.width)
        return max(1, int(self.height * scale + 0.5)), max(1, int(self.width * scale + 0.5))

    def points_to_model(self, xy: np.ndarray) -> np.ndarray:
        """(..., 2) x, y in picture pixels -> pixels of the square, float32."""
        height, width = self.content
        return (np.asarray(xy, np.float64) * (width / self.width, height / self.height)).astype(np.float32)

    def boxes_to_model(self, xyxy: np.ndarray) -> np.ndarray:
        """(..., 4) x0, y0, x1, y1 in picture pixels -> pixels of the square, float32."""
        return self.points_to_model(np.asarray(xyxy).reshape(*np.shape(xyxy)[:-1], 2, 2)).reshape(np.shape(xyxy))
