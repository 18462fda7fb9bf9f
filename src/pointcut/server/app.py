"""The application: routes around a service, and the guard around them all."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

import uvicorn
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from .. import __version__
from ..errors import PointcutError
from ..segment.segmenter import Segmenter
from . import cvat, labelstudio, operations, page, pictures, search, videos, words
from .config import ServerConfig
from .guard import Guard
from .listener import Server, listen, listener
from .problems import Problem, answer
from .service import Service

SWEEP = 30.0
"""Seconds between two looks for films that nobody uses."""

DESCRIPTION = (
    "Point at it, cut it out. Upload a picture once (`POST /v1/images`), then ask it as often as you like "
    "(`POST /v1/images/{id}/segment`). Coordinates are pixels of the upright picture, x then y; masks come as COCO's run "
    "lengths unless another output is asked for. Errors are RFC 9457 problem documents with a stable `code`."
)


def create_app(config: ServerConfig, models: Sequence[Segmenter]) -> tuple[ASGIApp, Service]:
    """An ASGI application for loaded models, the first of them the default; and what it does its work with."""
    service = Service(config, models)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async def sweep() -> None:
            while True:
                await asyncio.sleep(SWEEP)
                service.open_films.sweep()

        sweeping = asyncio.create_task(sweep())
        yield
        sweeping.cancel()
        with suppress(asyncio.CancelledError):
            await sweeping
        service.close()

    app = FastAPI(
        title="Pointcut",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # its scripts would come from elsewhere
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.service = service
    for kind in (PointcutError, Problem, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, answer)
    for part in (pictures, words, search, videos, operations, cvat, labelstudio, page):
        app.include_router(part.router)
    return Guard(app, config, service), service


def serve(
    config: ServerConfig,
    models: Sequence[Segmenter],
    started: Callable[[str], None] = lambda _: None,
    line: socket.socket | None = None,
) -> None:
    """Runs until it is told to stop.

    started: called with the server's address when it listens. line: the socket that it listens on, by default a new one.
    Raises InputError if the address cannot be had.
    """
    line = line or listen(config.host, config.port)
    app, service = create_app(config, models)
    settings = uvicorn.Config(
        app,
        http=listener(config.limits.receipt),
        ws="none",
        loop="asyncio",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=config.limits.connections,
        timeout_graceful_shutdown=5,  # for those that are not done when `drain` is over
        timeout_keep_alive=round(config.limits.receipt),
        h11_max_incomplete_event_size=32_768,
    )
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    server = Server(settings, service, config.limits.drain, started)
    server.run(sockets=[line])
