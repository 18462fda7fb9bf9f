"""Pictures from a camera, through PyAV (extra `video`)."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np

from ..errors import InputError
from .films import pyav
from .frames import CAMERA

DRIVERS = {"linux": ("video4linux2", "/dev/video{}"), "darwin": ("avfoundation", "{}"), "win32": ("dshow", "video={}")}
"""What FFmpeg calls a system's way to cameras, and one of them by its number (its name, on Windows)."""


def camera_frames(name: str) -> Iterator[np.ndarray]:
    """RGB uint8 (H, W, 3) as they come, without end; the camera is let go when the iterator is. `name`: "camera:0".

    Raises InputError where there is no such camera, MissingExtra.
    """
    av = pyav()
    kind, place = DRIVERS.get(sys.platform, ("", ""))
    if not kind:
        raise InputError(f"{name}: cameras of {sys.platform} are not known here; give a generator of their frames")
    try:
        container = av.open(place.format(name.removeprefix(CAMERA)), format=kind)
    except (av.FFmpegError, ValueError) as error:
        raise InputError(f"{name}: no such camera, or it is in use ({error})") from None

    def frames() -> Iterator[np.ndarray]:
        with container:
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="rgb24")

    return frames()
