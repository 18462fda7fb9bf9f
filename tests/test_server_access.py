"""Who may ask, from which pages, and what anybody is told."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from pointcut.server.guard import without_port

from conftest import PHOTOS
from serving import Served, code, serving

CAT = (PHOTOS / "cat.jpg").read_bytes()


@pytest.fixture(scope="module")
def guarded() -> Iterator[Served]:
    with serving("--token", "first-secret", env={"POINTCUT_TOKEN": ""}) as server:
        yield server


PATHS = (
    "/",
    "/assets/main.js",
    "/readyz",
    "/metrics",
    "/openapi.json",
    "/v1/models",
    "/v1/images/x/picture",
    "/label-studio/health",
    "/nowhere",
)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Host": "a/?x="},
        {"Cookie": "pointcut_session=x"},
        {"Authorization": "Basic !!"},
        {"Authorization": b"Basic \xe9"},
    ],
)
def test_without_the_token(guarded: Served, headers: dict) -> None:
    with guarded.http(headers=headers) as http:
        assert http.get("/livez").status_code == 200
        for path in PATHS:
            assert http.get(path).status_code == 401, path
        assert code(http.post("/v1/images", content=CAT)) == (401, "token_needed")


def test_with_the_token(guarded: Served) -> None:
    for headers in (
        {"Authorization": "Bearer first-secret"},
        {"Authorization": httpx.BasicAuth("me", "first-secret")._auth_header},
    ):
        with guarded.http(headers=headers) as http:
            assert http.get("/v1/models").status_code == 200


def test_a_browser_s_session(guarded: Served) -> None:
    with guarded.http() as http:
        assert "Token" in http.get("/").text
        assert http.post("/login", files={"token": (None, "wrong-secret")}).status_code == 401
        answer = http.post("/login", files={"token": (None, "first-secret")})
        cookie = answer.headers["set-cookie"]
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert "HttpOnly" in cookie
        assert "samesite=strict" in cookie.lower()
        assert "first-secret" not in cookie
        assert "Point at it" in http.get("/").text
    with guarded.http(follow_redirects=True) as http:
        assert "Point at it" in http.get("/?token=first-secret").text


def test_another_owner_s_pictures() -> None:
    with serving(config='tokens=("first-secret", "other-secret")') as server:
        one, other = (server.http(headers={"Authorization": f"Bearer {token}"}) for token in ("first-secret", "other-secret"))
        handle = one.post("/v1/images", content=CAT).json()["id"]
        asked = {"points": [[220, 150]]}
        assert one.post(f"/v1/images/{handle}/segment", json=asked).status_code == 200
        assert code(other.post(f"/v1/images/{handle}/segment", json=asked)) == (404, "no_such_image")
        assert code(other.delete(f"/v1/images/{handle}")) == (404, "no_such_image")
        theirs = other.post("/v1/images", content=CAT).json()
        assert theirs["id"] != handle
        assert not theirs["cached"]


@pytest.mark.parametrize(
    "host", ["evil.test", "127.0.0.1.evil.test", "localhost@evil.test", "a/?x=", "", "localhost:80:80", "[::1]x"]
)
def test_other_names(served: Served, host: str) -> None:
    answer = served.raw(f"GET /v1/models HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    assert answer.split()[1] in (b"421", b"400")


def test_names_without_ports() -> None:
    assert [without_port(host) for host in ("localhost:7788", "[::1]:80", "[::1]", "a.b")] == [
        "localhost",
        "[::1]",
        "[::1]",
        "a.b",
    ]


@pytest.mark.parametrize("origin", ["null", "http://evil.test", "http://localhost.evil", "http://127.0.0.1:1", "https://"])
def test_pages_of_others(served: Served, origin: str) -> None:
    with served.http(headers={"Origin": origin, "Content-Type": "text/plain"}) as http:
        answer = http.post("/v1/images", content=CAT)
        assert code(answer) == (403, "wrong_origin")
        assert "access-control-allow-origin" not in answer.headers
    with served.http(headers={"Sec-Fetch-Site": "cross-site"}) as http:
        assert code(http.post("/v1/images", content=CAT)) == (403, "wrong_origin")
    with served.http(headers={"Origin": served.address.rstrip("/"), "Sec-Fetch-Site": "same-origin"}) as http:
        assert http.post("/v1/images", content=CAT).status_code in (200, 201)


# What is told


@pytest.mark.parametrize(
    "path",
    [
        "/assets/../config.py",
        "/assets/..%2fconfig.py",
        "/assets/%2e%2e/config.py",
        "/assets//etc/passwd",
        "/assets/C:\\windows\\win.ini",
        "/assets/main.js%00.css",
        "/windows/win.ini",
        "/assets/",
        "/assets/__init__.py",
    ],
)
def test_nothing_but_the_page_s_files(served: Served, path: str) -> None:
    assert served.raw(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()).split()[1] == b"404"


def test_every_answer_says_what_a_browser_may_do(served: Served) -> None:
    with served.http() as http:
        for path in ("/", "/assets/main.js", "/v1/models", "/nowhere", "/livez"):
            headers = http.get(path).headers
            assert "default-src 'none'" in headers["content-security-policy"]
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"
            assert "server" not in headers
        assert http.options("/v1/images", headers={"Access-Control-Request-Method": "POST"}).status_code == 405


def test_no_route_takes_a_path_or_loads_a_model(served: Served) -> None:
    with served.http() as http:
        assert code(http.post("/v1/images?model=/etc/passwd", content=CAT)) == (422, "unknown_model")
        assert code(http.post("/v1/images", content=b"/etc/passwd")) == (415, "unsupported_image")
        routes = http.get("/openapi.json").json()["paths"]
        parameters = {p["name"] for route in routes.values() for verb in route.values() for p in verb.get("parameters", [])}
        assert parameters == {"model", "id", "number"}


def test_what_nobody_foresaw_is_not_told() -> None:
    setup = "from pointcut.segment.session import EncodedImage\n"
    setup += "def broken(*_, **__): raise OSError('/secret/path')\nEncodedImage.segment = broken"
    with serving(config="", setup=setup) as server, server.http() as http:
        handle = http.post("/v1/images", content=CAT).json()["id"]
        answer = http.post(f"/v1/images/{handle}/segment", json={"points": [[1, 1]]})
        assert code(answer) == (500, "internal")
        assert "secret" not in answer.text
        assert http.get("/livez").status_code == 200
