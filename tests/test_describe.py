"""Segments to words: what is sent, what comes back, and everything that an endpoint may do instead."""

from __future__ import annotations

import base64
import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import pointcut
from pointcut.cli.main import app
from pointcut.describe import Describer, Describing, Endpoint, Look
from pointcut.describe import describer as module
from pointcut.errors import InputError, ServerError

import vlm
from conftest import PHOTOS, SHARED

SAID = "A red cup."


@pytest.fixture
def fake() -> Iterator[vlm.Fake]:
    with vlm.running() as server:
        yield server


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No waiting between tries; answers are remembered in a folder of the test."""
    real = time.sleep
    monkeypatch.setattr(module.time, "sleep", lambda seconds: real(min(seconds, 0.01)))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("POINTCUT_VLM", "POINTCUT_VLM_MODEL", "POINTCUT_VLM_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def cut() -> pointcut.Segments:
    """Three rectangles on a grey picture, each of a colour."""
    image = np.full((300, 400, 3), 128, np.uint8)
    masks = np.zeros((3, 300, 400), bool)
    for row, (x, colour) in enumerate([(30, (200, 0, 0)), (150, (0, 200, 0)), (270, (0, 0, 200))]):
        masks[row, 100:200, x : x + 100] = True
        image[masks[row]] = colour
    return pointcut.Segments.of_masks(image, masks)


def describer(fake: vlm.Fake, model: str, **options: object) -> Describer:
    return Describer(Endpoint(fake.address, model, silence=0.3, deadline=0.6), **options)  # type: ignore[arg-type]


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), (1, 2, 3)).save(buffer, format="JPEG")
    return buffer.getvalue()


def test_what_is_sent(fake: vlm.Fake, cut: pointcut.Segments) -> None:
    """A close-up as a data address and the question; no name that some servers do not know; the secret as a bearer token."""
    with Describer(Endpoint(fake.address, key="sesame"), Look("What colour?")) as asked:
        assert [one.text for one in asked.each(cut)] == [SAID] * 3
    assert len(fake.sent) == 3
    assert fake.headers[0]["Authorization"] == "Bearer sesame"
    sent = fake.sent[0]
    assert set(sent) == {"model", "messages", "max_tokens", "temperature", "seed", "stream"}
    assert sent["model"] == "good", "the only one that it has"
    image, text = sent["messages"][0]["content"]
    assert text["text"].startswith("What colour?")
    head, _, data = image["image_url"]["url"].partition(",")
    assert head == "data:image/jpeg;base64"
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert shown.shape == (224, 224, 3), "enlarged to what models are made for, a quarter of the box around it"
    middle = [np.asarray(Image.open(io.BytesIO(base64.b64decode(_url(body)))))[112, 112] for body in fake.sent]
    assert sorted(int(np.argmax(colour)) for colour in middle) == [0, 1, 2]


def _url(body: dict) -> str:
    return body["messages"][0]["content"][0]["image_url"]["url"].partition(",")[2]


@pytest.mark.parametrize(("background", "beside"), [("dim", 84), ("remove", 255), ("outline", 128)])
def test_backgrounds(cut: pointcut.Segments, background: str, beside: int) -> None:
    look = Look(background=background, context=0.5)  # type: ignore[arg-type]
    shown = np.asarray(Image.open(io.BytesIO(next(look.pictures(cut)))).convert("RGB")).astype(int)
    height, width = shown.shape[:2]
    assert abs(shown[5, width // 2] - beside).max() < 12
    assert shown[height // 2, width // 2, 0] > 180, "the object stays as it is"
    edge = shown[height // 2, : width // 2]
    red = (edge[:, 0] > 200) & (edge[:, 2] > 30) & (edge[:, 2] < 90) & (edge[:, 1] < 60)
    assert (background == "outline") == red.any()


@pytest.mark.parametrize("model", ["good", "whole", "flaky"])
def test_it_answers(fake: vlm.Fake, model: str) -> None:
    with describer(fake, model) as asked:
        assert asked.describe(picture()).text == SAID
    assert fake.calls[model] == (3 if model == "flaky" else 1)


@pytest.mark.parametrize(
    ("model", "says", "tries"),
    [
        ("refusing", "404: no such model", 1),
        ("html", "talks no JSON: '<html><body>It works!", 3),
        ("mute", "said nothing", 1),
        ("hanging", "no answer from", 3),
        ("dripping", "no whole answer within 0.6 seconds", 3),
        ("endless", "longer than 1 MB", 3),
        ("babbling", "talks no JSON", 3),
        ("odd", "the endpoint failed", 3),
        ("failing", "out of memory", 3),
        ("breaking", "broke off", 1),
        ("leading", "answered 307", 1),
    ],
)
def test_it_fails(fake: vlm.Fake, model: str, says: str, tries: int) -> None:
    """Each way to fail costs that description: a sentence without control characters, after as many tries as make sense."""
    with describer(fake, model) as asked:
        told = asked.describe(picture())
    assert not told.text
    assert says in told.error
    assert "\x1b" not in told.error
    assert fake.calls[model] == tries
    assert told.told() == {"description_error": told.error}


def test_words_are_data(fake: vlm.Fake) -> None:
    with describer(fake, "injecting") as asked:
        text = asked.describe(picture()).text
    assert text.startswith("Ignore[2J all that <img src=x onerror=alert(1)> gnp.exe\nlong long")
    assert len(text) <= module.LONGEST


def test_pieces_come_as_they_are_said(fake: vlm.Fake) -> None:
    with describer(fake, "good") as asked:
        assert list(asked.stream(picture())) == ["A", " red", " cup", "."]


def test_an_endpoint_that_is_down_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with Describer(Endpoint(f"http://127.0.0.1:{port}/v1", "m"), retries=1) as asked:
        errors = [asked.describe(picture()).error for _ in range(6)]
        assert "is it running there?" in errors[0]
        assert "was not reached 5 times in a row" in errors[-1]
        monkeypatch.setattr(module, "REST", 0.0)
        asked._heard(reached=False)
        assert "is it running there?" in asked.describe(picture()).error, "asked again after a while"


def test_a_model_that_cannot_be_looked_up_is_not_asked_for_each_segment() -> None:
    with Describer(Endpoint("http://127.0.0.1:9/v1"), retries=0) as asked:
        errors = [asked.describe(picture()).error for _ in range(7)]
    assert "is it running there?" in errors[0]
    assert "times in a row" in errors[-1]


def test_a_few_at_once(fake: vlm.Fake, cut: pointcut.Segments) -> None:
    with Describer(Endpoint(fake.address, "steady"), concurrency=2) as asked:
        texts = [one.text for one in asked.each(cut[[0, 1, 2, 0, 1, 2]])]
    assert texts == [SAID] * 6
    assert fake.most_open == 2


def test_answers_are_remembered(fake: vlm.Fake, cut: pointcut.Segments, tmp_path: Path) -> None:
    for look, calls in ((Look(), 3), (Look(), 3), (Look("Why?"), 6), (Look("Why?", "remove"), 9)):
        with Describer(Endpoint(fake.address, "good"), look, cache=tmp_path) as asked:
            assert [one.text for one in asked.each(cut)] == [SAID] * 3
        assert fake.calls["good"] == calls
    for path in tmp_path.rglob("*.json"):
        path.write_text("{]")
    with Describer(Endpoint(fake.address, "good"), cache=tmp_path) as asked:
        assert next(asked.each(cut)).text == SAID
    (tmp_path / "file").write_text("in the way")
    with Describer(Endpoint(fake.address, "good"), cache=tmp_path / "file") as asked:
        assert asked.describe(picture()).text == SAID, "a cache that cannot be written costs no answer"


def test_which_model(fake: vlm.Fake) -> None:
    fake.models = ["one", "two"]
    with describer(fake, "") as asked, pytest.raises(InputError, match=r"--vlm \(it has one, two\)"):
        _ = asked.model
    fake.models = []
    with describer(fake, "") as asked, pytest.raises(InputError, match="does not list any"):
        _ = asked.model


def test_wrong_values(cut: pointcut.Segments) -> None:
    for wrong in ({"ask": " "}, {"background": "blue"}, {"context": -1}, {"side": 3}):
        with pytest.raises(InputError):
            Look(**wrong)  # type: ignore[arg-type]
    for address in ("file:///etc/passwd", "127.0.0.1:80", "http://"):
        with pytest.raises(InputError, match="an endpoint is an address"):
            Endpoint(address)
    assert list(Look().pictures(cut[[]])) == []
    assert "sesame" not in repr(Endpoint(key="sesame"))
    assert "KEY" not in str(vars(Describing()))


# The command


def call(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == code, (result.exit_code, result.output, result.exception)
    return result


def test_the_command(fake: vlm.Fake, tmp_path: Path) -> None:
    cat, rocket = PHOTOS / "cat.jpg", PHOTOS / "rocket.jpg"
    asked = ["--endpoint", fake.address]
    assert call("describe", cat, "--point", "220,150", *asked).stdout == f"{SAID}\n"
    boxes = ["--box", "30,0,370,299", "--box", "150,100,250,200"]
    lines = call("describe", cat, *boxes, *asked).stdout.splitlines()
    assert [line.partition("  ")[2] for line in lines] == [SAID, SAID]
    out = tmp_path / "out"
    result = call("describe", cat, rocket, tmp_path / "none.jpg", *boxes, *asked, "--out", out, "--json", code=1)
    told = json.loads(result.stdout)
    assert [one.get("error") for one in told["images"]] == [None, None, "UnreadableImage"]
    assert told["images"][0]["vlm"] == "good"
    assert [mask["description"] for mask in told["images"][0]["masks"]] == [SAID, SAID]
    coco = json.loads((out / "annotations.json").read_text())
    assert [one["description"] for one in coco["annotations"]] == [SAID] * 4
    for single in (["--point", "220,150"], boxes):
        result = call("describe", cat, *single, *asked, "--vlm", "refusing", code=1)
        assert "no such model" in result.stderr
    assert "broke off" in call("describe", cat, "--point", "220,150", *asked, "--vlm", "breaking", code=1).stderr
    call("describe", cat, "--not", "3,3", *asked, code=2)


def test_an_endpoint_that_is_not_there() -> None:
    result = CliRunner().invoke(app, ["describe", str(PHOTOS / "cat.jpg"), "--endpoint", "http://127.0.0.1:9/v1"])
    assert isinstance(result.exception, ServerError)
    assert "is it running there?" in str(result.exception)


# A real server of a real model


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """(address, model) of `transformers serve` with a vision-language model of 56,000 random weights."""
    recipe = SHARED / "reference" / "tiny_vlm.py"
    if not recipe.is_file():
        assert not os.environ.get("CI"), f"CI must have {recipe}"
        pytest.skip(f"{recipe} is not here (set POINTCUT_SHARED)")
    folder = tmp_path_factory.mktemp("vlm")
    model, hub = folder / "model", folder / "hub"
    hub.mkdir()
    subprocess.run([sys.executable, str(recipe), str(model)], check=True, capture_output=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(hub), "OMP_NUM_THREADS": "1"}
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(model)]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--device", "cpu", "--host", "127.0.0.1", "--port", str(port)], env=environment, stdout=log, stderr=log
        )
        try:
            for _ in range(240):
                assert server.poll() is None, (folder / "log").read_text()[-2000:]
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.5)
            yield f"http://127.0.0.1:{port}/v1", str(model)
        finally:
            server.terminate()
            server.wait(20)


@pytest.mark.slow
def test_a_real_server(served: tuple[str, str], cut: pointcut.Segments) -> None:
    """Random weights say random letters: what is seen here is that the picture arrives, and that words come back."""
    address, model = served
    with Describer(Endpoint(address, model, max_tokens=8)) as asked:
        told = list(asked.each(cut))
        assert all(one.text and not one.error for one in told)
        assert asked.describe(b"no picture").error.startswith(f"{address} answered ")
    with Describer(Endpoint(address, "another")) as asked:
        assert "answered 400" in asked.describe(next(Look().pictures(cut))).error


@pytest.mark.slow
def test_the_command_with_a_real_server(served: tuple[str, str]) -> None:
    address, model = served
    result = call("describe", PHOTOS / "cat.jpg", "--point", "220,150", "--endpoint", address, "--vlm", model, "--json")
    mask = json.loads(result.stdout)["images"][0]["masks"][0]
    assert mask["description"]
    assert mask["area"] > 1000
