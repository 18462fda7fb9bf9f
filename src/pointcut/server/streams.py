"""Answers that come bit by bit: JSON lines, of which the last one is the result or an error."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from threading import Event
from typing import Any, TypeAlias

from fastapi import Request
from starlette.responses import StreamingResponse

from .lanes import Lane, Late
from .problems import Problem, problem_of, request_id_of
from .service import Service

Line: TypeAlias = dict[str, Any]


def streamed(
    request: Request,
    service: Service,
    lane: Lane[Any, Any],
    work: Callable[[Callable[[Line], None]], None],
    seconds: float,
    first: Line | None = None,
    late: str = "the answer took too long",
) -> StreamingResponse:
    """What `work` says, while a lane does it.

    work: is given a function that sends a line; it raises `Late` when the client has left or the time is over, which ends the
    work. first: sent at once. late: what the client is told when the time is over.
    """
    loop, lines = asyncio.get_running_loop(), asyncio.Queue[Line | None]()
    stopped = Event()

    def say(line: Line) -> None:
        if stopped.is_set():
            raise Late
        loop.call_soon_threadsafe(lines.put_nowait, line)

    job = service.submit(lane, lambda: work(say), seconds)
    job.future.add_done_callback(lambda _: loop.call_soon_threadsafe(lines.put_nowait, None))

    async def stream() -> AsyncIterator[str]:
        until = time.monotonic() + seconds
        if first is not None:
            yield line_of(first)
        try:
            while (line := await asyncio.wait_for(lines.get(), until - time.monotonic())) is not None:
                yield line_of(line)
            error = None if job.future.cancelled() else job.future.exception()
            if error is not None:
                raise error
        except (TimeoutError, Late):
            yield line_of(problem_line(request, Problem(504, "deadline", late)))
        except Exception as error:
            yield line_of(problem_line(request, problem_of(error)))
        finally:
            stopped.set()
            job.cancel()

    return StreamingResponse(stream(), media_type="application/x-ndjson")


def line_of(line: Line) -> str:
    return json.dumps(line) + "\n"


def problem_line(request: Request, problem: Problem) -> Line:
    """A problem within a stream that has begun."""
    return {**problem.document(request_id_of(request.scope)), "type": "error"}
