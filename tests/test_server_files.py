"""Hostile files over HTTP: every one gets the answer that it should, and the server lives on in little memory."""

from __future__ import annotations

import io
import os
import random
import socket
import time
from collections.abc import Iterator

import httpx
import numpy as np
import PIL
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import pointcut
from pointcut import rle

import hostile
from conftest import PHOTOS
from films import write_film
from serving import Served

CAT = (PHOTOS / "cat.jpg").read_bytes()


@pytest.fixture(scope="module")
def http(served: Served) -> Iterator[httpx.Client]:
    with served.http() as client:
        assert client.post("/v1/images", content=CAT).status_code == 201  # what is allocated once is allocated
        yield client


@pytest.fixture(autouse=True)
def lives_on(served: Served, http: httpx.Client) -> Iterator[None]:
    before = psutil.Process(served.process.pid).memory_info().rss
    yield
    assert http.get("/readyz").status_code == 200
    assert http.post("/v1/images", content=CAT).status_code == 200
    assert psutil.Process(served.process.pid).memory_info().rss < before + 150e6


def refused(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert "Traceback" not in answer.text
    assert "/" + "tmp" not in answer.text


@pytest.mark.parametrize(
    "data", [hostile.png(65500, 65500), hostile.bomb(), hostile.png(10_000, 10_000)], ids=["header", "bomb", "between"]
)
def test_too_many_pixels_are_not_decoded(served: Served, http: httpx.Client, data: bytes) -> None:
    process = psutil.Process(served.process.pid)
    before = process.memory_info().rss
    refused(http.post("/v1/images", content=data), 413, "image_too_large")
    assert process.memory_info().rss < before + 50e6


def test_compressed_text(http: httpx.Client) -> None:
    refused(http.post("/v1/images", content=hostile.text_bomb()), 422, "image_truncated")


@pytest.mark.parametrize("kind", hostile.STRANGERS)
def test_strangers(http: httpx.Client, kind: str) -> None:
    refused(
        http.post("/v1/images", files={"file": ("photo.png", hostile.STRANGERS[kind], "image/png")}), 415, "unsupported_image"
    )


@pytest.mark.parametrize(("kind", "frames"), [("GIF", 10_000), ("WEBP", 100), ("PNG", 100)])
def test_of_animations_the_first_frame(http: httpx.Client, kind: str, frames: int) -> None:
    data = hostile.film_of_pictures(frames, kind)
    began = time.monotonic()
    about = http.post("/v1/images", content=data).json()
    assert (about["width"], about["height"]) == (4, 4)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "data",
    [
        hostile.tiff(*hostile.SIZE, next_ifd=8),
        hostile.tiff(*hostile.SIZE, (277, 3, 1, 65535)),
        hostile.tiff(*hostile.SIZE, (258, 3, 0x7FFFFFFF, 8)),
        hostile.tiff((256, 4, 1, 0xFFFFFFFF), (257, 4, 1, 0xFFFFFFFF)),
    ],
    ids=["loop", "samples", "counts", "size"],
)
def test_broken_tiff(http: httpx.Client, data: bytes) -> None:
    answer = http.post("/v1/images", content=data)
    assert answer.status_code in (413, 415, 422)
    assert answer.json()["code"] in ("image_too_large", "unsupported_image", "image_truncated")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_cut_off_files(http: httpx.Client, kind: str, share: float) -> None:
    file = io.BytesIO()
    Image.open(io.BytesIO(CAT)).save(file, kind)
    refused(http.post("/v1/images", content=file.getvalue()[: int(share * file.tell())]), 422, "image_truncated")


def test_nothing(http: httpx.Client) -> None:
    refused(http.post("/v1/images", content=b""), 422, "image_truncated")


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (3, 300), (2, 2)])
def test_slivers(http: httpx.Client, size: tuple[int, int]) -> None:
    file = io.BytesIO()
    Image.new("RGB", size, (200, 30, 30)).save(file, "PNG")
    handle = http.post("/v1/images", content=file.getvalue()).json()["id"]
    (mask,) = http.post(f"/v1/images/{handle}/segment", json={"boxes": [0, 0, *size]}).json()["masks"]
    assert rle.decode(mask["rle"]).shape == size[::-1]


def test_corrupt_metadata_is_ignored_and_none_comes_out(http: httpx.Client) -> None:
    file = io.BytesIO()
    Image.open(io.BytesIO(CAT)).save(
        file, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + b"\xff" * 50, icc_profile=b"\0" * 200
    )
    handle = http.post("/v1/images", content=file.getvalue()).json()["id"]
    asked = {"points": [[220, 150]], "output": ["cutout"], "candidates": "best"}
    answer = http.post(f"/v1/images/{handle}/segment", json=asked).json()
    import base64

    picture = Image.open(io.BytesIO(base64.b64decode(answer["masks"][0]["cutout"])))
    assert not picture.getexif()
    assert "icc_profile" not in picture.info


def test_versions_that_are_safe() -> None:
    assert tuple(int(n) for n in PIL.__version__.split(".")[:2]) >= (12, 3)


def test_the_same_file_gets_the_same_answer(http: httpx.Client) -> None:
    broken = CAT[: len(CAT) // 2]
    answers = {http.post("/v1/images", content=broken).json()["detail"] for _ in range(100)}
    assert len(answers) == 1


def mutated(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.randint(1, 12)):
        place = rng.randrange(len(out))
        out[place : place + rng.choice((0, 1, 4))] = rng.randbytes(rng.choice((0, 1, 1, 4)))
    return bytes(out[: rng.randrange(1, len(out))]) if rng.random() < 0.2 else bytes(out)


@pytest.mark.filterwarnings("ignore")
def test_mutated_pictures_raise_typed_errors_only() -> None:
    """`POINTCUT_FUZZ` seconds of it; a few by default."""
    rng = random.Random(0)
    seeds = []
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF"):
        file = io.BytesIO()
        Image.open(io.BytesIO(CAT)).resize((40, 30)).save(file, kind)
        seeds.append(file.getvalue())
    end, tried, read = time.monotonic() + float(os.environ.get("POINTCUT_FUZZ", "8")), 0, 0
    while time.monotonic() < end:
        tried += 1
        try:
            pointcut.open_image(mutated(rng.choice(seeds), rng), max_pixels=10_000)
            read += 1
        except (pointcut.UnreadableImage, pointcut.ImageTooLarge):
            pass
    assert 0 < read < tried


@settings(max_examples=300, deadline=None)
@given(
    st.text(st.characters(min_codepoint=0, max_codepoint=200), max_size=60), st.tuples(st.integers(-5, 40), st.integers(-5, 40))
)
def test_any_run_lengths_are_a_mask_or_a_typed_error(counts: str, size: tuple[int, int]) -> None:
    try:
        mask = rle.decode({"size": list(size), "counts": counts})
    except pointcut.InputError:
        return
    assert mask.shape == size


@pytest.mark.parametrize(
    "mask",
    [
        {"size": [300, 451], "counts": "0"},
        {"size": [1_000_000_000, 1_000_000_000], "counts": "0"},
        {"size": [-1, 451], "counts": "0"},
        {"size": [300, 451], "counts": "oooooooooooooooooooooooo"},
        {"size": [300, 451], "counts": "\u20ac"},
        {"size": [451, 300], "counts": rle.encode(np.zeros((451, 300), bool))["counts"]},
        {"size": [300, 451], "counts": rle.encode(np.zeros((300, 451), bool))["counts"]},
    ],
)
def test_hostile_run_lengths(http: httpx.Client, mask: dict) -> None:
    handle = http.post("/v1/images", content=CAT).json()["id"]
    answer = http.post(f"/v1/images/{handle}/segment", json={"mask": mask})
    assert answer.status_code == 422
    assert answer.json()["code"] in ("invalid_request", "invalid_prompt", "invalid_input")


@pytest.mark.parametrize("kind", hostile.PLAYLISTS)
def test_playlists_are_not_films(http: httpx.Client, kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as canary:
        text = hostile.PLAYLISTS[kind].format(canary="{}:{}".format(*canary.getsockname()))
        refused(http.post("/v1/videos", content=text.encode(), headers={"Content-Type": "video/mp4"}), 422, "invalid_input")
        canary.settimeout(0.2)
        with pytest.raises(TimeoutError):
            canary.accept()


def test_broken_films(http: httpx.Client, tmp_path_factory: pytest.TempPathFactory) -> None:
    film = write_film(tmp_path_factory.mktemp("film") / "a.mp4", 6).read_bytes()
    for data in (b"", film[:40], film[:600], b"\0\0\0\x18ftypmp42" + b"\xff" * 500, b"\x1a\x45\xdf\xa3" + b"\xff" * 500):
        answer = http.post("/v1/videos", content=data)
        refused(answer, 422, "invalid_input")
        assert "the film" in answer.json()["detail"]
