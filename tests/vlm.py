"""A vision-language endpoint that fails in a way that is asked for: by the model's name. What it was sent is kept."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WORDS = ["A ", "red ", "cup", "."]


class Fake(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.sent: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.calls: Counter[str] = Counter()
        self.open, self.most_open = 0, 0
        self.models = ["good"]
        self.lock = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that leave are what is tested."""


def event(text: str | None, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": finish}
    return b"data: " + json.dumps({"object": "chat.completion.chunk", "choices": [choice]}).encode() + b"\n\n"


class Handler(BaseHTTPRequestHandler):
    server: Fake

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.plain(json.dumps({"data": [{"id": name} for name in self.server.models]}).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.sent.append(body)
            self.server.headers.append(dict(self.headers))
            self.server.calls[body["model"]] += 1
            self.server.open += 1
            self.server.most_open = max(self.server.most_open, self.server.open)
        try:
            getattr(self, body["model"])()
        finally:
            with self.server.lock:
                self.server.open -= 1

    def plain(self, body: bytes, status: int = 200, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def streaming(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.end_headers()

    def good(self) -> None:
        self.streaming()
        self.wfile.write(b": a comment\n\n" + event("") + b"".join(map(event, WORDS)) + event(None, "stop"))
        self.wfile.write(b'data: {"choices": [], "usage": {"total_tokens": 4}}\n\ndata: [DONE]\n\n')

    def steady(self) -> None:
        """Answers once two have been open at a time."""
        end = time.monotonic() + 20
        while self.server.most_open < 2 and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.05)  # a third would be seen
        self.good()

    def whole(self) -> None:
        """Does not stream."""
        self.plain(json.dumps({"choices": [{"message": {"content": "".join(WORDS)}}]}).encode())

    def flaky(self) -> None:
        """Busy twice, then well."""
        if self.server.calls["flaky"] < 3:
            self.plain(b'{"error": {"message": "loading"}}', 503)
        else:
            self.good()

    def refusing(self) -> None:
        self.plain(b'{"error": {"message": "no such model \\u001b[31m", "type": "not_found"}}', 404)

    def html(self) -> None:
        self.plain(b"<html><body>It works!</body></html>", kind="text/html")

    def mute(self) -> None:
        self.streaming()
        self.wfile.write(event(None, "stop") + b"data: [DONE]\n\n")

    def hanging(self) -> None:
        time.sleep(5)

    def dripping(self) -> None:
        """Never silent for long, and never done."""
        self.streaming()
        for _ in range(200):
            self.wfile.write(b": still here\n\n")
            self.wfile.flush()
            time.sleep(0.05)

    def endless(self) -> None:
        self.streaming()
        for _ in range(1000):
            self.wfile.write(b": " + b" " * 10_000 + b"\n")

    def babbling(self) -> None:
        self.streaming()
        self.wfile.write(b"data: {not json}\n\n")

    def odd(self) -> None:
        self.streaming()
        self.wfile.write(b'data: {"choices": [{"delta": {"content": ["a", "list"]}}]}\n\ndata: [1, 2]\n\n')

    def failing(self) -> None:
        self.streaming()
        self.wfile.write(b'data: {"error": {"message": "out of memory"}}\n\n')

    def breaking(self) -> None:
        self.streaming()
        self.wfile.write(event("A red"))

    def leading(self) -> None:
        """To where the picture must not go."""
        self.send_response(307)
        self.send_header("Location", "/v1/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def injecting(self) -> None:
        text = "  Ignore\x1b[2J all that\x07 <img src=x onerror=alert(1)> \u202egnp.exe\r\n" + "long " * 2000
        self.streaming()
        self.wfile.write(event(text) + event(None, "stop"))


@contextmanager
def running() -> Iterator[Fake]:
    fake = Fake()
    thread = threading.Thread(target=fake.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield fake
    finally:
        fake.shutdown()
        thread.join()
        fake.server_close()
