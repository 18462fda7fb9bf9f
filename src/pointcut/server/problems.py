"""Errors as answers: RFC 9457 problem documents with codes that do not change.

https://www.rfc-editor.org/rfc/rfc9457
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Send

from ..errors import (
    BrokenImage,
    ImageTooLarge,
    InputError,
    InvalidPrompt,
    MissingExtra,
    ModelError,
    PointcutError,
    UnreadableImage,
    UnsupportedImage,
)

TITLES = {
    400: "Bad request",
    401: "A token is needed",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    408: "Too slow",
    409: "Not now",
    410: "Gone",
    413: "Too large",
    415: "Not a picture",
    421: "Wrong host",
    422: "Cannot be used",
    429: "Busy",
    431: "Too large",
    500: "Internal error",
    501: "Not installed",
    502: "Not fetched",
    503: "Not available",
    504: "Took too long",
}

RETRY_AFTER = 1
"""Seconds that a client is asked to wait when the server is busy."""


class Problem(Exception):
    """An answer other than the one that was hoped for."""

    def __init__(self, status: int, code: str, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.more = status, code, detail, more

    @property
    def headers(self) -> dict[str, str]:
        if self.status in (429, 503):
            return {"Retry-After": str(RETRY_AFTER)}
        return {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}

    def document(self, request_id: str) -> dict[str, Any]:
        about = {"type": f"urn:pointcut:{self.code}", "title": TITLES[self.status], "status": self.status}
        return {**about, "code": self.code, "detail": self.detail, "request_id": request_id, **self.more}

    def response(self, request_id: str) -> Response:
        return Response(json.dumps(self.document(request_id)), self.status, self.headers, "application/problem+json")

    async def send(self, send: Send, request_id: str, headers: list[tuple[bytes, bytes]]) -> None:
        """For what stands before the application."""
        body = json.dumps(self.document(request_id)).encode()
        own = [(name.lower().encode(), value.encode()) for name, value in self.headers.items()]
        own += [(b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": self.status, "headers": own + headers})
        await send({"type": "http.response.body", "body": body})


CODES: tuple[tuple[type[PointcutError], int, str], ...] = (
    (UnsupportedImage, 415, "unsupported_image"),
    (BrokenImage, 422, "image_truncated"),
    (UnreadableImage, 422, "unreadable_image"),
    (ImageTooLarge, 413, "image_too_large"),
    (InvalidPrompt, 422, "invalid_prompt"),
    (InputError, 422, "invalid_input"),
    (MissingExtra, 501, "missing_extra"),
    (ModelError, 422, "model_unsuitable"),
)
"""The first class that fits decides."""


def problem_of(error: Exception) -> Problem:
    """What an exception is to the one who asked. Of errors that nobody foresaw nothing is told."""
    if isinstance(error, Problem):
        return error
    for kind, status, code in CODES:
        if isinstance(error, kind):
            return Problem(status, code, str(error))
    if isinstance(error, RequestValidationError):
        found = [{"where": ".".join(map(str, one["loc"])), "what": one["msg"]} for one in error.errors()[:5]]
        return Problem(422, "invalid_request", f"{found[0]['where']}: {found[0]['what']}", errors=found)
    if isinstance(error, HTTPException):
        if error.status_code == 400:
            return Problem(422, "invalid_request", "the body cannot be parsed as what its Content-Type says")
        codes = {404: "no_such_route", 405: "method_not_allowed"}
        status = error.status_code if error.status_code in TITLES else 400
        return Problem(status, codes.get(status, "refused"), TITLES[status])
    return Problem(500, "internal", "something went wrong here; the server's log has it under this request's id")


def request_id_of(scope: Mapping[str, Any]) -> str:
    return scope["state"]["request_id"]


async def answer(request: Request, error: Exception) -> Response:
    """The application's handler of exceptions."""
    return problem_of(error).response(request_id_of(request.scope))
