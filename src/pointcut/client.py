"""A server's client, with the verbs of the library: what it gives back is `Segments`, and it needs no torch.

    client = pointcut.Client("http://127.0.0.1:7788")
    photo = client.encode("dog.jpg")
    cut = photo.segment(points=[(500, 375)])

A picture that the server had to forget is uploaded again, and an answer that it had to forget is asked for again.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from . import rle
from .errors import InputError, InvalidPrompt, MissingExtra, PointcutError, ServerError
from .files import replacing
from .images import ImageSource, open_image
from .prompts import Prompt, parse_prompts
from .segments import Preview, Segments

if TYPE_CHECKING:
    import httpx

TIMEOUT = 120.0
"""Seconds without a word from the server until it is given up."""

USER_ERRORS: dict[str, type[PointcutError]] = {"invalid_prompt": InvalidPrompt, "invalid_input": InputError}


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


class Client:
    """A connection to a server. Safe to use from several threads."""

    def __init__(
        self, address: str = "http://127.0.0.1:7788", *, token: str | None = None, model: str | None = None, retries: int = 5
    ) -> None:
        """token: the server's secret, by default POINTCUT_TOKEN of the environment. model: one of `models()`, by default the
        server's first. retries: how often a busy server is asked again. Raises MissingExtra."""
        try:
            import httpx
        except ImportError:
            raise MissingExtra("the client needs the extra: pip install 'pointcut[client]'") from None
        secret = token if token is not None else os.environ.get("POINTCUT_TOKEN")
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        self.model, self.retries = model, retries
        self._http = httpx.Client(base_url=address, headers=headers, timeout=TIMEOUT, trust_env=False)

    def models(self) -> dict[str, Any]:
        """What the server has."""
        return self.ask("GET", "/v1/models")

    def encode(self, image: ImageSource) -> RemoteImage:
        """Uploads a picture (all that `pointcut.open_image` reads) and has it encoded. Raises UnreadableImage, ServerError."""
        data = bytes_of(image)
        photo = RemoteImage(self, open_image(data), data)
        photo.upload()
        return photo

    def track(self, film: str | os.PathLike[str]) -> RemoteTracker:
        """Uploads a film to follow objects through it. Raises ServerError, OSError."""
        with Path(film).open("rb") as file:
            about = self.ask("POST", "/v1/videos", params=self._chosen(), content=file)
        return RemoteTracker(self, about)

    def ask(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        """One request's answer. Raises ServerError, or the library's own errors."""
        response = self.send(method, path, **body)
        return response.json() if response.content else {}

    def send(self, method: str, path: str, **body: Any) -> httpx.Response:
        """One request, again while the server is busy. Raises as `ask` does."""
        for attempt in range(self.retries + 1):
            response = self._send(method, path, **body)
            if response.status_code not in (429, 503) or attempt == self.retries or hasattr(body.get("content"), "read"):
                break
            time.sleep(min(30.0, float(response.headers.get("Retry-After", 1)) * 1.5**attempt))
        if response.is_success:
            return response
        raise error_of(response)

    def stream(self, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The lines of an answer that comes bit by bit. Raises as `ask` does."""
        import httpx

        try:
            with self._http.stream("POST", path, json=body) as response:
                if not response.is_success:
                    response.read()
                    raise error_of(response)
                for line in response.iter_lines():
                    told = json.loads(line)
                    if told["type"] == "error":
                        raise error_from(told["status"], told["code"], told["detail"])
                    yield told
        except httpx.HTTPError as error:
            raise ServerError(f"the server does not answer ({error})", 0, "unreachable") from None

    def _send(self, method: str, path: str, **body: Any) -> httpx.Response:
        import httpx

        try:
            return self._http.request(method, path, **body)
        except httpx.HTTPError as error:
            raise ServerError(
                f"no answer from {self._http.base_url} ({error}); is `pointcut serve` running there?", 0, "unreachable"
            ) from None

    def _chosen(self) -> dict[str, str]:
        return {"model": self.model} if self.model else {}

    def upload(self, data: bytes) -> dict[str, Any]:
        """A picture's bytes to its handle and size."""
        sticky = {"X-Image-Hash": hashlib.sha256(data).hexdigest()[:32]}  # for proxies: examples/serving/nginx.conf
        return self.ask("POST", "/v1/images", params=self._chosen(), content=data, headers=sticky)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


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

    def _answered(self, said: dict[str, Any], previous: RemoteSegments | None, prompts: tuple[Prompt, ...]) -> RemoteSegments:
        asked = None if previous is None else previous.asked
        if previous is not None and asked is None:
            raise InvalidPrompt("previous must be an answer of this server about this picture")
        body = {name: value for name, value in said.items() if value is not None}
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
        told = self._ask("segment", {name: value for name, value in said.items() if value is not None})["preview"]
        return Preview(rle.decode(told["rle"]), told["score"])

    def segment_everything(
        self, config: dict[str, Any] | None = None, progress: Callable[[int, int], None] | None = None
    ) -> Segments:
        """As `EncodedImage.segment_everything`; config: values of `AutomaticConfig` by name."""
        for fresh in (False, True):
            if fresh:
                self.upload()
            try:
                for line in self.client.stream(f"/v1/images/{self.id}/everything", config or {}):
                    if line["type"] == "progress" and progress is not None and line["total"]:
                        progress(line["done"], line["total"])
                    if line["type"] == "result":
                        points = [Prompt(np.array([point], np.float32), np.ones(1, np.int64)) for point in line["points"]]
                        return segments_in(self.image, line["masks"], tuple(points), None)
            except ServerError as error:
                if error.code != "image_gone" or fresh:
                    raise
        raise ServerError("the server's answer ended before its result", 0, "broken_stream")

    def delete(self) -> None:
        """Has the server forget the picture."""
        self.client.ask("DELETE", f"/v1/images/{self.id}")

    def _ask(self, verb: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            return self.client.ask("POST", f"/v1/images/{self.id}/{verb}", json=body)
        except ServerError as error:
            if error.code != "image_gone":
                raise
            self.upload()
            return self.client.ask("POST", f"/v1/images/{self.id}/{verb}", json=body)


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
        body = {name: value for name, value in said.items() if value is not None}
        return self.client.ask("POST", f"{self.path}/prompt", json={"frame": frame, "object": object_id, **body})

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


def plain(value: Any) -> Any:
    """Arrays, and lists of them, as lists of numbers."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return [plain(one) for one in value] if isinstance(value, list | tuple) else value


def segments_in(
    image: np.ndarray, masks: list[dict[str, Any]], prompts: tuple[Prompt, ...], asked: Asked | None
) -> RemoteSegments:
    cut = RemoteSegments.read_back(image, [m["rle"] for m in masks], masks, [m["object"] for m in masks])
    return replace(cut, prompts=prompts, asked=asked)


def error_of(response: httpx.Response) -> PointcutError:
    try:
        told = response.json()
        return error_from(response.status_code, told["code"], told["detail"])
    except (ValueError, KeyError, TypeError):
        return ServerError(f"the server answered {response.status_code}", response.status_code, "unknown")


def error_from(status: int, code: str, detail: str) -> PointcutError:
    if code in USER_ERRORS:
        return USER_ERRORS[code](detail)
    return ServerError(f"{detail} ({status} {code})", status, code)
