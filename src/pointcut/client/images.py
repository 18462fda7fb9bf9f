"""A picture that lies on a server, and what is answered about it."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from .. import rle
from ..errors import InvalidPrompt, ServerError
from ..images import ImageSource, open_image
from ..prompts import Prompt, parse_prompts
from ..segments import Preview, Segments
from .wire import given, plain

if TYPE_CHECKING:
    from ..draw import Background
    from ..index import Where
    from .connection import Client

Answer = TypeVar("Answer")


@dataclass(frozen=True, eq=False)
class Asked:
    """A request whose answer can be refined: with it the answer can be had again."""

    said: dict[str, Any]
    previous: RemoteSegments | None
    result: str


@dataclass(frozen=True, eq=False, repr=False)
class RemoteSegments(Segments):
    """`Segments` from a server. `logits` are empty: they stay there, and `previous=` refers to them."""

    asked: Asked | None = None


@dataclass(eq=False)
class RemoteImage:
    """A picture on the server, with the verbs of `EncodedImage`."""

    client: Client
    image: np.ndarray
    """(H, W, 3) uint8 RGB."""
    data: bytes = field(repr=False)
    id: str = ""
    model: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.image.shape[0], self.image.shape[1]

    def upload(self) -> None:
        """Sends the picture (again)."""
        about = self.client.upload(self.data)
        self.id, self.model = about["id"], about["model"]

    def segment(
        self,
        points: Any = None,
        labels: Any = None,
        boxes: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        previous: RemoteSegments | None = None,
        multimask: bool | None = None,
    ) -> RemoteSegments:
        """As `EncodedImage.segment`; a mask is bool (H, W) or (N, H, W). Raises InvalidPrompt, ServerError."""
        if mask is not None and np.asarray(mask).dtype.kind == "f":
            raise InvalidPrompt("a server takes rough masks as bool (H, W), not as logits")
        rough = None if mask is None else [rle.encode(m > 0) for m in np.asarray(mask).reshape(-1, *self.size)]
        prompts = parse_prompts(points, labels, boxes, mask, self.size) if previous is None else ()
        said = {
            "points": plain(points),
            "labels": plain(labels),
            "boxes": plain(boxes),
            "mask": rough,
            "multimask": multimask,
        }
        return self._answered(said, previous, prompts)

    def zoom_in(self, cut: RemoteSegments) -> RemoteSegments:
        """As `EncodedImage.zoom_in`. Raises InvalidPrompt for what is no answer of this server, ServerError."""
        if cut.asked is None:
            raise InvalidPrompt("only an answer of this server about this picture can be drawn anew")
        return self._answered(cut.asked.said | {"zoom": True}, cut.asked.previous, cut.prompts)

    def _answered(self, said: dict[str, Any], previous: RemoteSegments | None, prompts: tuple[Prompt, ...]) -> RemoteSegments:
        asked = None if previous is None else previous.asked
        if previous is not None and asked is None:
            raise InvalidPrompt("previous must be an answer of this server about this picture")
        body = given(said)
        if asked is not None:
            body["previous"] = asked.result
        try:
            told = self._ask("segment", body)
        except ServerError as error:
            if error.code != "previous_gone" or asked is None:
                raise
            again = self._answered(asked.said, asked.previous, ())  # what is to be refined is asked for once more
            assert again.asked is not None
            told = self._ask("segment", body | {"previous": again.asked.result})
        return segments_in(self.image, told["masks"], prompts, Asked(said, previous, told["result"]))

    def preview(self, points: Any = None, labels: Any = None, boxes: ArrayLike | None = None) -> Preview:
        """As `EncodedImage.preview`."""
        said = {"points": plain(points), "labels": plain(labels), "boxes": plain(boxes), "output": ["preview"]}
        told = self._ask("segment", given(said))["preview"]
        return Preview(rle.decode(told["rle"]), told["score"])

    def segment_everything(
        self, config: dict[str, Any] | None = None, progress: Callable[[int, int], None] | None = None
    ) -> Segments:
        """As `EncodedImage.segment_everything`; config: values of `AutomaticConfig` by name."""
        for line in self._lines("everything", config or {}):
            if line["type"] == "progress" and progress is not None and line["total"]:
                progress(line["done"], line["total"])
            if line["type"] == "result":
                points = [Prompt(np.array([point], np.float32), np.ones(1, np.int64)) for point in line["points"]]
                return segments_in(self.image, line["masks"], tuple(points), None)
        raise cut_short()

    def describe(
        self,
        mask: np.ndarray,
        ask: str | None = None,
        background: Background | None = None,
        heard: Callable[[str], None] | None = None,
    ) -> str:
        """What a vision-language model says of a part of the picture, where the server asks one.

        mask: bool (H, W). ask: the question, by default what it is. background: how the surroundings are shown. heard: is
        called with each piece of the answer as it comes. Raises InvalidPrompt (an empty mask), ServerError.
        """
        said = {"mask": rle.encode(mask), "ask": ask, "background": background}
        for line in self._lines("describe", given(said)):
            if line["type"] == "piece" and heard is not None:
                heard(line["text"])
            if line["type"] == "result":
                return line["description"]
        raise cut_short()

    def search(
        self, mask: np.ndarray | None = None, *, where: Where | None = None, count: int = 12, skip: int = 0
    ) -> list[dict[str, Any]]:
        """Segments of the server's index that look like this picture, or like a part of it (mask: bool (H, W)), best first.

        The rows and errors of `Client.search`.
        """
        rough = None if mask is None else rle.encode(mask)
        return self._with_picture(lambda: self.client.found({"image": self.id, "mask": rough}, where, count, skip))

    def delete(self) -> None:
        """Has the server forget the picture."""
        self.client.ask("DELETE", f"/v1/images/{self.id}")

    def _ask(self, verb: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._with_picture(lambda: self.client.ask("POST", f"/v1/images/{self.id}/{verb}", json=body))

    def _with_picture(self, ask: Callable[[], Answer]) -> Answer:
        """Asks, and once more with the picture uploaded again if the server had forgotten it."""
        try:
            return ask()
        except ServerError as error:
            if error.code != "image_gone":
                raise
            self.upload()
            return ask()

    def _lines(self, verb: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The lines of an answer that comes bit by bit. A picture that is gone is told before the first."""

        def begin() -> tuple[Iterator[dict[str, Any]], dict[str, Any] | None]:
            lines = self.client.stream(f"/v1/images/{self.id}/{verb}", body)
            return lines, next(lines, None)

        lines, first = self._with_picture(begin)
        if first is not None:
            yield first
            yield from lines


def cut_short() -> ServerError:
    return ServerError("the server's answer ended before its result", 0, "broken_stream")


def bytes_of(image: ImageSource) -> bytes:
    """A picture as a file's bytes: as it is, where it is a file."""
    if isinstance(image, str | os.PathLike):
        open_image(image)  # its errors name the file
        return Path(image).read_bytes()
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    buffer = io.BytesIO()
    Image.fromarray(open_image(image)).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def segments_in(
    image: np.ndarray, masks: list[dict[str, Any]], prompts: tuple[Prompt, ...], asked: Asked | None
) -> RemoteSegments:
    cut = RemoteSegments.read_back(image, [m["rle"] for m in masks], masks, [m["object"] for m in masks])
    return replace(cut, prompts=prompts, asked=asked)
