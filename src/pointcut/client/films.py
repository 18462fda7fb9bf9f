"""A film that lies on a server, and what is followed through it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .. import rle
from ..files import replacing
from .wire import given, plain

if TYPE_CHECKING:
    from .connection import Client


@dataclass(eq=False)
class RemoteTracker:
    """A film on the server, with the verbs of `Tracker`; masks come as JSON rows like those of `pointcut track`."""

    client: Client
    about: dict[str, Any]

    @property
    def path(self) -> str:
        return f"/v1/videos/{self.about['id']}"

    def prompt(
        self,
        frame: int,
        object_id: int,
        points: Sequence[Sequence[float]] | None = None,
        labels: Sequence[int] | None = None,
        boxes: Sequence[float] | None = None,
        mask: np.ndarray | None = None,
    ) -> dict[str, Any]:
        """As `Tracker.prompt`; gives the frame's number and masks."""
        said: dict[str, Any] = {"points": plain(points), "labels": plain(labels), "box": plain(boxes)}
        said["mask"] = None if mask is None else rle.encode(mask)
        return self.client.ask("POST", f"{self.path}/prompt", json={"frame": frame, "object": object_id, **given(said)})

    def run(self, start: int | None = None, end: int | None = None, *, reverse: bool = False) -> Iterator[dict[str, Any]]:
        """As `Tracker.run`: a row for each frame."""
        for line in self.client.stream(f"{self.path}/track", {"start": start, "end": end, "reverse": reverse}):
            if line.pop("type") == "frame":
                yield line

    def remove(self, object_id: int) -> None:
        """Forgets an object."""
        self.client.ask("DELETE", f"{self.path}/objects/{object_id}")

    def reset(self) -> None:
        """Forgets all objects."""
        self.client.ask("POST", f"{self.path}/reset")

    def render(self, path: Path, kind: Literal["overlay.mp4", "cutout.webm", "coco", "json"] = "overlay.mp4") -> Path:
        """Writes what was found so far. Raises ServerError, OutputError."""
        response = self.client.send("POST", f"{self.path}/render", json={"format": kind})
        with replacing(path) as temporary:
            temporary.write_bytes(response.content)
        return path

    def close(self) -> None:
        """Has the server forget the film."""
        self.client.ask("DELETE", self.path)
