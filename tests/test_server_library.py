"""The server with a library and a vision-language model: over HTTP, and on the page in a real browser."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect
from typer.testing import CliRunner

import pointcut
from pointcut.cli.main import app
from pointcut.errors import InputError, InvalidPrompt, ServerError
from pointcut.index import Where
from test_page import browser  # noqa: F401  # a fixture

import vlm
from conftest import PHOTOS, ROOT
from serving import Served, serving

SAID = "A red cup."
BOXES = [
    {"image": "cat.jpg", "boxes": [[30, 0, 370, 299], [150, 100, 250, 200]], "labels": ["cat", "face"]},
    {"image": "rocket.jpg", "boxes": [[300, 60, 345, 365]], "labels": ["<img src=x onerror=alert(1)>"]},
    {"image": "coffee.jpg", "boxes": [[100, 50, 400, 350]], "labels": ["cup"]},
]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library")
    shutil.copytree(PHOTOS, folder / "photos")
    (folder / "boxes.json").write_text(json.dumps(BOXES))
    arguments = ["index", "add", folder / "photos", "--boxes", folder / "boxes.json", "--index", folder / "index"]
    assert CliRunner().invoke(app, list(map(str, arguments))).exit_code == 0
    return folder / "index"


@pytest.fixture(scope="module")
def fake() -> Iterator[vlm.Fake]:
    with vlm.running() as server:
        yield server


@pytest.fixture(scope="module")
def served(index: Path, fake: vlm.Fake, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    cache = {"XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}
    options = ["--precision", "exact", "--index", str(index), "--endpoint", fake.address, "--vlm", "good"]
    with serving(*options, env=cache) as server:
        yield server


@pytest.fixture
def http(served: Served) -> Iterator[httpx.Client]:
    with served.http() as client:
        yield client


@pytest.fixture
def handle(http: httpx.Client) -> str:
    return http.post("/v1/images", content=(PHOTOS / "cat.jpg").read_bytes()).json()["id"]


def search(http: httpx.Client, status: int = 200, **asked: object) -> list[dict] | dict:
    answer = http.post("/v1/index/search", json=asked)
    assert answer.status_code == status, answer.text
    return answer.json()["hits"] if status == 200 else answer.json()


def test_searching(http: httpx.Client, handle: str, cat: pointcut.EncodedImage) -> None:
    about = http.get("/v1/index").json()
    assert (about["segments"], about["pictures"], about["model"], about["text"]) == (4, 3, "nano", False)
    mask = cat.segment(boxes=(30, 0, 370, 299)).best.rle()[0]
    hits = search(http, image=handle, mask=mask)
    assert (hits[0]["image"], hits[0]["label"], len(hits)) == ("cat.jpg", "cat", 4)
    assert hits[0]["similarity"] == pytest.approx(1, abs=1e-3)
    assert hits[0]["rle"] == mask
    assert [hit["id"] for hit in search(http, entry=hits[0]["id"])] == [hit["id"] for hit in hits]
    assert [hit["id"] for hit in search(http, entry=hits[0]["id"], skip=1, count=2)] == [hit["id"] for hit in hits[1:3]]
    assert len(search(http, image=handle)) == 4
    assert [hit["label"] for hit in search(http, words="CUP")] == ["cup"]
    assert search(http, entry=hits[0]["id"], min_area=10**9) == []
    picture = http.get(hits[0]["thumbnail"])
    assert picture.headers["content-type"] == "image/jpeg"
    assert picture.content[:2] == b"\xff\xd8"
    assert all("/" not in hit["image"] for hit in hits), "where pictures lie on the server is not told"


def test_wrong_searches(http: httpx.Client, handle: str) -> None:
    assert search(http, 422, text="a cat")["detail"].startswith("this index is of nano")
    assert search(http, 422, entry="0" * 32)["code"] == "invalid_input"
    assert search(http, 422, entry="' OR 1=1")["code"] == "invalid_request"
    assert search(http, 422, entry="0" * 32, image=handle)["code"] == "invalid_request"
    assert search(http, 422, mask={"size": [1, 1], "counts": "1"})["code"] == "invalid_request"
    assert search(http, 422, image=handle, mask={"size": [1, 1], "counts": "1"})["code"] == "invalid_prompt"
    assert search(http, 404, image="nobody")["code"] == "no_such_image"
    assert search(http, 422, count=101)["code"] == "invalid_request"
    assert http.get(f"/v1/index/{'0' * 32}/thumbnail").status_code == 404
    assert http.get("/v1/index/..%2f..%2fetc/thumbnail").status_code in (404, 422)


def test_the_client(served: Served, fake: vlm.Fake, cat: pointcut.EncodedImage) -> None:
    mask = cat.segment(boxes=(30, 0, 370, 299)).best.masks[0]
    with pointcut.Client(served.address) as client:
        assert client.index()["segments"] == 4
        photo = client.encode(PHOTOS / "cat.jpg")
        photo.delete()  # whatever the server forgot is sent again
        hits = photo.search(mask, count=2)
        assert (hits[0]["label"], len(hits)) == ("cat", 2)
        assert client.search(entry=hits[0]["id"], where=Where(label="cup"))[0]["image"] == "coffee.jpg"
        assert [hit["label"] for hit in client.search(where=Where(words="CUP"))] == ["cup"]
        assert client.thumbnail(hits[0])[:2] == b"\xff\xd8"
        photo.delete()
        heard: list[str] = []
        assert photo.describe(mask, ask="Who is it?", background="outline", heard=heard.append) == SAID == "".join(heard)
        assert fake.sent[-1]["messages"][0]["content"][1]["text"].startswith("Who is it?")
        with pytest.raises(InputError, match="this index is of nano"):
            client.search("a cat")
        with pytest.raises(InvalidPrompt, match="the mask is empty"):
            photo.describe(mask & False)
        with pytest.raises(ServerError, match="path"):
            client.search(where=Where(path="/etc"))


def test_the_manual_s_code_runs(served: Served, tmp_path: Path) -> None:
    _, code = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "server.md").read_text(), re.DOTALL)
    assert "http://127.0.0.1:7788" in code
    shutil.copytree(PHOTOS.parent, tmp_path / "examples")
    command = [sys.executable, "-c", code.replace("http://127.0.0.1:7788", served.address)]
    said = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert "".join(said.splitlines()) == SAID


def told(http: httpx.Client, handle: str, **asked: object) -> list[dict]:
    answer = http.post(f"/v1/images/{handle}/describe", json=asked)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def test_describing(http: httpx.Client, handle: str, fake: vlm.Fake, cat: pointcut.EncodedImage) -> None:
    mask = cat.segment(boxes=(30, 0, 370, 299)).best.rle()[0]
    before = len(fake.sent)
    lines = told(http, handle, mask=mask, ask="Which animal?", background="remove")
    assert [line["text"] for line in lines if line["type"] == "piece"] == ["A", " red", " cup", "."]
    assert lines[-1] == {"type": "result", "description": SAID, "model": "good"}
    content = fake.sent[before]["messages"][0]["content"]
    assert content[1]["text"].startswith("Which animal?")
    assert base64.b64decode(content[0]["image_url"]["url"].partition(",")[2])[:2] == b"\xff\xd8"
    assert told(http, handle, mask=mask, ask="Which animal?", background="remove")[-1]["description"] == SAID
    assert len(fake.sent) == before + 1, "it is remembered"
    empty = {
        "size": mask["size"],
        "counts": pointcut.rle.encode(cat.segment(boxes=(30, 0, 370, 299)).masks[0] & False)["counts"],
    }
    assert told(http, handle, mask=empty)[-1]["code"] == "invalid_prompt"
    assert http.post("/v1/images/x/describe", json={"mask": mask}).status_code == 404
    assert http.post(f"/v1/images/{handle}/describe", json={"mask": mask, "ask": ""}).status_code == 422


def test_a_model_that_fails_says_nothing_of_itself(fake: vlm.Fake, cat: pointcut.EncodedImage) -> None:
    mask = cat.segment(boxes=(30, 0, 370, 299)).best.rle()[0]
    with serving("--endpoint", fake.address, "--vlm", "refusing") as server, server.http() as http:
        handle = http.post("/v1/images", content=(PHOTOS / "cat.jpg").read_bytes()).json()["id"]
        line = told(http, handle, mask=mask, ask="Why?")[-1]
        assert (line["type"], line["status"], line["code"]) == ("error", 502, "no_description")
        assert str(fake.server_port) not in json.dumps(line)
        assert http.get("/v1/index").json()["code"] == "no_index"
        assert http.get("/v1/models").json()["index"] is None
    with serving() as server, server.http() as http:
        handle = http.post("/v1/images", content=(PHOTOS / "cat.jpg").read_bytes()).json()["id"]
        assert http.post(f"/v1/images/{handle}/describe", json={"mask": mask}).json()["code"] == "no_describer"
        assert not http.get("/v1/models").json()["describe"]


@pytest.mark.slow
def test_an_index_of_another_model(index: Path, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="there is no index"), serving("--index", str(tmp_path)):
        pass
    with pytest.raises(AssertionError, match="cannot be compared"), serving(config=f"index={str(index)!r}", setup=SMALL):
        pass


SMALL = "load = pointcut.load\npointcut.load = lambda name, device: load(name, device=device, side=256)"


@pytest.fixture
def page(browser: Browser, served: Served) -> Iterator[Page]:  # noqa: F811
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    one = context.new_page()
    said: list[str] = []
    one.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    one.on("pageerror", lambda error: said.append(str(error)))
    one.on("dialog", lambda dialog: said.append(f"a dialog: {dialog.message}"))
    one.goto(served.address)
    yield one
    assert said == []
    context.close()


def test_the_page(page: Page, tmp_path: Path) -> None:
    """Click, ask what it is, find what is like it, find by words; names of a library are text, whatever they look like."""
    page.get_by_role("button", name="Try: A cat", exact=True).click()
    over = page.locator("#over")
    expect(page.locator("#busy")).to_be_hidden()
    expect(page.locator("#about-block")).to_be_hidden()
    box = over.bounding_box()
    assert box
    over.click(position={"x": box["width"] / 2, "y": box["height"] / 2})
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(page.locator("#said")).to_have_text(SAID)
    page.get_by_role("button", name="Find similar").click()
    hits = page.locator("#hits li")
    expect(hits).to_have_count(4)
    for picture in hits.locator("img").all():
        expect(picture).to_have_js_property("complete", True)
        assert picture.evaluate("one => one.naturalWidth") > 30
    expect(page.locator("#hits")).to_contain_text("<img src=x")
    page.get_by_label("Find in the library by words").fill("cup")
    page.get_by_label("Find in the library by words").press("Enter")
    expect(hits).to_have_count(1)
    expect(hits).to_have_text(re.compile("1.00 cup"))
    page.get_by_label("Find in the library by words").fill("nothing like it")
    page.get_by_label("Find in the library by words").press("Enter")
    expect(hits).to_have_text("Nothing was found.")
    with page.expect_download() as download:
        page.get_by_role("button", name="COCO").click()
    download.value.save_as(tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text())["annotations"][0]["description"] == SAID
    page.get_by_role("button", name="New object").click()
    expect(page.locator("#about-block")).to_be_hidden()
    page.get_by_role("button", name="Select object 1").click()
    expect(page.locator("#said")).to_have_text(SAID)
    over.click(position={"x": box["width"] / 2 + 20, "y": box["height"] / 2})
    expect(page.locator("#said")).to_be_hidden()  # what was said was said of another mask
