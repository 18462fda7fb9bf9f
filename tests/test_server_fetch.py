"""What a server fetches from elsewhere: nothing unless told to, nothing private, nothing endless."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest

from pointcut.server.config import ServerConfig
from pointcut.server.fetch import fetch, fetch_checked, public
from pointcut.server.problems import Problem

from conftest import PHOTOS
from serving import Served, code


@contextmanager
def elsewhere(
    answer: bytes, status: int = 200, headers: dict[str, str] | None = None, drip: float = 0
) -> Iterator[tuple[str, list]]:
    """A server on loopback, and what it was asked."""
    seen: list = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append((self.path, dict(self.headers)))
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            try:
                for byte in answer if drip else [answer]:
                    self.wfile.write(bytes([byte]) if isinstance(byte, int) else byte)
                    time.sleep(drip)
            except OSError:
                pass

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()


def refusal(url: str, **options: object) -> tuple[int, str]:
    with pytest.raises(Problem) as caught:
        asyncio.run(fetch_checked(url, 1000, {}, "", **options))  # type: ignore[arg-type]
    return caught.value.status, caught.value.code


def test_addresses_are_not_fetched_by_default(served: Served) -> None:
    with served.http() as http:
        assert code(http.post("/v1/images", json={"url": "https://example.com/a.png"})) == (403, "url_fetch_disabled")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0",
        "0x7f000001",
        "2130706433",
        "169.254.169.254",
        "10.1.2.3",
        "192.168.0.1",
        "[fd00::1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "localhost",
        "0.0.0.0",
        "100.64.0.1",
        "224.0.0.1",
    ],
)
def test_private_addresses(host: str) -> None:
    status, name = refusal(f"http://{host}/x.png")
    assert (status, name) in ((403, "url_refused"), (502, "url_failed"))
    if name == "url_failed":
        assert host in ("0", "0x7f000001", "2130706433", "[64:ff9b::7f00:1]")  # names that no resolver knows here


@pytest.mark.parametrize(
    "url",
    [
        "http://ok.example\\@127.0.0.1/",
        "http://ok@127.0.0.1/",
        "http://127.0.0.1#@ok.example/",
        "file:///etc/passwd",
        "ftp://ok.example/",
        "gopher://ok.example",
        "http:///x",
        "//x",
        "http://a b/",
    ],
)
def test_addresses_that_two_parsers_read_differently(url: str) -> None:
    assert refusal(url)[0] == 403


def test_a_name_that_changes_its_mind() -> None:
    """The address that was checked is the one that is connected to: the name is asked once."""
    asked: list[str] = []

    def resolver(host: str, _: int) -> list[str]:
        asked.append(host)
        return ["93.184.215.14"] if len(asked) > 1 else ["127.0.0.1"]

    assert refusal("http://ok.example/", resolver=resolver) == (403, "url_refused")
    assert refusal("http://ok.example/", resolver=lambda *_: ["93.184.215.14", "10.0.0.1"]) == (403, "url_refused")
    with elsewhere(b"fine") as (address, seen):
        port = httpx.URL(address).port
        calls = []

        def once(host: str, _: int) -> list[str]:
            calls.append(host)
            return ["127.0.0.1"] if len(calls) == 1 else ["192.0.2.1"]

        name = f"http://studio.test:{port}"
        assert asyncio.run(fetch_checked(f"{name}/a", 1000, {}, name, once)) == b"fine"
        assert seen[0][1]["Host"] == f"studio.test:{port}"
        assert calls == ["studio.test"]


def test_redirects_are_checked_and_keep_no_secret() -> None:
    with elsewhere(b"secret") as (inside, seen_inside):
        with elsewhere(b"", 302, {"Location": f"{inside}/x"}) as (studio, seen):
            with pytest.raises(Problem) as caught:
                asyncio.run(fetch_checked(f"{studio}/a", 1000, {"Authorization": "Token t"}, studio))
            assert caught.value.code == "url_refused"
            assert seen[0][1]["Authorization"] == "Token t"
        assert seen_inside == []
    with elsewhere(b"", 302, {"Location": "/again"}) as (studio, seen):
        with pytest.raises(Problem) as caught:
            asyncio.run(fetch_checked(f"{studio}/a", 1000, {}, studio))
        assert caught.value.code == "url_redirects"
        assert len(seen) == 4


def test_answers_of_others_are_bounded() -> None:
    def told(studio: str) -> str:
        with pytest.raises(Problem) as caught:
            asyncio.run(fetch_checked(f"{studio}/a", 1000, {}, studio))
        return caught.value.code

    with elsewhere(b"x" * 2000) as (studio, _):
        assert told(studio) == "body_too_large"
    with elsewhere(b"x" * 2000, headers={"Content-Length": "10"}) as (studio, _):
        assert len(asyncio.run(fetch_checked(f"{studio}/a", 1000, {}, studio))) == 10
    with elsewhere(b"x" * 10, headers={"Content-Length": "500"}) as (studio, _):
        assert told(studio) == "url_failed"
    with elsewhere(b"x", headers={"Content-Encoding": "gzip"}) as (studio, _):
        assert told(studio) == "url_failed"
    with elsewhere(b"", 500) as (studio, _):
        assert told(studio) == "url_failed"


def test_a_dripping_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pointcut.server.fetch.WHOLE", 0.5)
    with elsewhere(b"x" * 100, drip=0.05) as (studio, _), pytest.raises(Problem) as caught:
        asyncio.run(fetch_checked(f"{studio}/a", 1000, {}, studio))
    assert caught.value.code in ("url_slow", "url_failed")


def test_allowed_addresses_must_be_public() -> None:
    with elsewhere((PHOTOS / "cat.jpg").read_bytes()) as (address, seen):
        with pytest.raises(Problem) as caught:
            asyncio.run(fetch(f"{address}/cat.jpg", ServerConfig(urls=True)))
        assert caught.value.code == "url_refused"
        assert seen == []
    assert public("93.184.215.14")
    assert not public("::ffff:10.0.0.1")
