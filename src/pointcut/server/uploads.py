"""Pictures and films out of requests."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from typing import Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile

from .config import ServerConfig
from .fetch import fetch
from .problems import Problem

Model = TypeVar("Model", bound=BaseModel)

FIELD = 1_000_000
"""Bytes of a form's field that is no file."""


def checked(kind: type[Model], value: Any) -> Model:
    """Raises RequestValidationError."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_context=False, include_input=False)) from None


def parsed(text: bytes | str) -> Any:
    """JSON. Raises Problem 422."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise Problem(422, "invalid_request", "the body is not JSON") from None


def from_base64(text: str) -> bytes:
    """A file in base64, or in a `data:` address. Raises Problem 422."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return b64decode(text, validate=True)
    except ValueError:
        raise Problem(422, "invalid_request", "image must be a file in base64") from None


async def picture_in(request: Request, config: ServerConfig) -> tuple[bytes, dict[str, Any]]:
    """The file that a request brings, and what it says besides.

    The body is the file itself; or a form with one file and JSON in the field `prompt`; or JSON with `image` or `url`.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        async with request.form(max_files=1, max_fields=8, max_part_size=FIELD) as form:
            files = [value for value in form.values() if isinstance(value, UploadFile)]
            if len(files) != 1:
                raise Problem(422, "invalid_request", "a form must bring one file")
            said = form.get("prompt")
            more = parsed(said) if isinstance(said, str) else {}
            if not isinstance(more, dict):
                raise Problem(422, "invalid_request", "prompt must be a JSON object")
            return await files[0].read(), more
    body = await request.body()
    if kind != "application/json":
        return body, {}
    said = await asyncio.to_thread(parsed, body)  # it may be long
    if not isinstance(said, dict):
        raise Problem(422, "invalid_request", "the body must be a JSON object")
    image, url = said.pop("image", None), said.pop("url", None)
    if isinstance(image, str) and url is None:
        return from_base64(image), said
    if isinstance(url, str) and image is None:
        return await fetch(url, config), said
    raise Problem(422, "invalid_request", "give the picture: image (base64) or url")
