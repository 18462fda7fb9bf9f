"""Many segments to words: a few at once, again where it failed, and never twice the same."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from ..ahead import ahead
from ..errors import MissingExtra, OutputError, PointcutError, ServerError
from ..files import make_folder, replacing
from ..segments import Segments
from .endpoint import LOCAL, Endpoint
from .look import Look

KEY = "POINTCUT_VLM_KEY"
"""The variable of the environment that holds an endpoint's secret."""

LONGEST = 4000
"""Characters of a description."""

AGAIN = frozenset({0, 408, 429, 500, 502, 503, 504})
"""What may go better a moment later: HTTP's, and 0 for no whole answer."""

DOWN = 5
"""Failures to reach the endpoint, one after another, after which it is left alone for `REST` seconds."""
REST = 30.0

UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
"""Characters that steer terminals, turn the direction of text, or are halves of one; a newline and a tab may stay."""


@dataclass(frozen=True)
class Description:
    """What a model said of a segment, or why it did not."""

    text: str = ""
    error: str = ""

    def told(self) -> dict[str, str]:
        """For programs: `description`, or `description_error`."""
        return {"description_error": self.error} if self.error else {"description": self.text}


@dataclass(frozen=True)
class Describing:
    """Who is asked, and how, as a job tells it. The endpoint's secret is not part of it: it stands in the environment, as
    POINTCUT_VLM_KEY."""

    address: str = LOCAL
    model: str = ""
    look: Look = Look()
    concurrency: int = 4

    def open(self) -> Describer:
        """With answers remembered in the user's cache folder. Raises MissingExtra, InputError."""
        endpoint = Endpoint(self.address, self.model, os.environ.get(KEY, ""))
        return Describer(endpoint, self.look, concurrency=self.concurrency, cache=answers())


def answers() -> Path:
    """Where answers are remembered."""
    try:
        from platformdirs import user_cache_path
    except ImportError:
        raise MissingExtra("describing needs the extra: pip install 'pointcut[describe]'") from None
    return user_cache_path("pointcut") / "descriptions"


class Describer:
    """An endpoint that is asked about segments. Safe between threads, a context; `concurrency` questions are open at once.

    cache: a folder of earlier answers, by what was shown, asked, and of whom; None: none. Raises MissingExtra.
    """

    def __init__(
        self, endpoint: Endpoint, look: Look | None = None, *, concurrency: int = 4, retries: int = 2, cache: Path | None = None
    ) -> None:
        self.endpoint, self.look = endpoint, look or Look()
        self.concurrency, self.retries, self.cache = concurrency, retries, cache
        self._line = endpoint.connect()
        self._model = endpoint.model
        self._open = threading.BoundedSemaphore(concurrency)
        self._lock = threading.RLock()
        self._misses, self._until = 0, 0.0

    def __enter__(self) -> Describer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._line.close()

    @property
    def model(self) -> str:
        """As the endpoint calls it. Raises ServerError, InputError."""
        with self._lock:
            if not self._model:
                self._reachable()
                try:
                    self._model = self.endpoint.only_model(self._line)
                except ServerError:
                    self._heard(reached=False)
                    raise
        return self._model

    def each(self, cut: Segments) -> Iterator[Description]:
        """What is said of each mask, in order. Nothing that an endpoint does is raised."""
        yield from ahead(self.describe, self.look.pictures(cut), self.concurrency, self.concurrency)

    def describe(self, picture: bytes) -> Description:
        """What is said of one close-up, a JPEG (`Look.pictures`)."""
        try:
            return Description("".join(self.stream(picture)))
        except PointcutError as error:
            return Description(error=cleaned(str(error)))

    def stream(self, picture: bytes, look: Look | None = None) -> Iterator[str]:
        """The same, piece by piece. look: what was asked when the picture was made, if not this describer's own.

        Raises ServerError, InputError.
        Pieces that were given out are not taken back: where an answer breaks off after its beginning, it is not asked again.
        """
        question = (look or self.look).question
        place = self._place(picture, question)
        known = _known(place)
        if known is not None:
            yield known
            return
        said: list[str] = []
        for attempt in range(self.retries + 1):
            try:
                with self._open:
                    self._reachable()
                    for piece in self._clean(self.endpoint.stream(self._line, self.model, picture, question)):
                        said.append(piece)
                        yield piece
                self._heard(reached=True)
                break
            except ServerError as error:
                if error.code == "at_rest":
                    raise
                self._heard(reached=error.code != "unreachable")
                if said or attempt == self.retries or error.status not in AGAIN:
                    raise
            time.sleep(0.5 * 2**attempt)
        if not said:
            raise ServerError("the model said nothing", 0, "silent")
        self._keep(place, "".join(said))

    def _clean(self, pieces: Iterable[str]) -> Iterator[str]:
        """Without what steers terminals, without space before and behind, not too long."""
        length, space = 0, ""
        for piece in pieces:
            text = space + UNSEEN.sub("", piece)
            text = text if length else text.lstrip()
            space = text[len(text.rstrip()) :]
            text = text.rstrip()[: LONGEST - length]
            length += len(text)
            if text:
                yield text
            if length >= LONGEST:
                return

    # An endpoint that is down

    def _reachable(self) -> None:
        """Raises ServerError where it has not been reached several times in a row, a short while ago."""
        with self._lock:
            if self._misses >= DOWN and time.monotonic() < self._until:
                raise ServerError(f"{self.endpoint.address} was not reached {self._misses} times in a row", 0, "at_rest")

    def _heard(self, *, reached: bool) -> None:
        with self._lock:
            self._misses = 0 if reached else self._misses + 1
            if self._misses >= DOWN:
                self._until = time.monotonic() + REST

    # Answers that are known

    def _place(self, picture: bytes, question: str) -> Path | None:
        if self.cache is None:
            return None
        asked = json.dumps([self.endpoint.address, self.model, self.endpoint.max_tokens, question])
        name = hashlib.sha256(asked.encode() + b"\0" + picture).hexdigest()
        return self.cache / name[:2] / f"{name}.json"

    def _keep(self, place: Path | None, text: str) -> None:
        if place is None:
            return
        try:
            make_folder(place.parent)
            with replacing(place) as temporary:
                temporary.write_text(json.dumps({"text": text}), encoding="utf-8")
        except OutputError:
            self.cache = None  # a full or read-only disk costs memory of answers, not answers


def _known(place: Path | None) -> str | None:
    """An earlier answer."""
    try:
        told: Any = None if place is None else json.loads(place.read_bytes())
        return None if told is None else str(told["text"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not there, or not ours: it is asked


def cleaned(text: str) -> str:
    """Somebody else's words, fit for a terminal and a file."""
    return UNSEEN.sub("", text).strip()[:LONGEST]
