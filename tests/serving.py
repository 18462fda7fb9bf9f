"""A server as a process of its own, as people start it, for tests to talk to."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass
class Served:
    """A running server."""

    process: subprocess.Popen[str]
    address: str

    def http(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.address, trust_env=False, timeout=60, **options)

    @property
    def place(self) -> tuple[str, int]:
        url = httpx.URL(self.address)
        assert url.port is not None
        return url.host, url.port

    def raw(self, request: bytes, wait: float = 10.0) -> bytes:
        """What comes back for these very bytes, until the server closes or is silent."""
        with socket.create_connection(self.place, timeout=wait) as line:
            parts = []
            try:
                line.sendall(request)
                while part := line.recv(65536):
                    parts.append(part)
                    if b"\r\n\r\n" in b"".join(parts) and b"connection: close" not in request.lower():
                        break
            except (TimeoutError, ConnectionError):
                pass
            return b"".join(parts)


SCRIPT = """
import sys
from dataclasses import replace
import pointcut
from pointcut.server.app import serve
from pointcut.server.config import Limits, ServerConfig
{setup}
config = ServerConfig(port=0, {config})
serve(config, [pointcut.load("nano", device="cpu")], lambda address: print("at", address, flush=True))
"""


@contextmanager
def serving(*options: str, config: str | None = None, setup: str = "", env: dict[str, str] | None = None) -> Iterator[Served]:
    """`pointcut serve` with options; or, with `config`, the same server with these arguments of ServerConfig."""
    if config is None:
        command = [sys.executable, "-m", "pointcut", "serve", "--port", "0", *options]
    else:
        command = [sys.executable, "-c", SCRIPT.format(config=config, setup=setup)]
    environment = {**os.environ, **(env or {})}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if match := re.search(r"at (http://\S+)", line):
                yield Served(process, match[1])
                break
        else:
            raise AssertionError(f"the server did not start: {line}")
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()


def code(answer: httpx.Response) -> tuple[int, str]:
    """Status and name of a refusal."""
    return answer.status_code, answer.json()["code"]


def until(condition: Any, seconds: float = 10.0) -> bool:
    """Whether a condition comes true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False
