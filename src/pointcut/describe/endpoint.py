"""One question about one picture to an OpenAI-compatible endpoint, and the answer as it comes.

Only `model`, `messages`, `max_tokens`, `temperature`, `seed` and `stream` are sent: what every server of this kind takes.
Source of the format: https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..errors import InputError, MissingExtra, ServerError, first_line

if TYPE_CHECKING:
    import httpx

LOCAL = "http://127.0.0.1:11434/v1"
"""Where Ollama listens."""

MOST_BYTES = 1_000_000
"""Of an answer; one that goes on is broken off."""


@dataclass(frozen=True)
class Endpoint:
    """Where a model answers. Raises InputError for what is no address."""

    address: str = LOCAL
    """Up to and with `/v1`."""
    model: str = ""
    """As the endpoint calls it; empty: the only one that it has."""
    key: str = field(default="", repr=False)
    """Its secret, sent as a bearer token; to no other address."""
    silence: float = 60.0
    """Seconds without a word until it is given up."""
    deadline: float = 300.0
    """Seconds for a whole answer."""
    max_tokens: int = 200

    def __post_init__(self) -> None:
        parts = urlsplit(self.address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"an endpoint is an address such as {LOCAL}, got {self.address!r}")

    def connect(self) -> httpx.Client:
        """What `stream` and `only_model` send through; safe between threads. Raises MissingExtra."""
        try:
            import httpx
        except ImportError:
            raise MissingExtra("describing needs the extra: pip install 'pointcut[describe]'") from None
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        timeout = httpx.Timeout(self.silence, connect=10.0)
        # no redirects: picture and key go where the user said; a proxy may lead out of this machine, but not back into it
        return httpx.Client(headers=headers, timeout=timeout, follow_redirects=False, trust_env=not self._is_here)

    @property
    def _is_here(self) -> bool:
        host = urlsplit(self.address).hostname or ""
        try:
            return host == "localhost" or ip_address(host).is_loopback
        except ValueError:
            return False

    def only_model(self, line: httpx.Client) -> str:
        """What the endpoint calls its model, if it has one alone. Raises ServerError, InputError."""
        import httpx

        try:
            answer = line.get(f"{self._base}/models")
            names = [str(one["id"]) for one in answer.json()["data"]] if answer.is_success else []
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None
        except (ValueError, KeyError, TypeError):
            names = []
        if len(names) != 1:
            listed = f"it has {', '.join(names[:8])}" if names else f"{self.address} does not list any"
            raise InputError(f"name the model with --vlm ({listed})")
        return names[0]

    @property
    def _base(self) -> str:
        return self.address.rstrip("/")

    def body(self, model: str, picture: bytes, question: str) -> dict[str, Any]:
        """The request. picture: a JPEG."""
        image = {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{b64encode(picture).decode()}"}}
        message = {"role": "user", "content": [image, {"type": "text", "text": question}]}
        told = {"model": model, "messages": [message], "max_tokens": self.max_tokens}
        return told | {"temperature": 0, "seed": 0, "stream": True}

    def stream(self, line: httpx.Client, model: str, picture: bytes, question: str) -> Iterator[str]:
        """The answer's pieces as they come. Raises ServerError: its `status` is 0 where there was no whole answer."""
        import httpx

        until = time.monotonic() + self.deadline
        try:
            with line.stream("POST", f"{self._base}/chat/completions", json=self.body(model, picture, question)) as answer:
                if not answer.is_success:
                    raise self._refused(answer, until)
                if answer.headers.get("content-type", "").startswith("text/event-stream"):
                    yield from self._pieces(answer, until)
                else:  # a server that does not stream
                    yield _said(_parsed(self._read(answer, until)), "message")
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None

    def _pieces(self, answer: httpx.Response, until: float) -> Iterator[str]:
        """Of a stream of server-sent events."""
        rest, ended = b"", False
        for chunk in self._chunks(answer, until):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                name, _, data = line.partition(b":")
                if name != b"data" or ended:
                    continue
                if data.strip() == b"[DONE]":
                    ended = True
                    continue
                told = _parsed(data)
                if piece := _said(told, "delta"):
                    yield piece
                ended = ended or _finished(told)
        if not ended:
            raise ServerError("the answer broke off", 0, "broken_off")

    def _chunks(self, answer: httpx.Response, until: float) -> Iterator[bytes]:
        taken = 0
        for chunk in answer.iter_bytes():
            taken += len(chunk)
            if taken > MOST_BYTES:
                raise ServerError(f"the answer is longer than {MOST_BYTES // 1_000_000} MB; it was broken off", 0, "too_long")
            if time.monotonic() > until:
                raise ServerError(f"no whole answer within {self.deadline:g} seconds", 0, "too_slow")
            yield chunk

    def _read(self, answer: httpx.Response, until: float) -> bytes:
        return b"".join(self._chunks(answer, until))

    def _refused(self, answer: httpx.Response, until: float) -> ServerError:
        told = self._read(answer, until).decode("utf-8", "replace")
        try:
            error = json.loads(told)
            error = error.get("error", error.get("detail", error))
            told = str(error.get("message", error) if isinstance(error, dict) else error)
        except (ValueError, AttributeError):
            pass
        words = " ".join(told.split())[:200]
        return ServerError(f"{self.address} answered {answer.status_code}: {words or 'nothing'}", answer.status_code, "refused")

    def _unreachable(self, error: Exception) -> ServerError:
        return ServerError(f"no answer from {self.address} ({first_line(error)}); is it running there?", 0, "unreachable")


def _parsed(data: bytes) -> Any:
    """Raises ServerError."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        shown = " ".join(data[:80].decode("utf-8", "replace").split())
        raise ServerError(f"the endpoint talks no JSON: {shown!r}", 0, "nonsense") from None


def _choice(told: Any) -> dict[str, Any]:
    """The first choice; empty where there is none, as in a last event with figures only. Raises ServerError."""
    if not isinstance(told, dict) or "error" in told:
        raise ServerError(f"the endpoint failed: {str(told)[:200]}", 0, "failed")
    choices = told.get("choices")
    if choices is None or not isinstance(choices, list):
        raise ServerError(f"the endpoint's answer has no choices: {str(told)[:80]}", 0, "nonsense")
    return choices[0] if choices and isinstance(choices[0], dict) else {}


def _said(told: Any, where: str) -> str:
    """The text of a whole answer (`message`) or of a piece (`delta`). Raises ServerError."""
    message = _choice(told).get(where)
    content = message.get("content") if isinstance(message, dict) else None
    return content if isinstance(content, str) else ""


def _finished(told: Any) -> bool:
    return bool(_choice(told).get("finish_reason"))
