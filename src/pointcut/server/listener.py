"""uvicorn, made patient with work and impatient with dawdlers: a deadline for a request's head, and an orderly end.

uvicorn has a deadline for idle connections only (https://github.com/Kludex/uvicorn/issues/157).
"""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType
from typing import Protocol

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..errors import InputError


class Drained(Protocol):
    """What is told that the end is near, and says when nothing is left to do."""

    draining: bool
    in_flight: int


def listen(host: str, port: int) -> socket.socket:
    """A socket at that address, 0 for a free port. Raises InputError."""
    try:
        kind = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=kind, backlog=2048)
    except OSError as error:
        raise InputError(
            f"{host}:{port} cannot be listened at ({error.strerror}); give another --port, or 0 for a free one"
        ) from None


def listener(patience: float) -> type[H11Protocol]:
    """A protocol that closes connections whose next request's head is not there after so many seconds."""

    class Listener(H11Protocol):
        _head: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._expect_head()

        def data_received(self, data: bytes) -> None:
            before = self.cycle
            super().data_received(data)
            if self.cycle is not before:
                self._head_is_there()

        def on_response_complete(self) -> None:
            before = self.cycle
            self._expect_head()
            super().on_response_complete()
            if self.cycle is not before:  # the next request was waiting in line
                self._head_is_there()

        def connection_lost(self, exc: Exception | None) -> None:
            self._head_is_there()
            super().connection_lost(exc)

        def _expect_head(self) -> None:
            self._head_is_there()
            self._head = self.loop.call_later(patience, self.transport.abort)

        def _head_is_there(self) -> None:
            if self._head is not None:
                self._head.cancel()
                self._head = None

    return Listener


class Server(uvicorn.Server):
    """On SIGTERM or SIGINT it says that it is not ready, takes no new work, lets what was begun finish, and leaves with 0."""

    LINGER = 0.5
    """Seconds for which it answers 503 at least, so that a proxy learns of it."""

    def __init__(
        self, config: uvicorn.Config, state: Drained, patience: float, started: Callable[[str], None] = lambda _: None
    ) -> None:
        super().__init__(config)
        self._state, self._patience, self._started = state, patience, started
        self._since: float | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.servers:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._started(f"http://{f'[{host}]' if ':' in host else host}:{port}/")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._since is not None:  # asked twice
            super().handle_exit(sig, frame)
            self.force_exit = True
            return
        if sig == signal.SIGINT:
            self._captured_signals.append(sig)
        self._since = time.monotonic()
        self._state.draining = True

    async def on_tick(self, counter: int) -> bool:
        if self._since is not None:
            waited = time.monotonic() - self._since
            if (waited > self.LINGER and not self._state.in_flight) or waited > self._patience:
                self.should_exit = True
        return await super().on_tick(counter)
