"""What annotation tools ask: Label Studio's machine-learning backend, and CVAT's interactor, with their recorded requests."""

from __future__ import annotations

import importlib.util
import io
import json
import threading
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import pointcut
from pointcut.server.brush import brush_rle

from conftest import PHOTOS
from serving import serving

CAT = (PHOTOS / "cat.jpg").read_bytes()
W, H = 451, 300

CONFIG = (
    '<View><Image name="image" value="$image"/><BrushLabels name="tag" toName="image"><Label value="Banana"/>'
    '<Label value="Cat"/></BrushLabels><KeyPointLabels name="tag2" toName="image" smart="true"><Label value="Banana"/>'
    '</KeyPointLabels><RectangleLabels name="tag3" toName="image" smart="true"><Label value="Banana"/></RectangleLabels></View>'
)


def keypoint(x: float, y: float, label: str = "Cat", **more: object) -> dict:
    """As Label Studio records it."""
    return {
        "id": "fBWv1t0S2L", "type": "keypointlabels", "from_name": "tag2", "to_name": "image", "origin": "manual",
        "original_width": W, "original_height": H, "image_rotation": 0,
        "value": {"x": 100 * x / W, "y": 100 * y / H, "width": 0.319, "labels": [label], "keypointlabels": [label]}, **more,
    }  # fmt: skip


def rectangle(x0: float, y0: float, x1: float, y1: float) -> dict:
    value = {"x": 100 * x0 / W, "y": 100 * y0 / H, "width": 100 * (x1 - x0) / W, "height": 100 * (y1 - y0) / H}
    return {
        "type": "rectanglelabels", "original_width": W, "original_height": H, "value": {**value, "rectanglelabels": ["Banana"]},
    }  # fmt: skip


def predict(regions: list[dict] | None, image: str | None = None, config: str = CONFIG) -> dict:
    image = image or "data:image/jpeg;base64," + b64encode(CAT).decode()
    context = None if regions is None else {"result": regions}
    params = {"login": None, "password": None, "context": context}
    return {"tasks": [{"id": 1, "data": {"image": image}}], "project": "7.1700000000", "label_config": config, "params": params}


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with serving("--precision", "exact") as server, server.http() as client:
        yield client


@pytest.fixture(scope="module")
def converter() -> ModuleType:
    """Label Studio's own reader of brush strokes: one file of its SDK, which is installed without what the rest of it needs."""
    spec = importlib.util.find_spec("label_studio_sdk")
    assert spec is not None, "pip install --no-deps label-studio-sdk (make test does)"
    assert spec.submodule_search_locations
    path = Path(spec.submodule_search_locations[0]) / "converter" / "brush.py"
    found = importlib.util.spec_from_file_location("brush", path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def read_back(converter: ModuleType, rle: list[int], shape: tuple[int, int]) -> np.ndarray:
    return converter.decode_rle(rle).reshape(*shape, 4)[:, :, 3] > 0


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.integers(0, 9))
def test_brush_strokes_are_read_by_label_studio_s_own_code(
    converter: ModuleType, h: int, w: int, share: float, seed: int
) -> None:
    mask = np.random.default_rng(seed).random((h, w)) < share
    np.testing.assert_array_equal(read_back(converter, brush_rle(mask), mask.shape), mask)


def test_long_brush_strokes(converter: ModuleType) -> None:
    mask = np.zeros((700, 900), bool)  # 2.5 million values: runs that 16 bits do not hold
    mask[100:600, 50:800] = True
    np.testing.assert_array_equal(read_back(converter, brush_rle(mask), mask.shape), mask)
    assert brush_rle(np.zeros((1, 2), bool))[:4] == [0, 0, 0, 8]


def test_handshake(http: httpx.Client) -> None:
    for path in ("/label-studio/", "/label-studio/health"):
        assert http.get(path).json() == {"status": "UP", "model_class": "SegmenterBackend"}
    assert http.get("/label-studio/metrics").json() == {}
    assert http.get("/label-studio/versions").json() == {"versions": ["nano"]}
    said = {
        "project": "7.17",
        "schema": CONFIG,
        "hostname": "http://ls:8080",
        "access_token": "LS-SECRET",
        "extra_params": None,
    }
    assert http.post("/label-studio/setup", json=said).json() == {"model_version": "nano"}
    event = {"action": "ANNOTATION_CREATED", "project": {"id": 7, "label_config": CONFIG}}
    assert http.post("/label-studio/webhook", json=event).status_code == 201
    assert http.post("/label-studio/webhook", json={"action": "SOMETHING"}).json() == {"status": "Unknown event"}


def test_predict(http: httpx.Client, converter: ModuleType, cat: pointcut.EncodedImage) -> None:
    regions = [keypoint(220, 150), keypoint(30, 20, is_positive=False), rectangle(150, 60, 330, 260)]
    (answer,) = http.post("/label-studio/predict", json=predict(regions)).json()["results"]
    (region,) = answer["result"]
    expected = cat.segment(points=[(220, 150), (30, 20)], labels=[1, 0], boxes=(150, 60, 330, 260)).best
    got = read_back(converter, region["value"]["rle"], (H, W))
    both = (got & expected.mask(0)).sum() / (got | expected.mask(0)).sum()
    assert both > 0.999  # percent and back moves a click by a millionth of a pixel
    assert region["type"] == "brushlabels"
    assert (region["from_name"], region["to_name"]) == ("tag", "image")
    assert (region["original_width"], region["original_height"], region["image_rotation"]) == (W, H, 0)
    assert region["value"]["brushlabels"] == ["Banana"]  # of the last thing that was drawn
    assert region["value"]["format"] == "rle"
    assert answer["score"] == region["score"] == pytest.approx(float(expected.scores[0]), abs=1e-3)
    assert answer["model_version"] == "nano"


def test_predict_for_bitmasks_and_2026_clicks(http: httpx.Client, cat: pointcut.EncodedImage) -> None:
    config = CONFIG.replace("BrushLabels", "BitmaskLabels")
    click = keypoint(220, 150)
    click["value"]["positive"] = True
    (answer,) = http.post("/label-studio/predict", json=predict([click], config=config)).json()["results"]
    (region,) = answer["result"]
    assert region["type"] == "bitmask"
    assert region["value"]["bitmasklabels"] == ["Cat"]
    picture = Image.open(io.BytesIO(b64decode(region["value"]["imageDataURL"].partition(",")[2])))
    expected = cat.segment(points=[(220, 150)]).best.mask(0)
    assert ((np.asarray(picture) > 0) == expected).mean() > 0.999


def test_predict_without_clicks(http: httpx.Client) -> None:
    for regions in (None, []):
        assert http.post("/label-studio/predict", json=predict(regions)).json() == {"results": []}


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({"tasks": [], "params": {"context": {"result": [{}]}}}, 422),
        (predict([keypoint(1, 1)], config="<View>"), 422),
        (predict([keypoint(1, 1)], config='<!DOCTYPE x [<!ENTITY a "b">]><View>&a;</View>'), 422),
        (predict([keypoint(1, 1)], config='<View><Image name="image" value="$image"/></View>'), 422),
        (predict([{"type": "keypointlabels", "value": {"x": "a", "y": 1}}]), 422),
        (predict([keypoint(-9, 1)]), 422),
        (predict([keypoint(1, 1)], image="/data/upload/7/x.jpg"), 403),
        (predict([keypoint(1, 1)], image="http://169.254.169.254/latest"), 403),
        (predict([keypoint(1, 1)], image="s3://bucket/x.jpg"), 403),
        ([], 422),
    ],
)
def test_what_label_studio_does_not_send(http: httpx.Client, said: object, status: int) -> None:
    answer = http.post("/label-studio/predict", json=said)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


@contextmanager
def studio() -> Iterator[tuple[str, list]]:
    """A Label Studio that gives its pictures to who has the key."""
    seen: list = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append((self.path, self.headers.get("Authorization")))
            allowed = self.headers.get("Authorization") == "Token the-key"
            self.send_response(200 if allowed else 401)
            self.end_headers()
            self.wfile.write(CAT if allowed else b"")

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()


def test_pictures_of_the_named_label_studio_only() -> None:
    with studio() as (address, seen), studio() as (other, seen_other):
        environment = {"POINTCUT_LABEL_STUDIO_KEY": "the-key"}
        with serving("--label-studio", address, env=environment) as server, server.http() as http:
            for image in ("/data/upload/7/cat.jpg", f"{address}/data/upload/7/cat.jpg"):
                answer = http.post("/label-studio/predict", json=predict([keypoint(220, 150)], image=image))
                assert answer.json()["results"][0]["result"], answer.text
            assert seen == [("/data/upload/7/cat.jpg", "Token the-key")] * 2
            refused = http.post("/label-studio/predict", json=predict([keypoint(220, 150)], image=f"{other}/x.jpg"))
            assert refused.json()["code"] == "url_fetch_disabled"
            assert seen_other == []


@pytest.mark.parametrize("box", [None, [], [[150, 60], [330, 260]], [[330, 260], [150, 60]]])
def test_cvat_interactor(http: httpx.Client, cat: pointcut.EncodedImage, box: list | None) -> None:
    said = {
        "image": b64encode(CAT).decode(),
        "pos_points": [[220, 150]],
        "neg_points": [[30, 20]],
        "obj_bbox": box,
        "threshold": 0.5,
    }
    mask = np.array(http.post("/cvat/interactor", json=said).json()["mask"])
    boxes = (150, 60, 330, 260) if box else None
    np.testing.assert_array_equal(mask, cat.segment(points=[(220, 150), (30, 20)], labels=[1, 0], boxes=boxes).best.mask(0))


def test_cvat_s_function_hands_its_event_on(http: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Nuclio function of examples/cvat, called as Nuclio calls it."""
    path = Path(__file__).parents[1] / "examples" / "cvat" / "main.py"
    spec = importlib.util.spec_from_file_location("cvat_main", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setenv("POINTCUT_URL", str(http.base_url))
    spec.loader.exec_module(module)

    class Event:
        body = json.dumps(
            {"image": b64encode(CAT).decode(), "pos_points": [[220, 150]], "neg_points": [], "obj_bbox": None}
        ).encode()

    class Context:
        @staticmethod
        def Response(**parts: object) -> dict:
            return parts

    answer = module.handler(Context, Event)
    assert answer["status_code"] == 200
    assert np.array(json.loads(answer["body"])["mask"]).shape == (H, W)
