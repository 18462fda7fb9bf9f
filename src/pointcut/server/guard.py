"""What every request passes before the application sees it: who asks, from where, how much, how slowly.

A plain ASGI layer. It also gives each request an id, adds headers that keep a browser from mischief, and writes the log.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
import secrets
import time
from base64 import b64decode
from http.cookies import CookieError, SimpleCookie
from typing import Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .config import ServerConfig
from .problems import Problem, request_id_of

log = logging.getLogger("pointcut.server")

OPEN = frozenset({"/livez", "/login"})
"""Paths that need no token: whether the process lives, and where a token is handed in."""

UNWATCHED = frozenset({"/livez", "/readyz", "/metrics"})
"""Paths that are answered while the server drains, and are not counted among its work."""

PICTURES = frozenset({"/v1/images", "/v1/segment", "/label-studio/predict", "/cvat/interactor"})
FILMS = frozenset({"/v1/videos"})
"""Paths whose bodies may be large."""

COOKIE = "pointcut_session"
REQUEST_ID = re.compile(r"[\w.-]{1,64}\Z", re.ASCII)

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),  # with none at all a form of our own page would come without its origin
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)

HEAD = 32_768
"""Bytes of a request's address and headers."""

PATIENCE = 2.0
"""Seconds for which the rest of a refused body is read and thrown away, so that the client gets to read why."""


class Watch(Protocol):
    """Who is told of requests."""

    draining: bool

    def began(self) -> None: ...

    def ended(self, scope: Scope, status: int, seconds: float) -> None: ...


def session_of(token: str) -> str:
    """What a browser keeps instead of the token."""
    return hmac.new(token.encode(), b"pointcut-session", hashlib.sha256).hexdigest()


class Guard:
    """The layer around the application."""

    def __init__(self, app: ASGIApp, config: ServerConfig, watch: Watch) -> None:
        self.app, self.config, self.watch = app, config, watch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        asked = headers.get("x-request-id", "")
        request_id = asked if REQUEST_ID.match(asked) else secrets.token_hex(8)
        scope["state"] = {**scope.get("state", {}), "request_id": request_id, "owner": ""}
        own = [*HEADERS, (b"x-request-id", request_id.encode())]
        body = Body(self.config, scope["path"], receive)
        status, started = 500, time.perf_counter()
        begun = False

        async def answer(message: Message) -> None:
            nonlocal status, begun
            if body.problem is not None and not begun:  # whatever the application makes of it, this is what happened
                begun, status = True, body.problem.status
                await body.throw_away()
                await body.problem.send(send, request_id, own)
            elif body.problem is None or message["type"] != "http.response.start":
                if message["type"] == "http.response.start":
                    begun, status = True, message["status"]
                    names = {name for name, _ in message["headers"]}
                    kept = [] if b"cache-control" in names else [(b"cache-control", b"no-store")]
                    message["headers"] = [*message["headers"], *kept, *(pair for pair in own if pair[0] not in names)]
                if body.problem is None:
                    await send(message)

        counted = scope["path"] not in UNWATCHED
        if counted:
            self.watch.began()
        try:
            try:
                self._admit(scope, headers)
                body.admit(headers)
            except Problem as problem:
                if scope["path"] == "/" and problem.status == 401:
                    scope["path"], scope["state"]["refused"] = "/login", True  # a person gets a form
                    await self.app(scope, receive, answer)
                else:
                    status = problem.status
                    await body.throw_away()
                    await problem.send(send, request_id, own)
                return
            await self.app(scope, body.receive, answer)
        except Exception:
            log.exception("request %s failed", request_id)
            if not begun:
                await Problem(500, "internal", "something went wrong here").send(send, request_id, own)
        finally:
            seconds = time.perf_counter() - started
            if counted:
                self.watch.ended(scope, status, seconds)
            log.info("%s %s %d %.0f ms %s", scope["method"], scope["path"], status, 1000 * seconds, request_id_of(scope))

    def _admit(self, scope: Scope, headers: dict[str, str]) -> None:
        """Raises Problem unless the request may go on."""
        path, config = scope["path"], self.config
        if sum(len(name) + len(value) for name, value in scope["headers"]) + len(scope["raw_path"]) > HEAD:
            raise Problem(431, "head_too_large", f"a request's address and headers may have {HEAD} bytes")
        if path == "/livez":
            return
        if config.tokens and path not in OPEN:
            scope["state"]["owner"] = self._owner(headers)
        host = headers.get("host", "").lower()
        if config.allowed_hosts is not None and without_port(host) not in config.allowed_hosts:
            raise Problem(421, "wrong_host", "this server is not called by that name; see --allow-host")
        origin = headers.get("origin", "").lower()
        if origin and origin.partition("://")[2] != host:
            raise Problem(403, "wrong_origin", "pages of other origins may not ask this server")
        if scope["method"] not in ("GET", "HEAD") and headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise Problem(403, "wrong_origin", "pages of other origins may not ask this server")
        if self.watch.draining and path not in UNWATCHED:
            raise Problem(503, "draining", "the server is stopping; ask another one, or later")

    def _owner(self, headers: dict[str, str]) -> str:
        """The token that the request brings: as a bearer, as a password, or as a browser's session. Raises Problem 401."""
        kind, _, secret = headers.get("authorization", "").partition(" ")
        if kind.lower() == "basic":
            try:
                secret = b64decode(secret, validate=True).decode().partition(":")[2]
            except ValueError:
                secret = ""
        elif kind.lower() != "bearer":
            secret = ""
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            cookies = SimpleCookie()
        session = cookies[COOKIE].value if COOKIE in cookies else ""
        for token in self.config.tokens:
            if hmac.compare_digest(secret.strip().encode(), token.encode()):
                return token
            if hmac.compare_digest(session.encode(), session_of(token).encode()):
                return token
        raise Problem(401, "token_needed", "send the server's token: Authorization: Bearer ...")


def without_port(host: str) -> str:
    """`localhost:7788` -> `localhost`; what is not a host and a port stays as it is, and matches nothing."""
    match = re.fullmatch(r"(\[[0-9a-f:.]+\]|[^:/?#@\\\s]+)(:\d{1,5})?", host)
    return match[1] if match else host


class Body:
    """A request's body, as long as it is neither too large nor too slow."""

    def __init__(self, config: ServerConfig, path: str, receive: Receive) -> None:
        limits = config.limits
        self.limits, self._receive = limits, receive
        self.most = limits.body if path in PICTURES else limits.film if path in FILMS else limits.json
        self.received, self.whole = 0, False
        self.started = time.monotonic()
        self.problem: Problem | None = None

    def admit(self, headers: dict[str, str]) -> None:
        """Refuses by what the head announces. Raises Problem."""
        announced = headers.get("content-length", "0")
        if not announced.isdigit() or int(announced) > self.most:
            raise self._too_large()
        if headers.get("content-encoding", "identity") != "identity":
            raise Problem(415, "encoded_body", "bodies with a Content-Encoding are not read")

    async def receive(self) -> Message:
        if self.whole:
            return await self._receive()
        allowed = self.limits.receipt + self.received / self.limits.slowest - (time.monotonic() - self.started)
        try:
            message = await asyncio.wait_for(self._receive(), max(0.001, allowed))
        except TimeoutError:
            self.problem = Problem(408, "too_slow", "the request took too long to arrive")
            raise self.problem from None
        self.received += len(message.get("body", b""))
        self.whole = not message.get("more_body", False)
        if self.received > self.most:
            self.problem = self._too_large()
            raise self.problem
        return message

    async def throw_away(self) -> None:
        """Reads on for a moment without keeping anything."""
        if self.problem is not None and self.problem.status == 408:
            return
        until = time.monotonic() + PATIENCE
        while not self.whole and (left := until - time.monotonic()) > 0:
            try:
                message = await asyncio.wait_for(self._receive(), left)
            except TimeoutError:
                return
            self.whole = message["type"] == "http.disconnect" or not message.get("more_body", False)

    def _too_large(self) -> Problem:
        return Problem(413, "body_too_large", f"the body may have {self.most} bytes at most")
