"""What the server does, apart from HTTP: pictures to handles, prompts to answers, each in its lane."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from fastapi import Request
from starlette.types import Scope

from ..errors import InvalidPrompt
from ..images import open_image
from ..segment.segmenter import Segmenter
from ..segment.session import EncodedImage
from ..segments import Segments
from .catalogue import Catalogue
from .config import ServerConfig
from .films import Films
from .lanes import Busy, Job, Lane, Late
from .metrics import Metrics
from .problems import Problem
from .shelf import Budget, Handles, Share, Shelf, bytes_of

Answer = TypeVar("Answer")

RESULTS = 8
"""Answers of one picture that can still be refined."""


@dataclass(eq=False)
class Kept:
    """An encoded picture on the shelf."""

    photo: EncodedImage
    results: itertools.count[int] = field(default_factory=lambda: itertools.count(secrets.randbelow(1 << 40)))
    """Numbers of its answers; they do not begin anew when it is encoded again."""


@dataclass(frozen=True, eq=False)
class Uploaded:
    """A picture that can be asked."""

    handle: str
    kept: Kept
    seconds: dict[str, float]
    cached: bool


class Service:
    """Models, lanes and the shelf. One for each process."""

    def __init__(self, config: ServerConfig, models: Sequence[Segmenter]) -> None:
        self.config, self.limits = config, config.limits
        self.models = {model.name: model for model in models}
        self.default = models[0].name
        self.metrics = Metrics()
        self.shelf = Shelf(self.limits.cache)
        self.handles = Handles(tuple(self.models))
        self.budget = Budget(self.limits.memory)
        self.open_films = Films(self.limits)
        self.describer = config.describe.open() if config.describe else None
        self.catalogue = Catalogue(config.index, models) if config.index else None
        self.draining, self.in_flight = False, 0
        self.decodes: Lane[Callable[[], Any], Any] = self._lane("decode")
        self.clicks: Lane[Callable[[], Any], Any] = self._lane("click")
        self.long: Lane[Callable[[], Any], Any] = self._lane("long")
        self.encodes: Lane[tuple[str, np.ndarray], EncodedImage] = Lane(
            "encode",
            self._encode,
            most=self.limits.queue,
            together=self.limits.together,
            kind=lambda task: task[0],
            report=self._reporter("encode"),
        )
        self.films: Lane[Callable[[], Any], Any] = self._lane("film")
        self.searches: Lane[Callable[[], Any], Any] = self._lane("search")
        asked = self.describer.concurrency if self.describer else 1
        self.questions: Lane[Callable[[], Any], Any] = self._lane("describe", threads=asked)
        self.lanes = (self.decodes, self.encodes, self.clicks, self.long, self.films, self.searches, self.questions)

    def _lane(self, name: str, threads: int = 1) -> Lane[Callable[[], Any], Any]:
        return Lane(
            name,
            lambda tasks: [task() for task in tasks],
            most=self.limits.queue,
            threads=threads,
            report=self._reporter(name),
        )

    def _reporter(self, lane: str) -> Callable[[int, float], None]:
        def report(tasks: int, seconds: float) -> None:
            self.metrics.work.labels(lane).observe(seconds)
            self.metrics.together.labels(lane).inc(tasks)

        return report

    def _encode(self, tasks: Sequence[tuple[str, np.ndarray]]) -> list[EncodedImage]:
        photos = self.models[tasks[0][0]].encoder.encode([pixels for _, pixels in tasks])
        for photo in photos:
            _ = photo.side_for_many  # here, and not while the first click waits: the shelf counts what it takes
        return photos

    def close(self) -> None:
        for lane in self.lanes:
            lane.close()
        self.open_films.close_all()

    # Told by the guard

    def began(self) -> None:
        self.in_flight += 1

    def ended(self, scope: Scope, status: int, seconds: float) -> None:
        self.in_flight -= 1
        route = getattr(scope.get("route"), "path", "other")
        self.metrics.requests.labels(scope["method"], route, status).inc()
        self.metrics.latency.labels(route).observe(seconds)

    # Work

    def submit(self, lane: Lane[Any, Answer], task: Any, seconds: float) -> Job[Any, Answer]:
        """Raises Problem 429."""
        try:
            return lane.submit(task, seconds)
        except Busy:
            raise Problem(429, "busy", f"too many requests wait for the {lane.name} lane; try again in a moment") from None

    async def ask(self, request: Request, lane: Lane[Any, Answer], task: Any, seconds: float | None = None) -> Answer:
        """A task's answer; not waited for longer than its deadline, nor after the client has left. Raises Problem."""
        seconds = self.limits.compute if seconds is None else seconds
        job = self.submit(lane, task, seconds)
        answer = asyncio.wrap_future(job.future)
        left = asyncio.ensure_future(gone(request))
        try:
            both: set[asyncio.Future[Any]] = {answer, left}
            await asyncio.wait(both, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if answer.cancelled():
                raise Problem(503, "draining", "the server is stopping")
            if answer.done():
                return answer.result()
            if left.done():
                raise Problem(408, "too_slow", "the client left")
            raise Late
        except Late:
            raise Problem(
                504, "deadline", f"no answer within {seconds:g} seconds; the server is busy or the task large"
            ) from None
        finally:
            left.cancel()
            job.cancel()
            answer.cancel()

    def model(self, name: str | None) -> Segmenter:
        """Raises Problem 422 for a model that was not loaded when the server started."""
        if name is not None and name not in self.models:
            raise Problem(422, "unknown_model", f"this server has {', '.join(self.models)}; got {name[:80]!r}")
        return self.models[name or self.default]

    def receiving(self, request: Request) -> AbstractContextManager[Share]:
        """Room for the picture that a request brings: entered before its body is read. Raises Problem 429."""
        return self.budget.share(int(request.headers.get("content-length", self.limits.body)))

    async def upload(self, request: Request, share: Share, data: bytes, model: str | None) -> Uploaded:
        """Decodes and encodes a file, or finds it on the shelf. Raises Problem or what `open_image` raises."""
        owner, name = request.state.owner, self.model(model).name
        digest = await asyncio.to_thread(Handles.digest, data)
        handle = self.handles.issue(owner, digest, name)
        kept = self.shelf.get(handle)
        self.metrics.lookups.labels("yes" if kept else "no").inc()
        if kept is not None:
            return Uploaded(handle, kept, {}, cached=True)
        started = time.perf_counter()
        pixels = await self.ask(
            request, self.decodes, lambda: open_image(data, max_pixels=self.limits.pixels), self.limits.decode
        )
        share.grow(pixels.nbytes)
        decoded = time.perf_counter()
        photo = await self.ask(request, self.encodes, (name, pixels))
        seconds = {"decode": decoded - started, "encode": time.perf_counter() - decoded}
        kept = Kept(photo)
        self.shelf.put(handle, kept, bytes_of((photo.image, photo.side_for_many)))
        return Uploaded(handle, kept, seconds, cached=False)

    def kept(self, owner: str, handle: str) -> Kept:
        """Raises Problem: 404 for a handle that was never given to this owner, 410 for a picture that had to go."""
        self.handles.model(owner, handle)
        kept = self.shelf.get(handle)
        if kept is None:
            raise Problem(410, "image_gone", "the picture made room for others: upload it again, its handle stays the same")
        return kept

    def forget(self, handle: str) -> None:
        """Drops a picture, and what was answered about it."""
        for key in (handle, *((handle, slot) for slot in range(RESULTS))):
            self.shelf.drop(key)

    def remember(self, handle: str, kept: Kept, cut: Segments) -> str:
        """Keeps what refines an answer; gives its name."""
        number = next(kept.results)
        self.shelf.put((handle, number % RESULTS), (number, cut.logits, cut.best_rows), cut.logits.nbytes)
        return str(number)

    def recall(self, handle: str, result: str) -> np.ndarray:
        """The logits of an answer's best masks, or, for `RESULT/ROW`, of one of them. Raises Problem 410 or InvalidPrompt."""
        name, _, row = result.partition("/")
        number = int(name) if name.isdecimal() and len(name) < 18 else -1
        found = self.shelf.get((handle, number % RESULTS))
        if found is None or found[0] != number:
            raise Problem(
                410, "previous_gone", "the answer to be refined is not kept any more: ask without previous, or repeat it"
            )
        _, logits, best = found
        if row and not (row.isdecimal() and int(row) < len(logits)):
            raise InvalidPrompt(f"the answer to be refined has rows 0 to {len(logits) - 1}, got {row!r}")
        return logits[[int(row)]] if row else logits[best]

    def figures(self) -> bytes:
        """For Prometheus."""
        for lane in self.lanes:
            self.metrics.waiting.labels(lane.name).set(lane.waiting)
        self.metrics.cached.set(self.shelf.taken)
        self.metrics.entries.set(len(self.shelf))
        self.metrics.evicted.set(self.shelf.evicted)
        self.metrics.films.set(len(self.open_films))
        return self.metrics.text()


async def gone(request: Request) -> None:
    """Returns when the client has left. The body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
