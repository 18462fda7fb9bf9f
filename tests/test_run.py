"""The whole way in one command: detect, segment, describe, index, export; stopped and gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from pointcut.cli.main import app
from pointcut.errors import InputError
from pointcut.index import Where, open_store

import vlm
from conftest import PHOTOS, files_of

SAID = "A red cup."


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def call(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["run", *map(str, arguments)])
    assert result.exit_code == code, (result.exit_code, result.output, result.exception)
    return result


@pytest.fixture
def boxes(tmp_path: Path) -> Path:
    told = [
        {"image": "cat.jpg", "boxes": [[30, 0, 370, 299], [150, 100, 250, 200]], "labels": ["cat", "face"]},
        {"image": "rocket.jpg", "boxes": [[300, 60, 345, 365]], "labels": ["rocket"]},
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(told))
    return tmp_path / "boxes.json"


def test_all_of_it(boxes: Path, tmp_path: Path) -> None:
    out, index = tmp_path / "out", tmp_path / "index"
    formats = ["--format", "cutout,coco,geojson,labelme,labelstudio,npz,png,parquet,yolo"]
    with vlm.running() as fake:
        asked = ["--describe", "--endpoint", fake.address, "--index", index, "--out", out, *formats]
        told = json.loads(call(PHOTOS, "--boxes", boxes, *asked, "--json").stdout)
        assert (told["pictures"], told["masks"], told["described"], told["undescribed"]) == (2, 3, 3, {})
        again = json.loads(call(PHOTOS, "--boxes", boxes, *asked, "--json").stdout)
        assert again["resumed"] == 2
        assert fake.calls["good"] == 3

    store = open_store(index)
    entries = store.entries()
    assert [(Path(one.image).name, one.label, one.description) for one in entries] == [
        ("cat.jpg", "cat", SAID),
        ("cat.jpg", "face", SAID),
        ("rocket.jpg", "rocket", SAID),
    ]
    assert [one.label for one in store.entries(Where(words="RED cup", path=entries[2].image))] == ["rocket"]

    for name, label in (("cat.cutouts/001.png", "cat"), ("cat.cutouts/002.png", "face"), ("rocket.cutouts/001.png", "rocket")):
        picture = Image.open(out / name)
        assert picture.mode == "RGBA"
        assert picture.text == {"label": label, "description": SAID}  # type: ignore[attr-defined]
    entry = entries[2]
    assert Image.open(out / "rocket.cutouts/001.png").size == (entry.x1 - entry.x0, entry.y1 - entry.y0)
    alpha = np.asarray(Image.open(out / "rocket.cutouts/001.png"))[..., 3]
    assert (alpha > 0).sum() == entry.area

    coco = json.loads((out / "annotations.json").read_text())
    assert {one["description"] for one in coco["annotations"]} == {SAID}
    geo = json.loads((out / "cat.geojson").read_text())
    assert [one["properties"]["description"] for one in geo["features"]] == [SAID] * 2
    assert {one["description"] for one in json.loads((out / "cat.json").read_text())["shapes"]} == {SAID}
    studio = json.loads((out / "labelstudio.json").read_text())
    assert {one["meta"]["text"][0] for task in studio for one in task["predictions"][0]["result"]} == {SAID}
    assert np.load(out / "cat.npz")["descriptions"].tolist() == [SAID] * 2
    assert json.loads(Image.open(out / "cat.labels.png").text["descriptions"]) == [SAID] * 2  # type: ignore[attr-defined]
    import pyarrow.parquet

    assert pyarrow.parquet.read_table(out / "masks.parquet")["description"].to_pylist() == [SAID] * 3
    labels = (out / "labels" / "cat.txt").read_text().splitlines()
    assert (out / "descriptions" / "cat.txt").read_text().splitlines() == [SAID] * len(labels)


def test_everything_without_descriptions(tmp_path: Path) -> None:
    index = tmp_path / "index"
    told = json.loads(call(PHOTOS / "rocket.jpg", "--index", index, "--out", tmp_path / "out", "--json").stdout)
    assert "described" not in told
    entries = open_store(index).entries()
    assert len(entries) == told["masks"] >= 3
    assert min(one.area for one in entries) >= entries[0].height * entries[0].width // 1000
    assert len(list((tmp_path / "out" / "rocket.cutouts").iterdir())) == told["masks"]


def test_descriptions_that_fail_cost_nothing_else(boxes: Path, tmp_path: Path) -> None:
    with vlm.running() as fake:
        asked = ["--ask", "Which colour?", "--endpoint", fake.address, "--vlm", "refusing", "--index", tmp_path / "index"]
        result = call(PHOTOS, "--boxes", boxes, *asked, "--out", tmp_path / "out")
    assert "0 masks described, 3 not" in result.stderr
    assert "3 masks: " in result.stderr
    assert "no such model" in result.stderr
    assert len(open_store(tmp_path / "index")) == 3
    rows = [json.loads(line) for line in (tmp_path / "out" / "pointcut.batch.jsonl").read_text().splitlines()[1:]]
    assert all("description_error" in mask and "description" not in mask for row in rows for mask in row["masks"])
    result = call(PHOTOS, "--boxes", boxes, "--describe", "--endpoint", "http://127.0.0.1:9/v1", "--out", tmp_path / "none")
    assert "nothing will be described" in result.stderr


def test_descriptions_come_later(boxes: Path, tmp_path: Path) -> None:
    """Segments that an index holds already get the descriptions of a later run."""
    index = ["--index", tmp_path / "index"]
    call(PHOTOS, "--boxes", boxes, *index, "--out", tmp_path / "first")
    assert {one.description for one in open_store(tmp_path / "index").entries()} == {""}
    with vlm.running() as fake:
        call(PHOTOS, "--boxes", boxes, *index, "--out", tmp_path / "second", "--describe", "--endpoint", fake.address)
    assert [one.description for one in open_store(tmp_path / "index").entries()] == [SAID] * 3


def test_an_index_of_another_model_is_refused_before_anything_is_done(boxes: Path, tmp_path: Path) -> None:
    open_store(tmp_path / "index", "another/model", 7)
    result = call(PHOTOS, "--boxes", boxes, "--index", tmp_path / "index", "--out", tmp_path / "out", code=1)
    assert "cannot be compared" in str(result.exception)
    assert not (tmp_path / "out" / "cat.cutouts").exists()


def test_wrong_calls(tmp_path: Path) -> None:
    call(PHOTOS, "--words-model", "x", "--out", tmp_path / "out", code=2)
    result = call(PHOTOS, "--ask", " ", "--out", tmp_path / "out", code=1)
    assert isinstance(result.exception, InputError)
    call("--out", tmp_path / "out", code=2)


@pytest.mark.slow
def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    """Killed between pictures and at any other moment: files and index are those of a run that was left alone."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(12):
        Image.open(PHOTOS / "rocket.jpg").resize((160 + i, 120)).save(photos / f"{i:02d}.png")
    rows = [f"{i:02d}.png,80,60,thing {i}" for i in range(12)]
    (photos / "table.csv").write_text("\n".join(["image,x,y,name", *rows]) + "\n")

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    command = [sys.executable, "-m", "pointcut", "run", str(photos / "table.csv"), "--index", "index", "--out", "out"]
    subprocess.run(command, check=True, capture_output=True, cwd=whole)
    for delay in (0.3, 0.8, 0.1):
        job = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=killed)
        journal = killed / "out" / "pointcut.batch.jsonl"
        until = time.monotonic() + 60
        while not journal.is_file() and job.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(delay)
        os.kill(job.pid, signal.SIGKILL)
        job.wait()
    subprocess.run(command, check=True, capture_output=True, cwd=killed)
    assert files_of(killed / "out") == files_of(whole / "out")
    entries = [open_store(folder / "index").entries() for folder in (whole, killed)]
    assert [one.id for one in entries[0]] == [one.id for one in entries[1]]
    assert len(entries[0]) == 12
