"""Pictures and indexes on object storage: a server that speaks S3, on this machine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import PHOTOS, files_of


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment by which programs find a bucket `photos` with three files below `set/`, one of them broken."""
    import boto3

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with (tmp_path_factory.mktemp("storage") / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log
        )
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_DEFAULT_REGION": "us-east-1"}
    s3 = boto3.client("s3", endpoint_url=address, aws_access_key_id="x", aws_secret_access_key="y", region_name="us-east-1")
    try:
        for _ in range(120):
            assert server.poll() is None, "the storage did not start"
            with socket.socket() as line:
                if line.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.5)
        s3.create_bucket(Bucket="photos")
        for name in ("cat.jpg", "rocket.jpg"):
            s3.upload_file(str(PHOTOS / name), "photos", f"set/{name}")
        s3.put_object(Bucket="photos", Key="set/broken.jpg", Body=b"nothing")
        # the last two are LanceDB's words for the same
        yield keys | {"AWS_ENDPOINT_URL": address, "AWS_ENDPOINT": address, "AWS_ALLOW_HTTP": "true"}
    finally:
        server.terminate()
        server.wait(10)


def call(storage: dict[str, str], *arguments: object, code: int = 0) -> str:
    command = [sys.executable, "-m", "pointcut", *map(str, arguments)]
    done = subprocess.run(command, env=os.environ | storage, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout


@pytest.mark.slow
def test_pictures_in_a_bucket(storage: dict[str, str], tmp_path: Path) -> None:
    """The same files as of a folder; what is broken there is a row."""
    (tmp_path / "photos").mkdir()
    for name in ("cat.jpg", "rocket.jpg"):
        (tmp_path / "photos" / name).write_bytes((PHOTOS / name).read_bytes())
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"nothing")
    options = ["--box", "30,0,370,299", "--format", "coco,overlay", "--json"]
    there = json.loads(call(storage, "batch", "s3://photos/set/", *options, "--out", tmp_path / "there", code=3))
    call(storage, "batch", tmp_path / "photos", *options, "--out", tmp_path / "here", code=3)
    assert [one["name"] for one in there["failed"]] == ["broken.jpg"]
    assert files_of(tmp_path / "there") == files_of(tmp_path / "here")
    assert json.loads(call(storage, "batch", "s3://photos/set/", *options, "--out", tmp_path / "there", code=3))["resumed"] == 3


@pytest.mark.slow
def test_an_index_in_a_bucket(storage: dict[str, str]) -> None:
    index = ["--index", "s3://photos/library"]
    added = json.loads(call(storage, "index", "add", "s3://photos/set/", *index, "--json", code=3))
    assert added["index"]["kind"] == "lance"
    assert added["segments"] == added["index"]["segments"] > 5
    again = json.loads(call(storage, "index", "add", "s3://photos/set/", *index, "--json", code=3))
    assert (again["known"], again["segments"]) == (2, 0)
    hits = json.loads(call(storage, "index", "search", PHOTOS / "rocket.jpg", "--box", "300,60,345,365", *index, "--json"))
    assert hits[0]["image"] == "s3://photos/set/rocket.jpg"
    call(storage, "index", "remove", "--path", "s3://photos/set/cat", *index)
    call(storage, "index", "compact", *index)
    assert json.loads(call(storage, "index", "stats", *index, "--json"))["pictures"] == 1
