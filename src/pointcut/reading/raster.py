"""GeoTIFF, deep colour, and pictures too large to be read whole: by GDAL, through rasterio (the extra `geo`).

Only files are opened, only by a named driver, so that nothing in a file makes GDAL fetch an address.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from ..errors import BrokenImage, InputError, MissingExtra, UnreadableImage
from ..images import MapPlace, Picture, Reading, check_size, frozen
from ..scaling import Limits, Scaling, to_bytes

GEO_KEYS, BITS = 34735, 258
"""TIFF's tags: GeoKeyDirectory, BitsPerSample."""

SAMPLE = 2048
"""The longer side of the smaller picture whose values limits are taken from: of what is not larger, all values."""

PERCENTILES = Scaling("percent", 2, 98)
"""What GIS programs stretch deep bands by at first."""


def is_tiff(head: bytes) -> bool:
    """Whether a file that begins so is TIFF or BigTIFF."""
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def is_wanted(file: IO[bytes], how: Reading) -> bool:
    """Whether a TIFF needs GDAL: a place on the earth, chosen bands, deep colour, or what Pillow cannot make a picture of.

    A TIFF that lies on a map and could be read by Pillow is left to it where rasterio is not installed.
    """
    try:
        with Image.open(file, formats=["TIFF"]) as image:
            tags = image.tag_v2  # type: ignore[attr-defined]  # a TIFF's own
            bits = tags.get(BITS, (1,))
            deep = isinstance(bits, tuple) and len(bits) > 1 and max(bits) > 8
            on_map = GEO_KEYS in tags
    except Exception:
        return bool(how.bands) or _installed()  # a kind that Pillow does not know; without GDAL its message is the one
    finally:
        file.seek(0)
    return bool(how.bands or deep or (on_map and _installed()))


def pages_of(file: IO[bytes]) -> int:
    """How many pages a TIFF has."""
    with Image.open(file, formats=["TIFF"]) as image:
        return int(getattr(image, "n_frames", 1))


def read(source: Path | bytes, how: Reading, name: str) -> Picture:
    """The whole picture. Raises as `open_raster` does, and ImageTooLarge."""
    with open_raster(source, how, name) as raster:
        check_size(raster.width, raster.height, name, how.max_pixels)
        pixels = raster.window(0, 0, raster.width, raster.height)
        return Picture(frozen(pixels), limits=raster.limits, place=raster.place)


@dataclass(frozen=True, eq=False)
class Raster:
    """An open file whose parts are read as RGB."""

    dataset: Any
    """Rasterio's."""
    bands: tuple[int, ...]
    limits: Limits | None
    """What becomes black and white in all parts alike; None: the file's values have 8 bits."""
    name: str

    @property
    def width(self) -> int:
        return int(self.dataset.width)

    @property
    def height(self) -> int:
        return int(self.dataset.height)

    @property
    def place(self) -> MapPlace | None:
        """Where it lies on the earth, if the file says so."""
        if self.dataset.crs is None:
            return None
        code = self.dataset.crs.to_epsg()
        return MapPlace(f"EPSG:{code}" if code else self.dataset.crs.to_wkt(), tuple(self.dataset.transform)[:6])

    def told(self) -> dict[str, Any]:
        """What a record says of it."""
        return Picture(np.zeros((0, 0, 3), np.uint8), limits=self.limits, place=self.place).told()

    def is_plain_photograph(self) -> bool:
        """Whether a JPEG's or PNG's bands are what people see: grey or RGB in 8 bits, and not turned by EXIF."""
        colours = {interpretation.name for interpretation in self.dataset.colorinterp}
        turned = self.dataset.tags().get("EXIF_Orientation", "1") != "1"
        return self.limits is None and not turned and colours <= {"red", "green", "blue", "gray"}

    def window(self, x0: int, y0: int, x1: int, y1: int, shape: tuple[int, int] | None = None) -> np.ndarray:
        """(H, W, 3) uint8 of pixels x0 <= x < x1, y0 <= y < y1; or of that `shape` (height, width), made smaller.

        Where the file has no data it is black. Raises BrokenImage.
        """
        values, there = _read(self.dataset, self.bands, self.name, (x0, y0, x1, y1), shape)
        grey = values if self.limits is None else to_bytes(values, self.limits)
        rgb = np.where(there[..., None], grey.transpose(1, 2, 0), np.uint8(0))
        return np.ascontiguousarray(np.broadcast_to(rgb, (*rgb.shape[:2], 3)))


@contextmanager
def open_raster(source: Path | bytes, how: Reading, name: str, driver: str = "GTiff") -> Iterator[Raster]:
    """Opens a picture to be read in parts. Raises MissingExtra, BrokenImage, UnreadableImage, InputError (no such band)."""
    if not _installed():
        raise MissingExtra(f"{name}: maps, bands, deep colour and tiles need the extra: pip install 'pointcut[geo]'")
    import rasterio

    with ExitStack() as stack:
        stack.enter_context(rasterio.Env(GDAL_CACHEMAX=128, GDAL_PAM_ENABLED=False))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        try:
            if isinstance(source, Path):
                address = str(source.resolve())  # begins with a slash: it cannot be taken for an address
            else:
                address = stack.enter_context(rasterio.MemoryFile(source)).name
            page = f"GTIFF_DIR:{how.page + 1}:" if how.page else ""
            dataset = stack.enter_context(rasterio.open(page + address, driver=driver))
        except rasterio.errors.RasterioError as error:
            raise BrokenImage(f"{name}: broken or cut off, or not of a kind that is read here ({error})") from None
        bands = _bands(dataset, how.bands, name)
        yield Raster(dataset, bands, _limits(dataset, bands, how.scaling, name), name)


def _installed() -> bool:
    try:
        import rasterio  # noqa: F401
    except ImportError:
        return False
    return True


def _bands(dataset: Any, asked: tuple[int, ...], name: str) -> tuple[int, ...]:
    """Those asked for, or the file's red, green and blue, its first three, or its first. Raises InputError."""
    wrong = [band for band in asked if not 1 <= band <= dataset.count]
    if wrong or len(asked) not in (0, 1, 3):
        raise InputError(f"{name}: bands must be one or three of 1 to {dataset.count}, got {', '.join(map(str, asked))}")
    if asked:
        return asked
    colours = [interpretation.name for interpretation in dataset.colorinterp]
    if {"red", "green", "blue"} <= set(colours):
        return tuple(colours.index(colour) + 1 for colour in ("red", "green", "blue"))
    return (1, 2, 3) if dataset.count >= 3 else (1,)


def _limits(dataset: Any, bands: tuple[int, ...], scaling: Scaling | None, name: str) -> Limits | None:
    """What becomes black and white, of all bands together, from the values that the file says are data."""
    if all(dataset.dtypes[band - 1] == "uint8" for band in bands):
        return None
    shrink = max(1.0, max(dataset.width, dataset.height) / SAMPLE)
    shape = max(1, round(dataset.height / shrink)), max(1, round(dataset.width / shrink))
    values, there = _read(dataset, bands, name, (0, 0, dataset.width, dataset.height), shape)
    try:
        return (scaling or PERCENTILES).limits(values[:, there])
    except InputError as error:
        raise UnreadableImage(f"{name}: {error}") from None


def _read(
    dataset: Any, bands: tuple[int, ...], name: str, box: tuple[int, int, int, int], shape: tuple[int, int] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Values (bands, H, W) of a part, and where there are any (H, W). Raises BrokenImage."""
    import rasterio

    x0, y0, x1, y1 = box
    part = rasterio.windows.Window(x0, y0, x1 - x0, y1 - y0)
    try:
        values = dataset.read(list(bands), window=part, out_shape=None if shape is None else (len(bands), *shape))
        there = dataset.dataset_mask(window=part, out_shape=shape) > 0
    except rasterio.errors.RasterioError as error:
        raise BrokenImage(f"{name}: broken or cut off ({error.__cause__ or error})") from None
    return values, there & np.isfinite(values).all(axis=0)
