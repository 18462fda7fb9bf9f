"""The server over real HTTP: what it answers, and that it is the library's answer."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
from base64 import b64decode, b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import httpx
import numpy as np
import pytest
from PIL import Image

import pointcut
from pointcut import rle
from pointcut.nets.sam2 import NANO, Sam2
from pointcut.server.problems import CODES

from conftest import PHOTOS, ROOT
from films import truth, write_film
from serving import Served, serving

CAT = PHOTOS / "cat.jpg"
SERVER = ROOT / "src" / "pointcut" / "server"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving("--precision", "exact") as server:
        yield server


@pytest.fixture(scope="module")
def http(served: Served) -> Iterator[httpx.Client]:
    with served.http() as client:
        yield client


@pytest.fixture(scope="module")
def handle(http: httpx.Client) -> str:
    answer = http.post("/v1/images", content=CAT.read_bytes())
    assert answer.status_code == 201
    about = answer.json()
    assert (about["width"], about["height"], about["model"], about["cached"]) == (451, 300, "nano", False)
    assert set(about["seconds"]) == {"decode", "encode"}
    return about["id"]


def problem(answer: httpx.Response, status: int, code: str) -> dict:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert (told["status"], told["code"], told["type"]) == (status, code, f"urn:pointcut:{code}")
    assert told["request_id"] == answer.headers["x-request-id"]
    return told


def test_the_answer_is_the_library_s(http: httpx.Client, handle: str, cat: pointcut.EncodedImage) -> None:
    told = http.post(f"/v1/images/{handle}/segment", json={"points": [[220, 150]]}).json()
    cut = cat.segment(points=[(220, 150)])
    assert [mask["rle"] for mask in told["masks"]] == cut.rle()
    assert told["best"] == cut.best_rows.tolist()
    for row, mask in enumerate(told["masks"]):
        assert {name: mask[name] for name in ("score", "stability", "area", "box_xyxy")} == cut.figures(row)


def test_holes_and_specks(http: httpx.Client, handle: str) -> None:
    mask = np.zeros((300, 451), bool)
    mask[50:150, 50:150] = True
    mask[100:105, 100:105] = False
    mask[200:203, 200:203] = True
    told = http.post(f"/v1/images/{handle}/clean", json={"mask": rle.encode(mask)}).json()
    assert (told["area"], told["box_xyxy"]) == (10_000, [50, 50, 150, 150])
    assert rle.decode(told["rle"])[100:105, 100:105].all()
    told = http.post(f"/v1/images/{handle}/clean", json={"mask": rle.encode(mask), "min_region": 10}).json()
    assert told["area"] == 10_000 - 25, "the hole is larger than that, the island is not"
    small = {"mask": {"size": [4, 4], "counts": rle.encode(np.ones((4, 4), bool))["counts"]}}
    assert "size [300, 451]" in problem(http.post(f"/v1/images/{handle}/clean", json=small), 422, "invalid_prompt")["detail"]
    for said in ({}, {"mask": rle.encode(mask), "min_region": 0}, {"mask": rle.encode(mask), "least": 3}):
        assert http.post(f"/v1/images/{handle}/clean", json=said).status_code == 422
    broken = {"mask": {"size": [300, 451], "counts": "\u00ff" * 9}}
    assert http.post(f"/v1/images/{handle}/clean", json=broken).status_code == 422


def test_looking_closer(http: httpx.Client, handle: str, cat: pointcut.EncodedImage) -> None:
    prompt = {"points": [[[220, 150]], [[30, 30]]], "zoom": True}
    told = http.post(f"/v1/images/{handle}/segment", json=prompt).json()
    closer = cat.zoom_in(cat.segment(points=prompt["points"]))
    assert [mask["rle"] for mask in told["masks"]] == closer.rle()
    assert told["best"] == [0, 1]
    more = {"points": [[220, 150], [30, 30]], "labels": [1, 0], "previous": f"{told['result']}/0"}
    again = http.post(f"/v1/images/{handle}/segment", json=more).json()
    assert [mask["rle"] for mask in again["masks"]] == cat.segment(more["points"], more["labels"], previous=closer[0]).rle()
    problem(http.post(f"/v1/images/{handle}/segment", json=prompt | {"output": ["preview"]}), 422, "invalid_prompt")


def test_refining_an_answer(http: httpx.Client, handle: str, cat: pointcut.EncodedImage) -> None:
    first = http.post(f"/v1/images/{handle}/segment", json={"points": [[220, 150]]}).json()
    prompt = {"points": [[220, 150], [30, 30]], "labels": [1, 0]}
    cut = cat.segment(points=[(220, 150)])
    again = http.post(f"/v1/images/{handle}/segment", json={**prompt, "previous": first["result"]}).json()
    assert [mask["rle"] for mask in again["masks"]] == cat.segment(**prompt, previous=cut).rle()
    row = http.post(f"/v1/images/{handle}/segment", json={**prompt, "previous": f"{first['result']}/1"}).json()
    assert [mask["rle"] for mask in row["masks"]] == cat.segment(**prompt, previous=cut[1]).rle()
    problem(http.post(f"/v1/images/{handle}/segment", json={**prompt, "previous": "999"}), 410, "previous_gone")
    problem(
        http.post(f"/v1/images/{handle}/segment", json={**prompt, "previous": f"{first['result']}/9"}), 422, "invalid_prompt"
    )


def test_many_objects_and_outputs(http: httpx.Client, handle: str, cat: pointcut.EncodedImage) -> None:
    boxes = [[150, 60, 330, 260], [0, 0, 100, 100]]
    asked = {"boxes": boxes, "output": ["rle", "png", "cutout", "polygons"], "candidates": "best"}
    told = http.post(f"/v1/images/{handle}/segment", json=asked).json()
    cut = cat.segment(boxes=boxes)
    for row, mask in enumerate(told["masks"]):
        expected = cut.mask(row)
        np.testing.assert_array_equal(rle.decode(mask["rle"]), expected)
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(b64decode(mask["png"])))) > 0, expected)
        x0, y0, x1, y1 = (int(v) for v in mask["box_xyxy"])
        cutout = np.asarray(Image.open(io.BytesIO(b64decode(mask["cutout"]))))
        np.testing.assert_array_equal(cutout[..., 3] > 0, expected[y0:y1, x0:x1])
        assert all(len(part["outline"]) >= 3 for part in mask["polygons"])
    rough = http.post(f"/v1/images/{handle}/segment", json={"mask": told["masks"][0]["rle"]}).json()
    assert [m["rle"] for m in rough["masks"]] == cat.segment(mask=cut.mask(0)).rle()


def test_preview(http: httpx.Client, handle: str, cat: pointcut.EncodedImage) -> None:
    told = http.post(f"/v1/images/{handle}/segment", json={"points": [[220, 150]], "output": ["preview"]}).json()
    seen = cat.preview(points=[(220, 150)])
    np.testing.assert_array_equal(rle.decode(told["preview"]["rle"]), seen.mask)
    problem(
        http.post(f"/v1/images/{handle}/segment", json={"boxes": [1, 1, 9, 9], "output": ["preview", "rle"]}),
        422,
        "invalid_prompt",
    )


def test_everything_is_a_stream(http: httpx.Client, handle: str, cat: pointcut.EncodedImage) -> None:
    with http.stream("POST", f"/v1/images/{handle}/everything", json={"points_per_side": 4}) as answer:
        lines = [json.loads(line) for line in answer.iter_lines()]
    assert [line["type"] for line in lines[:-1]] == ["progress"] * (len(lines) - 1)
    assert lines[-2]["done"] == lines[-2]["total"] == 16
    config = pointcut.AutomaticConfig(4, pred_iou_thresh=0.5, stability_score_thresh=0.7, stability_score_offset=0.5)
    assert [mask["rle"] for mask in lines[-1]["masks"]] == cat.segment_everything(config).rle()


def test_ways_to_send_a_picture(http: httpx.Client, handle: str) -> None:
    data = CAT.read_bytes()
    form = http.post("/v1/images", files={"file": ("../../etc/passwd\u202e" + "x" * 4000, data)})
    encoded = http.post("/v1/images", json={"image": b64encode(data).decode()})
    for answer in (form, encoded):
        assert answer.status_code == 200
        assert answer.json() == {**answer.json(), "id": handle, "cached": True}
    prompt = {"points": [[220, 150]], "candidates": "best"}
    shots = [
        http.post("/v1/segment", files={"file": data}, data={"prompt": json.dumps(prompt)}),
        http.post("/v1/segment", json={"image": b64encode(data).decode(), **prompt}),
        http.post(f"/v1/images/{handle}/segment", json=prompt),
    ]
    masks = [shot.json()["masks"] for shot in shots]
    assert masks[0] == masks[1] == masks[2]
    problem(http.post("/v1/images", files={"a": data, "b": data}), 422, "invalid_request")
    for text in ("not base64!", "kein Bild: ä€"):
        problem(http.post("/v1/images", json={"image": text}), 422, "invalid_request")
    problem(http.post("/v1/images?model=sam-vit-h", content=data), 422, "unknown_model")


def test_the_picture_comes_back_upright(http: httpx.Client) -> None:
    image = Image.new("RGB", (40, 20), (200, 30, 30))
    image.paste((20, 200, 30), (0, 0, 10, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    image.save(file, "JPEG", exif=exif)
    about = http.post("/v1/images", content=file.getvalue()).json()
    assert (about["width"], about["height"]) == (20, 40)
    picture = Image.open(io.BytesIO(http.get(f"/v1/images/{about['id']}/picture").content))
    assert picture.size == (20, 40)
    assert picture.getpixel((10, 3))[1] > 150  # type: ignore[index]
    assert not picture.getexif()


def test_forgetting(http: httpx.Client) -> None:
    handle = http.post("/v1/images", content=(PHOTOS / "rocket.jpg").read_bytes()).json()["id"]
    assert http.delete(f"/v1/images/{handle}").status_code == 204
    problem(http.post(f"/v1/images/{handle}/segment", json={"points": [[1, 1]]}), 410, "image_gone")
    problem(http.post(f"/v1/images/{'0' * 32}-{'0' * 16}/segment", json={"points": [[1, 1]]}), 404, "no_such_image")
    assert http.post("/v1/images", content=(PHOTOS / "rocket.jpg").read_bytes()).json()["id"] == handle


def test_about_itself(http: httpx.Client, handle: str) -> None:
    assert handle
    assert http.get("/livez").json() == {"status": "ok"}
    assert http.get("/readyz").json()["models"] == ["nano"]
    (model,) = http.get("/v1/models").json()["models"]
    assert (model["name"], model["family"], model["video"], model["encoding"]) == ("nano", "SAM 2", True, "float32")
    assert model["parameters"] == sum(p.numel() for p in Sam2(NANO).parameters()), "packed layers count"
    assert http.post(f"/v1/images/{handle}/segment", json={"points": [[220, 150]]}).status_code == 200
    figures = http.get("/metrics").text
    assert 'pointcut_requests_total{method="POST",route="/v1/images",status="201"}' in figures
    assert 'pointcut_lane_tasks_total{lane="click"}' in figures
    spec = http.get("/openapi.json").json()
    assert {
        "/v1/images",
        "/v1/images/{id}/segment",
        "/v1/images/{id}/everything",
        "/v1/segment",
        "/v1/videos/{id}/track",
    } <= set(spec["paths"])
    assert spec["components"]["schemas"]["SegmentRequest"]["examples"]
    assert http.get("/livez", headers={"X-Request-ID": "mine-1"}).headers["x-request-id"] == "mine-1"


def test_a_film(http: httpx.Client, tmp_path: Path) -> None:
    film = http.post("/v1/videos", content=write_film(tmp_path / "ball.mp4", 6).read_bytes())
    assert film.status_code == 201
    about = film.json()
    assert (about["width"], about["height"], about["frames"], about["rate"]) == (128, 96, 6, 10)
    path = f"/v1/videos/{about['id']}"
    frame = np.asarray(Image.open(io.BytesIO(http.get(f"{path}/frames/3").content)))
    assert frame.shape == (96, 128, 3)
    assert frame[48, 33, 0] > 180
    problem(http.get(f"{path}/frames/99"), 404, "no_such_frame")
    problem(http.post(f"{path}/track", json={}), 422, "invalid_input")
    problem(http.post(f"{path}/render", json={}), 422, "nothing_tracked")
    told = http.post(f"{path}/prompt", json={"frame": 0, "object": 7, "mask": rle.encode(truth(0))}).json()
    assert told["frame"] == 0
    with http.stream("POST", f"{path}/track", json={}) as answer:
        lines = [json.loads(line) for line in answer.iter_lines()]
    assert [line["type"] for line in lines] == ["frame"] * 6 + ["done"]
    tracker = pointcut.load("nano", device="cpu").track(tmp_path / "ball.mp4")
    tracker.prompt(0, 7, mask=truth(0))
    for line, expected in zip(lines, tracker.run(), strict=False):
        assert line["objects"][0]["id"] == 7
        assert line["objects"][0]["rle"] == expected.segments.rle()[0]
    assert http.get(path).json()["tracked"] == [0, 1, 2, 3, 4, 5]
    dataset = http.post(f"{path}/render", json={"format": "coco"}).json()
    assert len(dataset["annotations"]) == 6
    assert http.post(f"{path}/render", json={"format": "overlay.mp4"}).content[4:8] == b"ftyp"
    assert http.delete(f"{path}/objects/7").status_code == 204
    problem(http.delete(f"{path}/objects/7"), 422, "invalid_input")
    assert http.delete(path).status_code == 204
    problem(http.get(path), 404, "no_such_video")


def test_a_film_is_followed_by_one_request_at_a_time(http: httpx.Client, tmp_path: Path) -> None:
    film = http.post("/v1/videos", content=write_film(tmp_path / "ball.mp4", 8).read_bytes()).json()
    path = f"/v1/videos/{film['id']}"
    http.post(f"{path}/prompt", json={"frame": 0, "object": 7, "mask": rle.encode(truth(0))}).raise_for_status()
    together = Barrier(4)

    def follow(_: int) -> tuple[str, int]:
        together.wait()
        last = json.loads(http.post(f"{path}/track", json={}).text.splitlines()[-1])
        return (last["type"], last["frames"]) if last["type"] == "done" else (last["code"], last["status"])

    with ThreadPoolExecutor(4) as pool:
        ends = sorted(pool.map(follow, range(4)))
    assert ends == [("done", 8), *[("tracking", 409)] * 3]
    assert http.delete(path).status_code == 204


def test_client_has_the_library_s_verbs(served: Served, cat: pointcut.EncodedImage, tmp_path: Path) -> None:
    with pointcut.Client(served.address) as client:
        photo = client.encode(CAT)
        assert client.models()["default"] == photo.model == "nano"
        cut = photo.segment(points=[(220, 150)])
        here = cat.segment(points=[(220, 150)])
        np.testing.assert_array_equal(cut.masks, here.masks)
        np.testing.assert_array_equal(cut.best_rows, here.best_rows)
        prompt = {"points": np.array([(220, 150), (30, 30)]), "labels": np.array([1, 0])}
        refined = photo.segment(**prompt, previous=cut)
        np.testing.assert_array_equal(refined.masks, cat.segment(**prompt, previous=here).masks)
        np.testing.assert_array_equal(photo.preview(points=[(220, 150)]).mask, cat.preview(points=[(220, 150)]).mask)
        assert refined.best.save(tmp_path / "cut.png").is_file()
        closer = cat.zoom_in(cat.segment(**prompt, previous=here))
        np.testing.assert_array_equal(photo.zoom_in(refined).masks, closer.masks)
        done: list[tuple[int, int]] = []
        found = photo.segment_everything({"points_per_side": 3}, lambda *figures: done.append(figures))
        assert done[-1] == (9, 9)
        assert len(found.prompts) == len(found)
        with pytest.raises(pointcut.InvalidPrompt, match="only an answer"):
            photo.zoom_in(found)
        photo.delete()  # as if it had made room for others: what follows brings it back, the refined answer as well
        np.testing.assert_array_equal(photo.segment(**prompt, previous=cut).masks, refined.masks)
        photo.delete()
        assert len(photo.segment_everything({"points_per_side": 3})) == len(found)
        array = client.encode(cat.image).segment(boxes=(150, 60, 330, 260))
        np.testing.assert_array_equal(array.masks, cat.segment(boxes=(150, 60, 330, 260)).masks)
        with pytest.raises(pointcut.InvalidPrompt, match="outside the picture"):
            photo.segment(points=[(9999, 1)])
        with pytest.raises(pointcut.InvalidPrompt, match="not as logits"):
            photo.segment(mask=np.zeros((256, 256), np.float32))


def test_client_follows_a_film(served: Served, tmp_path: Path) -> None:
    with pointcut.Client(served.address) as client:
        tracker = client.track(write_film(tmp_path / "ball.mp4", 4))
        tracker.prompt(0, 1, mask=truth(0))
        tracker.prompt(1, 2, boxes=(10, 20, 60, 80))
        rows = list(tracker.run(end=3))
        assert [row["frame"] for row in rows] == [0, 1, 2]
        tracker.remove(2)
        assert tracker.render(tmp_path / "rows.jsonl", "json").stat().st_size > 0
        tracker.reset()
        tracker.close()
        with pytest.raises(pointcut.ServerError, match="no film is open"):
            list(tracker.run())


def test_client_without_a_server() -> None:
    with (
        pointcut.Client("http://127.0.0.1:9") as client,
        pytest.raises(pointcut.ServerError, match="is `pointcut serve` running"),
    ):
        client.models()


def test_the_manual_s_code_runs(served: Served, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "server.md").read_text()
    code, _ = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert "http://127.0.0.1:7788" in code
    shutil.copytree(PHOTOS.parent, tmp_path / "examples")
    command = [sys.executable, "-c", code.replace("http://127.0.0.1:7788", served.address)]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert (tmp_path / "head.png").is_file()


def test_the_manual_names_every_route_and_code(http: httpx.Client) -> None:
    text = (ROOT / "docs" / "server.md").read_text()
    for path, verbs in http.get("/openapi.json").json()["paths"].items():
        for verb in verbs:
            short = path.split("{id}")[-1].split("{number}")[0].rstrip("/") or path
            assert short in text, f"{verb} {path}"
    codes = set(re.findall(r'Problem\(\s*\d+, "(\w+)"', "".join(p.read_text() for p in SERVER.glob("*.py"))))
    codes |= {code for _, _, code in CODES}
    unexplained = codes - set(re.findall(r"`(\w+)`", text))
    assert unexplained == set()
