"""Downloads through `huggingface_hub`, from a real HTTP server on this machine that answers as the Hub does."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pointcut.weights.load import CONFIGS

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub(ThreadingHTTPServer):
    """Serves one repository's `model.safetensors`, honestly or not."""

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.announced = hashlib.sha256(content).hexdigest()
        self.size = len(content)
        self.cut_after: int | None = None
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: FakeHub

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        if not self.path.startswith("/owner/model/resolve/") or not self.path.endswith("/model.safetensors"):
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound" if "/owner/" not in self.path else "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("X-Linked-Etag", f'"{self.server.announced}"')
        self.send_header("X-Linked-Size", str(self.server.size))
        self.send_header("ETag", f'"{self.server.announced}"')
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(self.server.size - start))
        self.end_headers()
        if body:
            self.wfile.write(self.server.content[start : self.server.cut_after])
            if self.server.cut_after is not None:
                self.connection.close()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("hub") / "nano.safetensors"
    torch.manual_seed(0)
    save_file({k: v.half() if v.is_floating_point() else v for k, v in CONFIGS["nano"].build().state_dict().items()}, path)
    return path.read_bytes()


@pytest.fixture
def hub(weights: bytes) -> Iterator[FakeHub]:
    server = FakeHub(weights)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def run(home: Path, hub: FakeHub, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    environment |= {"HF_HOME": str(home), "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "*"} | more
    command = [sys.executable, "-m", "pointcut", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)


def leftovers(home: Path) -> list[Path]:
    return [p for p in (home / "pointcut").rglob("*") if p.is_file() and not p.name.startswith("model.safetensors")]


def test_pull_use_and_verify(hub: FakeHub, tmp_path: Path) -> None:
    done = run(tmp_path, hub, "models", "pull", "owner/model")
    assert done.returncode == 0, done.stderr
    place = tmp_path / "pointcut" / "owner--model" / "main" / "model.safetensors"
    assert Path(done.stdout.strip()) == place
    assert place.read_bytes() == hub.content
    assert leftovers(tmp_path) == []
    asked = len(hub.requests)
    code = "import pointcut; m = pointcut.load('owner/model', device='cpu'); print(m.name)"
    loaded = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
    )
    assert loaded.stdout.strip() == "nano"
    assert len(hub.requests) == asked  # nothing more was fetched
    assert run(tmp_path, hub, "models", "verify", "owner/model").stdout.startswith("owner/model: ok")
    place.write_bytes(hub.content[:-1] + b"?")
    damaged = run(tmp_path, hub, "models", "verify", "owner/model")
    assert (damaged.returncode, "is damaged" in damaged.stderr) == (1, True)
    assert run(tmp_path, hub, "models", "pull", "owner/model", "--force").returncode == 0
    assert place.read_bytes() == hub.content


def test_what_killed_downloads_left_is_swept(hub: FakeHub, tmp_path: Path) -> None:
    folder = tmp_path / "pointcut" / "owner--model" / "main"
    for name, age in ((".incoming-old", 2 * 24 * 3600), (".incoming-young", 60)):
        (folder / name).mkdir(parents=True)
        (folder / name / "model.safetensors.incomplete").write_bytes(b"half")
        os.utime(folder / name, (time.time() - age, time.time() - age))
    assert run(tmp_path, hub, "models", "pull", "owner/model").returncode == 0
    assert not (folder / ".incoming-old").exists()
    assert (folder / ".incoming-young").exists()


def test_revisions(hub: FakeHub, tmp_path: Path) -> None:
    done = run(tmp_path, hub, "models", "pull", f"owner/model@{COMMIT}")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "pointcut" / "owner--model" / COMMIT / "model.safetensors").is_file()
    assert any(COMMIT in request for request in hub.requests)


def test_a_wrong_digest_is_never_put_in_place(hub: FakeHub, tmp_path: Path) -> None:
    hub.announced = "ab" * 32
    done = run(tmp_path, hub, "models", "pull", "owner/model")
    assert done.returncode == 2
    assert "SHA-256" in done.stderr
    assert not list((tmp_path / "pointcut").rglob("model.safetensors"))
    assert leftovers(tmp_path) == []


def test_a_cut_connection_restarts_cleanly(hub: FakeHub, tmp_path: Path) -> None:
    hub.cut_after = 5000
    done = run(tmp_path, hub, "models", "pull", "owner/model", HF_HUB_DOWNLOAD_TIMEOUT="3")
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "pointcut").rglob("model.safetensors"))
    assert leftovers(tmp_path) == []
    hub.cut_after = None
    assert run(tmp_path, hub, "models", "pull", "owner/model").returncode == 0


def test_a_missing_repository(hub: FakeHub, tmp_path: Path) -> None:
    done = run(tmp_path, hub, "models", "pull", "nobody/nothing")
    assert done.returncode == 2
    assert "the Hub has no model.safetensors in nobody/nothing@main" in done.stderr


def test_no_hub_at_all(hub: FakeHub, tmp_path: Path) -> None:
    hub.shutdown()
    hub.server_close()
    done = run(tmp_path, hub, "models", "pull", "sam2.1-tiny", HF_HUB_ETAG_TIMEOUT="2")
    assert done.returncode == 2
    assert "https://dl.fbaipublicfiles.com/segment_anything_2/092824/sam2.1_hiera_tiny.pt" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_hubs_own_cache_is_used(weights: bytes, tmp_path: Path) -> None:
    """What `huggingface-cli download` or transformers fetched is not fetched again."""
    repository = tmp_path / "hub" / "models--owner--model"
    blob = repository / "blobs" / hashlib.sha256(weights).hexdigest()
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    blob.parent.mkdir()
    blob.write_bytes(weights)
    (snapshot / "model.safetensors").symlink_to(blob)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-m", "pointcut", "models", "verify", "owner/model"],
        capture_output=True,
        text=True,
        check=False,
        env=environment | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
    )
    assert done.stdout.startswith("owner/model: ok"), done.stderr


def test_nothing_is_fetched_for_the_built_in_model(tmp_path: Path) -> None:
    """With every connection forbidden, the built-in model answers."""
    code = """
import json, socket
def refuse(*a, **k): raise SystemExit("a connection was tried")
socket.socket.connect = socket.create_connection = refuse
import numpy as np, pointcut
cut = pointcut.load("nano", device="cpu").encode(np.zeros((40, 60, 3), np.uint8)).segment(points=[(20, 20)])
print(json.dumps(list(cut.masks.shape)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
    )
    assert json.loads(done.stdout) == [3, 40, 60], done.stderr
