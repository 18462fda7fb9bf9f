"""A server's client, with the verbs of the library: what it gives back is `Segments`, and it needs no torch.

    client = pointcut.Client("http://127.0.0.1:7788")
    photo = client.encode("dog.jpg")
    cut = photo.segment(points=[(500, 375)])

A picture that the server had to forget is uploaded again, and an answer that it had to forget is asked for again.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..errors import MissingExtra, ServerError
from ..images import ImageSource, open_image
from ..index import Where
from .films import RemoteTracker
from .images import RemoteImage, bytes_of
from .wire import error_from, error_of, given

if TYPE_CHECKING:
    import httpx

TIMEOUT = 120.0
"""Seconds without a word from the server until it is given up."""


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

    def index(self) -> dict[str, Any]:
        """How much the server's index holds, and whose vectors. Raises ServerError (it has none)."""
        return self.ask("GET", "/v1/index")

    def search(
        self,
        text: str | None = None,
        *,
        entry: str | None = None,
        where: Where | None = None,
        count: int = 12,
        skip: int = 0,
    ) -> list[dict[str, Any]]:
        """Segments of the server's index, best first: those that `text` means, those like a segment that was found before
        (`entry`, its `id`), or all that meet `where`. For those like a picture or a part of one: `RemoteImage.search`.

        where: its conditions on areas, labels, words and times; the others are the server's own. Each row has `similarity`,
        `id`, `image`, `box_xyxy`, `rle`, `label`, `description`, `area`, `score` and `thumbnail`, an address on the server.
        Raises InputError, ServerError.
        """
        return self.found({"text": text, "entry": entry}, where, count, skip)

    def thumbnail(self, row: dict[str, Any]) -> bytes:
        """The small JPEG of a segment that was found. Raises ServerError."""
        return self.send("GET", row["thumbnail"]).content

    def found(self, asked: dict[str, Any], where: Where | None, count: int, skip: int) -> list[dict[str, Any]]:
        """`/v1/index/search`. Raises as `ask` does."""
        conditions = {name: value for name, value in asdict(where or Where()).items() if value}
        body = given(asked) | conditions
        return self.ask("POST", "/v1/index/search", json=body | {"count": count, "skip": skip})["hits"]

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
