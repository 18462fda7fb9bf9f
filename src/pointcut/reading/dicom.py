"""DICOM: frames of scans and photographs in medicine, through the extra `dicom`.

Nothing but pixels leaves this file: names, dates and numbers of patients are not read into any result.

Source of the arithmetic: DICOM PS3.3, C.11.1 (modality), C.11.2.1.2 (window), C.7.6.3.1.2 (photometric interpretation).
"""

from __future__ import annotations

from typing import IO, Any

import numpy as np

from ..errors import BrokenImage, InputError, MissingExtra, UnsupportedImage, first_line
from ..images import Picture, Reading, check_size, frozen, shallow
from ..scaling import Limits, Scaling, to_bytes


def is_dicom(head: bytes) -> bool:
    """Whether a file that begins so (132 bytes) is DICOM."""
    return head[128:132] == b"DICM"


def read(file: IO[bytes], how: Reading, name: str) -> Picture:
    """One frame: rescaled, windowed (`how.scaling`, or the file's own window), MONOCHROME1 turned to light on dark.

    Raises BrokenImage, UnsupportedImage (no pixels, a directory, a compression without a decoder here), ImageTooLarge,
    InputError (no such frame), MissingExtra.
    """
    pydicom = _pydicom(name)
    header = _header(pydicom, file, name)
    frames = _number(header, "NumberOfFrames")
    check_size(_number(header, "Columns"), _number(header, "Rows"), name, how.max_pixels)
    if not 0 <= how.page < frames:
        raise InputError(f"{name}: has no frame {how.page}; it has {frames}, the first is 0")
    try:
        file.seek(0)
        values = pydicom.pixels.pixel_array(file, index=how.page)
        rgb, limits = _shown(pydicom, values, header, how.scaling, name)
    except InputError:
        raise
    except (NotImplementedError, RuntimeError) as error:
        raise UnsupportedImage(f"{name}: compressed in a way that needs another decoder ({first_line(error)})") from None
    except Exception as error:
        raise BrokenImage(f"{name}: broken or cut off ({first_line(error)})") from None
    return Picture(frozen(rgb), how.page, frames > 1, limits)


def frames_of(file: IO[bytes]) -> int:
    """How many frames a file has. Raises MissingExtra, BrokenImage, UnsupportedImage."""
    return _number(_header(_pydicom("DICOM"), file, "DICOM"), "NumberOfFrames")


def _pydicom(name: str) -> Any:
    try:
        import pydicom
        import pydicom.pixels
    except ImportError:
        raise MissingExtra(f"{name}: DICOM needs the extra: pip install 'pointcut[dicom]'") from None
    return pydicom


def _header(pydicom: Any, file: IO[bytes], name: str) -> Any:
    try:
        header = pydicom.dcmread(file, stop_before_pixels=True)
    except Exception as error:
        raise BrokenImage(f"{name}: broken or cut off ({first_line(error)})") from None
    if "Rows" not in header or "Columns" not in header:
        raise UnsupportedImage(f"{name}: a DICOM file without a picture (a directory, a report, ...)")
    return header


def _number(header: Any, name: str) -> int:
    try:
        return int(header.get(name, 1) or 1)
    except (TypeError, ValueError):
        raise BrokenImage(f"broken or cut off ({name} is no number)") from None


def _shown(
    pydicom: Any, values: np.ndarray, header: Any, scaling: Scaling | None, name: str
) -> tuple[np.ndarray, Limits | None]:
    """Stored values -> uint8 (H, W, 3), and what became black and white."""
    kind = str(header.get("PhotometricInterpretation", ""))
    if kind == "PALETTE COLOR":
        values = pydicom.pixels.apply_color_lut(values, header)
    if values.ndim == 3:  # pydicom has made RGB of YBR
        if values.dtype == np.uint8:
            return values[..., :3], None
        return shallow(values[..., :3], scaling or Scaling("full"), name)
    values = pydicom.pixels.apply_modality_lut(values, header)
    if scaling is None and _has_curve(header):
        values = pydicom.pixels.apply_voi_lut(values, header)
    limits = (scaling or _window(header) or Scaling()).limits(values)
    grey = to_bytes(values, limits)
    if kind == "MONOCHROME1":
        grey = 255 - grey
    return np.repeat(grey[..., None], 3, axis=2), limits


def _has_curve(header: Any) -> bool:
    """Whether the file's window is more than two limits."""
    return "VOILUTSequence" in header or str(header.get("VOILUTFunction", "LINEAR")) == "SIGMOID"


def _window(header: Any) -> Scaling | None:
    """The first window that the file names, as limits."""
    if _has_curve(header) or "WindowCenter" not in header or "WindowWidth" not in header:
        return None
    centre, width = (float(np.atleast_1d(header[key].value)[0]) for key in ("WindowCenter", "WindowWidth"))
    if str(header.get("VOILUTFunction", "LINEAR")) == "LINEAR":  # half a value of shift, as the standard has it
        centre, width = centre - 0.5, width - 1
    return Scaling("window", centre - width / 2, centre + width / 2) if width > 0 else None
