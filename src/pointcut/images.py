"""Anything that holds a picture to RGB pixels, and the frame that maps those pixels to a model's square.

What is accepted and how it becomes 8-bit RGB:

- paths, bytes, binary file objects, PIL images, numpy arrays (H, W), (H, W, 1), (H, W, 3) RGB, (H, W, 4) RGBA;
- EXIF orientation is applied: the picture is as people see it, and so are the coordinates;
- transparency is laid over white; CMYK, palette, grey and bilevel are converted; of an animation the first frame is taken;
- 16-bit and float pictures become 8 bits as `Scaling` says, by default from their own smallest to their own largest value.

HEIC, DICOM and GeoTIFF are read by `reading`, which begins here for all other files.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import BrokenImage, ImageTooLarge, InputError, UnreadableImage, UnsupportedImage
from .files import missing
from .scaling import Limits, Scaling, to_bytes

ImageSource: TypeAlias = "str | os.PathLike[str] | bytes | IO[bytes] | Image.Image | np.ndarray"

MAX_PIXELS = 64_000_000
"""The default limit of width times height."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "PPM")
"""What files are decoded; Pillow's other decoders stay shut."""

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Of RGB in [0, 1], as all SAM networks expect (the ImageNet figures)."""


@dataclass(frozen=True)
class MapPlace:
    """Where a picture lies on the earth."""

    crs: str
    """The coordinate reference system: `EPSG:32633`, or its definition as WKT."""
    transform: tuple[float, float, float, float, float, float]
    """a, b, c, d, e, f: a pixel's corner (column, row) lies at x = a column + b row + c, y = d column + e row + f."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture that was read, and what is to be said of how."""

    pixels: np.ndarray
    """(H, W, 3) uint8 RGB, upright, contiguous and not writeable."""
    page: int = 0
    """Which of the file's pages or frames it is."""
    more: bool = False
    """Whether the file holds others: the pages of a TIFF, the frames of an animation or of a DICOM file."""
    limits: Limits | None = None
    """What became black and white, where the file's values were deep."""
    place: MapPlace | None = None

    def told(self) -> dict[str, Any]:
        """What a record says of it, where there is anything to say."""
        told: dict[str, Any] = {"page": self.page} if self.more else {}
        if self.limits is not None:
            told["black_white"] = list(self.limits)
        if self.place is not None:
            told["map"] = {"crs": self.place.crs, "transform": list(self.place.transform)}
        return told


@dataclass(frozen=True)
class Reading:
    """How files are read, where there is a choice."""

    page: int = 0
    """Of a TIFF with several, or the frame of a DICOM file."""
    scaling: Scaling | None = None
    """Of deep values; None: a DICOM file's own window, 2 to 98 % of a GeoTIFF's values, otherwise smallest to largest."""
    bands: tuple[int, ...] = ()
    """Of a GeoTIFF, from 1: three to be red, green and blue, or one."""
    max_pixels: int = MAX_PIXELS


def open_image(source: ImageSource, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Reads a picture as uint8 RGB (H, W, 3), contiguous and not writeable.

    Raises UnreadableImage (missing, empty, truncated, not an image, wrong shape or type) or ImageTooLarge.
    """
    return open_picture(source, Reading(max_pixels=max_pixels)).pixels


def open_picture(source: ImageSource, how: Reading, name: str = "image data") -> Picture:
    """The same, and what is to be said of how it was read. `name` is for messages where the source has none."""
    if isinstance(source, np.ndarray):
        picture = _from_array(source, how)
    elif isinstance(source, Image.Image):
        picture = _from_pil(source, name if name != "image data" else "image", how)
    elif isinstance(source, bytes | bytearray | memoryview):
        picture = _from_file(io.BytesIO(source), name, how)
    elif isinstance(source, str | os.PathLike):
        picture = _from_path(Path(source), how)
    elif hasattr(source, "read"):
        picture = _from_file(io.BytesIO(source.read()), getattr(source, "name", "file object"), how)
    else:
        raise UnreadableImage(
            f"expected a path, bytes, a file object, a PIL image or a numpy array, got {type(source).__name__}"
        )
    return replace(picture, pixels=frozen(picture.pixels, source))


def frozen(pixels: np.ndarray, source: object = None) -> np.ndarray:
    """The same pixels, contiguous and not writeable; the caller's array stays as it was."""
    pixels = np.ascontiguousarray(pixels)
    if pixels.flags.writeable:
        if pixels is source or pixels.base is not None:
            pixels = pixels.copy()
        pixels.flags.writeable = False
    return pixels


def open_mask(source: ImageSource) -> np.ndarray:
    """Reads a picture as a mask, bool (H, W): whatever is not black is object. Raises as `open_image` does."""
    return open_image(source).max(axis=2) > 0


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """A file that is to be read as a picture. Raises UnreadableImage."""
    try:
        with path.open("rb") as file:
            yield file
    except FileNotFoundError:
        raise UnreadableImage(missing(path)) from None
    except IsADirectoryError:
        raise UnreadableImage(f"{path}: is a folder, not an image; name its files, as in {path}/*.jpg") from None
    except PermissionError:
        raise UnreadableImage(f"{path}: may not be read (permission denied)") from None


def _from_path(path: Path, how: Reading) -> Picture:
    with opened(path) as file:
        return _from_file(file, str(path), how)


def is_heic(head: bytes) -> bool:
    """Whether a file that begins so is HEIC."""
    return head[4:8] == b"ftyp" and head[8:12] in {b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"heim"}


def _from_file(file: IO[bytes], name: str, how: Reading) -> Picture:
    head = file.read(64)
    file.seek(0)
    if not head:
        raise BrokenImage(f"{name}: the file is empty")
    if is_heic(head):
        raise UnsupportedImage(f"{name}: HEIC is not read here; convert it to JPEG or PNG first")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is stricter
            image = Image.open(file, formats=_decoders())
        return _from_pil(image, name, how)
    except Image.DecompressionBombError:
        raise ImageTooLarge(f"{name}: far more than the limit of {how.max_pixels / 1e6:g} million pixels") from None
    except UnidentifiedImageError:
        raise UnsupportedImage(f"{name}: not an image of a known kind ({', '.join(_decoders())})") from None
    except InputError:
        raise
    except Exception as e:  # decoders of broken files raise whatever they like; a test throws thousands at them
        raise BrokenImage(f"{name}: broken or cut off ({e})") from None


def _decoders() -> tuple[str, ...]:
    """The formats above, as far as this Pillow was built with them."""
    Image.init()
    return tuple(kind for kind in FORMATS if kind in Image.OPEN)


def _from_pil(image: Image.Image, name: str, how: Reading) -> Picture:
    check_size(image.width, image.height, name, how.max_pixels)
    if how.page:
        _turn_to(image, how.page, name)
        check_size(image.width, image.height, name, how.max_pixels)
    more = bool(how.page or getattr(image, "is_animated", False))
    image.load()
    image = _upright(image)
    if image.mode in {"I", "F"} or image.mode.startswith("I;16"):
        pixels, limits = shallow(np.asarray(image), how.scaling or Scaling(), name)
        return Picture(_grey_to_rgb(pixels), how.page, more, limits)
    if image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return Picture(np.asarray(image.convert("RGB")), how.page, more)


def _turn_to(image: Image.Image, page: int, name: str) -> None:
    try:
        image.seek(page)
    except EOFError:
        raise InputError(f"{name}: has no page {page}; the first is 0") from None


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image  # broken EXIF says nothing about the picture


def _from_array(array: np.ndarray, how: Reading) -> Picture:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)) or 0 in array.shape:
        raise UnreadableImage(f"expected an array (H, W), (H, W, 3) RGB or (H, W, 4) RGBA, got shape {array.shape}")
    check_size(array.shape[1], array.shape[0], "array", how.max_pixels)
    limits = None
    grey16 = array.dtype == np.uint16 and (array.ndim == 2 or array.shape[2] == 1)
    if grey16 or (how.scaling is not None and array.dtype != np.uint8):
        array, limits = shallow(array, how.scaling or Scaling(), "array")
    if array.dtype != np.uint8:
        raise UnreadableImage(
            f"expected uint8 (0..255), got {array.dtype}; scale it first, as in (image * 255).astype('uint8') for 0..1"
        )
    if array.ndim == 2:
        return Picture(_grey_to_rgb(array), limits=limits)
    if array.shape[2] == 1:
        return Picture(_grey_to_rgb(array[..., 0]), limits=limits)
    if array.shape[2] == 4:
        white = Image.new("RGBA", array.shape[1::-1], "white")
        array = np.asarray(Image.alpha_composite(white, Image.fromarray(np.ascontiguousarray(array))).convert("RGB"))
    return Picture(array, limits=limits)


def check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    """Raises ImageTooLarge, or UnreadableImage where there is nothing."""
    if width * height > max_pixels:
        raise ImageTooLarge(
            f"{name}: {width} x {height} is {width * height / 1e6:.0f} million pixels, the limit is {max_pixels / 1e6:g}; "
            "make it smaller, or raise max_pixels"
        )
    if not width or not height:
        raise UnreadableImage(f"{name}: the picture has no pixels ({width} x {height})")


def shallow(values: np.ndarray, scaling: Scaling, name: str) -> tuple[np.ndarray, Limits]:
    """Deep values to uint8, and their limits. Raises UnreadableImage where none is finite."""
    try:
        limits = scaling.limits(values)
    except InputError as error:
        raise UnreadableImage(f"{name}: {error}") from None
    return to_bytes(values, limits), limits


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
