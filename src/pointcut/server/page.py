"""The page and its files, and where a browser hands in its token."""

from __future__ import annotations

import hmac
from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NamedTuple

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from .config import ServerConfig
from .guard import COOKIE, CSP, session_of
from .pictures import Served
from .problems import Problem

router = APIRouter(include_in_schema=False)

TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "jpg": "image/jpeg",
    "mp4": "video/mp4",
}


class Asset(NamedTuple):
    """A file of the page."""

    body: bytes
    kind: str
    tag: str


@cache
def assets() -> dict[str, Asset]:
    """All files of the page by their path: what is not in this table is not served, whatever its path looks like."""
    found: dict[str, Asset] = {}

    def collect(folder: Traversable, prefix: str) -> None:
        for entry in folder.iterdir():
            ending = entry.name.rpartition(".")[2]
            if entry.is_dir():
                collect(entry, f"{prefix}{entry.name}/")
            elif ending in TYPES:
                body = entry.read_bytes()
                found[prefix + entry.name] = Asset(body, TYPES[ending], f'"{sha256(body).hexdigest()[:16]}"')

    collect(files("pointcut.server") / "assets", "")
    return found


def asset(name: str, request: Request, status: int = 200) -> Response:
    """Raises Problem 404."""
    found = assets().get(name)
    if found is None:
        raise Problem(404, "no_such_route", "there is nothing here")
    headers = {"ETag": found.tag, "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == found.tag:
        return Response(status_code=304, headers=headers)
    return Response(found.body, status, headers, found.kind)


@router.get("/")
async def page(request: Request, service: Served, token: str | None = None) -> Response:
    """The page. A token in the address, as the command prints it, becomes a session."""
    if token is not None:
        return admitted(token, service.config)
    return asset("index.html", request)


@router.get("/assets/{name:path}")
async def part(request: Request, name: str) -> Response:
    return asset(name, request)


@router.get("/login")
async def form(request: Request) -> Response:
    """A form for the token; with 401 where it stands in the place of what was asked."""
    token = request.query_params.get("token")
    if token is not None and getattr(request.state, "refused", False):
        return admitted(token, request.app.state.service.config)
    answer = asset("login.html", request, 401 if getattr(request.state, "refused", False) else 200)
    answer.headers["Content-Security-Policy"] = CSP.replace("style-src 'self'", f"style-src {own_style()}")
    return answer


@cache
def own_style() -> str:
    """The digest by which a browser knows the form's own style."""
    style = assets()["login.html"].body.partition(b"<style>")[2].partition(b"</style>")[0]
    return f"'sha256-{b64encode(sha256(style).digest()).decode()}'"


@router.post("/login")
async def login(request: Request, service: Served) -> Response:
    async with request.form(max_files=0, max_fields=1) as fields:
        return admitted(str(fields.get("token", "")), service.config)


def admitted(token: str, config: ServerConfig) -> Response:
    """To the page, with a session for a right token. Raises Problem 401."""
    answer = RedirectResponse("/", 303)
    if not config.tokens:
        return answer
    for known in config.tokens:
        if hmac.compare_digest(token.strip().encode(), known.encode()):
            answer.set_cookie(COOKIE, session_of(known), httponly=True, samesite="strict", max_age=30 * 86400)
            return answer
    raise Problem(401, "token_needed", "this is not the server's token")
