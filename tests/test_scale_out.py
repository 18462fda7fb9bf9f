"""Several servers behind a proxy, and the files that say how: nginx runs, the Dockerfile is linted."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np
import pytest

import pointcut

from conftest import PHOTOS, ROOT
from films import truth, write_film
from serving import Served, serving, until


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as line:
        return line.getsockname()[1]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[tuple[str, list[Served]]]:
    """The example's nginx in front of two servers."""
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        assert not os.environ.get("CI"), "CI must have nginx (apt-get install nginx-light)"
        pytest.skip("nginx is not installed (apt-get install nginx-light)")
    with ExitStack() as stack:
        servers = [stack.enter_context(serving()) for _ in range(2)]
        port = free_port()
        text = (ROOT / "examples" / "serving" / "nginx.conf").read_text()
        for example, real in (("7800", port), ("7801", servers[0].place[1]), ("7802", servers[1].place[1])):
            assert f"127.0.0.1:{example};" in text
            text = text.replace(f"127.0.0.1:{example};", f"127.0.0.1:{real};")
        (tmp_path / "nginx.conf").write_text(text)
        (tmp_path / "logs").mkdir()
        user = " user root;" if os.geteuid() == 0 else ""  # the test's folder is its user's
        command = [nginx, "-p", str(tmp_path), "-c", "nginx.conf", "-g", f"daemon off;{user}"]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        stack.callback(process.wait)
        stack.callback(process.terminate)

        def listens() -> bool:
            with socket.socket() as line:
                return line.connect_ex(("127.0.0.1", port)) == 0

        assert until(listens)
        yield f"http://127.0.0.1:{port}", servers


def encoded(server: Served) -> int:
    with server.http() as http:
        lines = http.get("/metrics").text.splitlines()
    return int(sum(float(line.split()[1]) for line in lines if line.startswith('pointcut_lane_tasks_total{lane="encode"}')))


@pytest.mark.slow
def test_a_picture_s_requests_meet_the_server_that_has_it(fleet: tuple[str, list[Served]], tmp_path: Path) -> None:
    address, servers = fleet
    cat = pointcut.open_image(PHOTOS / "cat.jpg")
    with pointcut.Client(address) as client:
        photos = [client.encode(np.roll(cat, shift, axis=1)) for shift in range(0, 160, 10)]
        assert sum(map(encoded, servers)) == 16
        assert all(map(encoded, servers)), "both were given some"
        for photo in photos:
            for point in ((220, 150), (60, 240)):
                assert len(photo.segment(points=[point])) == 3
        assert sum(map(encoded, servers)) == 16, "nothing was encoded twice"
        tracker = client.track(write_film(tmp_path / "ball.mp4", 4))
        tracker.prompt(0, 1, mask=truth(0))
        assert len(list(tracker.run())) == 4
        servers[0].process.kill()
        servers[0].process.wait()
        for photo in photos:  # those of the server that is gone are encoded by the other
            assert len(photo.segment(points=[(220, 150)])) == 3
        assert encoded(servers[1]) >= 16


def test_the_dockerfile_is_linted() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    text = (ROOT / "Dockerfile").read_text()
    assert "\nUSER 10001\n" in text
    for line in text.splitlines():  # what is copied is there
        if line.startswith("COPY ") and "--from" not in line:
            assert all((ROOT / source).exists() for source in line.split()[1:-1]), line


@pytest.mark.slow
def test_a_server_that_others_reach_needs_a_token() -> None:
    command = [sys.executable, "-m", "pointcut", "serve", "--host", "0.0.0.0", "--port", "0"]
    environment = {name: value for name, value in os.environ.items() if name != "POINTCUT_TOKEN"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=60)
    assert done.returncode == 2
    assert "give a secret" in done.stderr
    with serving("--host", "0.0.0.0", env={"POINTCUT_TOKEN": "a-long-secret"}) as server:
        address = f"http://127.0.0.1:{httpx.URL(server.address).port}"
        assert httpx.get(f"{address}/v1/models").status_code == 401
        assert httpx.get(f"{address}/v1/models", headers={"Authorization": "Bearer a-long-secret"}).status_code == 200


def test_an_address_that_cannot_be_had() -> None:
    with socket.create_server(("127.0.0.1", 0)) as line:
        port = str(line.getsockname()[1])
        for options in (("--port", port), ("--host", "203.0.113.7", "--token", "a-long-secret")):
            command = [sys.executable, "-m", "pointcut", "serve", *options]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
            assert done.returncode == 2
            assert "cannot be listened at" in done.stderr
