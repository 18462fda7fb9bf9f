"""Makes the film of the examples: a camera that wanders over a photograph. `python examples/films/make.py`."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from PIL import Image

PHOTO = Path(__file__).parents[1] / "photos" / "astronaut.jpg"
SIZE = (320, 320)
FRAMES = 48


def view(photo: Image.Image, time: float) -> np.ndarray:
    """What the camera sees at a time in 0..1: it drifts, turns, and comes nearer."""
    width, height = photo.size
    zoom = 0.62 + 0.12 * np.cos(2 * np.pi * time)
    x = width * (0.5 + 0.10 * np.sin(2 * np.pi * time))
    y = height * (0.42 + 0.05 * np.sin(4 * np.pi * time))
    turn = np.deg2rad(8 * np.sin(2 * np.pi * time))
    scale = zoom * min(photo.size) / SIZE[0]
    a, b = scale * np.cos(turn), scale * np.sin(turn)
    matrix = (a, -b, x - a * SIZE[0] / 2 + b * SIZE[1] / 2, b, a, y - b * SIZE[0] / 2 - a * SIZE[1] / 2)
    return np.asarray(photo.transform(SIZE, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC))


def main() -> None:
    photo = Image.open(PHOTO).convert("RGB")
    with av.open(str(Path(__file__).with_name("astronaut.mp4")), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "24", "preset": "veryslow"}
        for i in range(FRAMES):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(view(photo, i / FRAMES), format="rgb24")))
        container.mux(stream.encode())


if __name__ == "__main__":
    main()
