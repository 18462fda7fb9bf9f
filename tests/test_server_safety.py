"""How much may be asked, and how slowly: the guard, the listener, the lanes; and orderly ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from pointcut.errors import InputError
from pointcut.server.config import Limits, ServerConfig
from pointcut.server.shelter import PREFIX, YOUNG

from conftest import PHOTOS
from films import write_film
from serving import Served, code, serving, until

CAT = (PHOTOS / "cat.jpg").read_bytes()
JSON = {"Content-Type": "application/json"}

SLOW = """
import time
from pointcut.segment.session import EncodedImage
whole = EncodedImage.segment
def slow(self, points=None, *rest, **more):
    if points and points[0][0] == 7:
        time.sleep(points[0][1] / 10)
    return whole(self, points, *rest, **more)
EncodedImage.segment = slow
"""
"""A click at x = 7 takes y tenths of a second: the faults of the network are played so that they come when they are wanted."""


@pytest.fixture(scope="module")
def small() -> Iterator[Served]:
    """A server with tight limits."""
    limits = "Limits(body=1_000_000, json=200_000, receipt=2.0, compute=1.0, queue=3, frames=3)"
    with serving(config=f"limits={limits}", setup=SLOW) as server:
        yield server


@pytest.fixture(scope="module")
def handle(small: Served) -> str:
    with small.http() as http:
        return http.post("/v1/images", content=CAT).json()["id"]


@pytest.fixture(autouse=True)
def lives_on(small: Served) -> Iterator[None]:
    yield
    with small.http() as http:
        assert http.get("/readyz").status_code == 200


# Starting


def test_others_need_a_token() -> None:
    with pytest.raises(InputError, match="give a secret with --token"):
        ServerConfig(host="0.0.0.0")
    with pytest.raises(InputError, match="at least 8"):
        ServerConfig(tokens=("short",))
    assert "secret-enough" not in repr(ServerConfig(host="0.0.0.0", tokens=("secret-enough",)))
    assert ServerConfig().local
    assert ServerConfig(host="::1").local


# How much


def test_large_bodies(small: Served) -> None:
    large = b"x" * 1_100_000
    with small.http() as http:
        assert code(http.post("/v1/images", content=large)) == (413, "body_too_large")
        assert code(http.post("/v1/images", content=iter([large]))) == (413, "body_too_large")
        assert code(http.post("/v1/images", files={"file": large})) == (413, "body_too_large")
        assert code(http.post("/v1/images/x/segment", content=b" " * 300_000, headers=JSON)) == (413, "body_too_large")


def test_the_default_cap() -> None:
    assert Limits().body == 50_000_000
    with serving() as server, server.http() as http:
        before = psutil.Process(server.process.pid).memory_info().rss
        assert code(http.post("/v1/images", content=iter([b"x" * 1_000_000] * 51))) == (413, "body_too_large")
        assert psutil.Process(server.process.pid).memory_info().rss < before + 120e6


def test_a_body_of_tiny_chunks(small: Served) -> None:
    head = b"POST /v1/images HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    answer = small.raw(head + b"1\r\nx\r\n" * 50_000 + b"0\r\n\r\n")
    assert answer.split()[1] in (b"415", b"400", b"408")


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nRange: bytes=" + b"0-," * 34_000 + b"\r\nConnection: close\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"
        + b"".join(b"X-%d: y\r\n" % i for i in range(20_000))
        + b"Connection: close\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00connection: close\r\n\r\n",
    ],
    ids=["range", "headers", "path", "tls"],
)
def test_giant_heads(small: Served, request_: bytes) -> None:
    assert small.raw(request_).split()[1:2] in ([b"400"], [b"431"], [])  # an answer, or a closed line


def test_forms_of_many_parts(small: Served) -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="a%d"\r\n\r\nx\r\n'
    many = b"".join(part % i for i in range(10_000)) + b"--b--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    with small.http() as http:
        assert code(http.post("/v1/images", content=many, headers=headers)) == (422, "invalid_request")
        preamble = b"z" * 900_000 + b"\r\n--b--\r\n"
        assert http.post("/v1/images", content=preamble, headers=headers).status_code == 422
        assert http.post("/v1/images", content=b"x", headers={"Content-Type": "multipart/form-data"}).status_code == 422
        zipped = {"Content-Encoding": "gzip"}
        assert code(http.post("/v1/images", content=CAT, headers=zipped)) == (415, "encoded_body")


@pytest.mark.parametrize(
    "body",
    [
        b'{"points": [[NaN, 1]]}',
        b'{"points": [[1e999, 1]]}',
        b'{"points": [[Infinity, 1]]}',
        b'{"points": [' + b"[1,1]," * 30_000 + b"[1,1]]}",
        b'{"points": [[1]]}',
        b'{"points": [[1, 1]], "labels": [2]}',
        b'{"points": [[1, 1]], "multimask": "perhaps"}',
        b'{"boxes": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"points": [[1, 1]], "outputs": ["rle"]}',
        b'{"previous": "' + b"9" * 1000 + b'"}',
        b"\xff\xfe",
        b"",
        b"[]",
        b'"x"',
    ],
)
def test_hostile_json(small: Served, handle: str, body: bytes) -> None:
    with small.http() as http:
        answer = http.post(f"/v1/images/{handle}/segment", content=body, headers=JSON)
        assert code(answer) == (422, "invalid_request")
        assert len(answer.content) < 5000
        assert (
            http.post(f"/v1/images/{handle}/everything", content=b'{"points_per_side": 1000000000}', headers=JSON).status_code
            == 422
        )


def test_a_film_that_never_ends(small: Served, tmp_path_factory: pytest.TempPathFactory) -> None:
    film = write_film(tmp_path_factory.mktemp("film") / "a.mp4", 6).read_bytes()
    with small.http() as http:
        path = f"/v1/videos/{http.post('/v1/videos', content=film).json()['id']}"
        http.post(f"{path}/prompt", json={"frame": 0, "object": 1, "points": [[30, 48]]})
        with http.stream("POST", f"{path}/track", json={}) as answer:
            lines = [json.loads(line) for line in answer.iter_lines()]
        assert [line["type"] for line in lines] == ["frame"] * 3 + ["error"]
        assert lines[-1]["code"] == "film_too_long"
        http.delete(path)


# How slowly


def test_dawdlers_are_cut_off_while_others_are_served(small: Served) -> None:
    lines = []
    try:
        for i in range(500):
            line = socket.create_connection(small.place)
            line.sendall(
                b"POST /v1/images HTTP/1.1\r\nHost: localhost\r\n" + (b"Content-Length: 9\r\n\r\nx" if i % 2 else b"X")
            )
            lines.append(line)
        began = time.monotonic()
        with small.http() as http:
            assert http.get("/livez").status_code == 200
        assert time.monotonic() - began < 2  # the others' deadline
        time.sleep(1)
        for line in lines[::2]:
            line.sendall(b"y")  # a byte now and then buys no time
        for line in lines:
            line.settimeout(10)
            answer = line.recv(1000)
            assert answer == b"" or answer.startswith(b"HTTP/1.1 408")
    finally:
        for line in lines:
            line.close()


def test_a_slow_answer_is_given_up_and_the_next_is_not(small: Served, handle: str) -> None:
    with small.http() as http:
        assert code(http.post(f"/v1/images/{handle}/segment", json={"points": [[7, 20]]})) == (504, "deadline")
        assert until(lambda: http.post(f"/v1/images/{handle}/segment", json={"points": [[220, 150]]}).status_code == 200)


def test_a_flood_is_sent_away(small: Served, handle: str) -> None:
    def click(_: int) -> tuple[int, str | None]:
        with small.http() as http:
            answer = http.post(f"/v1/images/{handle}/segment", json={"points": [[7, 3]]})
            return answer.status_code, answer.headers.get("retry-after")

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(click, range(12)))
    assert {status for status, _ in answers} <= {200, 429, 504}
    assert (429, "1") in answers
    assert 200 in [status for status, _ in answers]


def clicks(http: httpx.Client) -> float:
    """How many the server has answered, when the last is counted."""
    time.sleep(0.2)
    return float(re.search(r'pointcut_lane_tasks_total{lane="click"} (\S+)', http.get("/metrics").text)[1])  # type: ignore[index]


def test_who_leaves_is_not_waited_for(small: Served, handle: str) -> None:
    with small.http() as http:
        assert until(lambda: http.post(f"/v1/images/{handle}/segment", json={"points": [[220, 150]]}).status_code == 200)
        before = clicks(http)
        body = json.dumps({"points": [[7, 5]]}).encode()
        head = f"POST /v1/images/{handle}/segment HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(body)}\r\n\r\n"
        lines = [socket.create_connection(small.place) for _ in range(3)]
        for line in lines:
            line.sendall(head.encode() + body)
            time.sleep(0.05)
        for line in lines[1:]:
            line.close()
        lines[0].recv(100)
        assert http.post(f"/v1/images/{handle}/segment", json={"points": [[220, 150]]}).status_code == 200
        assert clicks(http) == before + 2  # the first, and the last; those who left were not begun
        lines[0].close()


def test_an_orderly_end() -> None:
    with serving(config="limits=Limits(queue=20)", setup=SLOW) as server, server.http() as http:
        handle = http.post("/v1/images", content=CAT).json()["id"]

        def click(_: int) -> int:
            with server.http() as own:
                return own.post(f"/v1/images/{handle}/segment", json={"points": [[7, 2]]}).status_code

        with ThreadPoolExecutor(10) as pool:
            answers = [pool.submit(click, i) for i in range(10)]
            assert until(lambda: 'pointcut_lane_waiting{lane="click"} 9.0' in http.get("/metrics").text, 3)
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.2)
            assert code(http.get("/readyz")) == (503, "draining")
            refused = http.post("/v1/images", content=CAT)
            assert code(refused) == (503, "draining")
            assert refused.headers["retry-after"]
            assert http.get("/livez").status_code == 200
            assert [answer.result() for answer in answers] == [200] * 10
        http.close()
        assert server.process.wait(10) == 0


@pytest.mark.slow
def test_films_do_not_outlive_a_server(tmp_path: Path) -> None:
    """One that ends leaves no trace; what one that was killed had goes when the next starts, and nothing else does."""
    place, film = {"TMPDIR": str(tmp_path)}, write_film(tmp_path / "a.mp4", 3)
    other, link = tmp_path / f"{PREFIX}file", tmp_path / f"{PREFIX}link"
    other.write_text("somebody's")
    kept = tmp_path / "kept"
    kept.mkdir()
    link.symlink_to(kept)

    def folders() -> list[Path]:
        return [path for path in tmp_path.glob(f"{PREFIX}*") if path not in (other, link)]

    with serving(env=place) as alive:
        (first,) = folders()
        with serving(env=place) as killed, killed.http() as http:
            assert http.post("/v1/videos", content=film.read_bytes()).status_code == 201
            (second,) = set(folders()) - {first}
            assert [path.read_bytes() for path in second.glob("*/film")] == [film.read_bytes()]
        assert second.exists(), "it was killed"
        for path in (first, second):
            os.utime(path, times=(time.time() - 2 * YOUNG,) * 2)
        with serving(env=place) as third:
            assert first.exists()
            assert not second.exists()
            assert len(folders()) == 2
            third.process.send_signal(signal.SIGTERM)
            assert third.process.wait(10) == 0
        alive.process.send_signal(signal.SIGTERM)
        assert alive.process.wait(10) == 0
    assert folders() == []
    assert other.exists()
    assert link.is_symlink()
    assert kept.exists()
