"""A film that tests make: a bright ball that rolls over a dark ground."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.video.stream import VideoStream

SIZE = (96, 128)


def ball(frame: int) -> np.ndarray:
    """A bright ball that rolls to the right over a dark ground."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    image = np.full((*SIZE, 3), (40, 60, 50), np.uint8)
    image[(x - 30 - frame) ** 2 + (y - 48) ** 2 < 18**2] = (230, 180, 40)
    return image


def truth(frame: int) -> np.ndarray:
    return ball(frame)[..., 0] > 128


def empty_stream(container: OutputContainer, codec: str = "libx264", rate: int = 10) -> VideoStream:
    """Of the ball's size, in a file that is being written."""
    stream = container.add_stream(codec, rate=rate)
    stream.height, stream.width = SIZE
    stream.pix_fmt = "yuv420p"
    return stream


def write_film(path: Path, frames: int, codec: str = "libx264", rate: int = 10) -> Path:
    with av.open(str(path), "w") as container:
        stream = empty_stream(container, codec, rate)
        if codec == "libx264":
            stream.options = {"g": "5"}
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(ball(i), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
