"""Many pictures: what is taken, what comes out, and that a run can be killed anywhere."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from typer.testing import CliRunner

import pointcut
from pointcut.batch.inputs import Pointed, tasks_in, with_boxes
from pointcut.batch.journal import NAME, Journal
from pointcut.batch.run import run_batch
from pointcut.batch.work import BatchJob
from pointcut.cli.main import app
from pointcut.components import without_small_parts

from conftest import PHOTOS, files_of

BOX = Pointed(boxes=((10.0, 10.0, 50.0, 40.0),), names=("thing",))


def call(*arguments: object, code: int = 0, stdin: str | None = None) -> str:
    result = CliRunner().invoke(app, ["batch", *map(str, arguments)], input=stdin)
    assert result.exit_code == code, (result.exit_code, result.output, result.exception)
    return result.stdout


@pytest.fixture(scope="session")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve small pictures in two folders; two of them are broken."""
    folder = tmp_path_factory.mktemp("album")
    rng = np.random.default_rng(0)
    for i in range(12):
        place = folder / ("a" if i % 2 else "b") / f"{i:02d}.png"
        place.parent.mkdir(exist_ok=True)
        pixels = rng.integers(0, 60, (60, 80, 3), dtype=np.uint8)
        pixels[10:40, 10 + i : 50 + i] += 150
        Image.fromarray(pixels).save(place)
    (folder / "a" / "03.png").write_bytes(b"no picture")
    (folder / "b" / "06.png").write_bytes((folder / "b" / "08.png").read_bytes()[:200])
    return folder


def test_a_folder(album: Path, tmp_path: Path, nano: pointcut.Segmenter) -> None:
    report = json.loads(
        call(album, "--box", "10,10,50,40", "--out", tmp_path, "--format", "coco,png,overlay,parquet", "--json", code=3)
    )
    assert (report["pictures"], report["resumed"], report["masks"]) == (12, 0, 10)
    assert [one["name"] for one in report["failed"]] == ["a/03.png", "b/06.png"]
    assert [one["error"] for one in report["failed"]] == ["UnsupportedImage", "BrokenImage"]
    assert set(report["work_seconds"]) == {"read", "encode", "segment", "write"}
    assert report["pictures_per_second"] > 0
    dataset = json.loads((tmp_path / "annotations.json").read_text())
    names = [image["file_name"] for image in dataset["images"]]
    assert names == sorted(names)
    assert len(names) == 10
    for image, annotation in zip(dataset["images"], dataset["annotations"], strict=True):
        cut = nano.encode(album / image["file_name"]).segment(boxes=(10, 10, 50, 40))
        mask = coco_mask.decode(annotation["segmentation"]).astype(bool)
        assert (mask == cut.mask(0)).mean() > 0.999  # a core instead of two: a pixel on the border may differ
        assert annotation["category_id"] == 1
    table = pyarrow.parquet.read_table(tmp_path / "masks.parquet").to_pylist()
    assert [row["image"] for row in table] == names
    assert [row["counts"] for row in table] == [a["segmentation"]["counts"] for a in dataset["annotations"]]
    assert (tmp_path / "a" / "01.labels.png").is_file()
    assert (tmp_path / "b" / "00.overlay.png").is_file()
    again = json.loads(
        call(album, "--box", "10,10,50,40", "--out", tmp_path, "--format", "coco,png,overlay,parquet", "--json", code=3)
    )
    assert again["resumed"] == 12
    assert again["work_seconds"] == {}
    assert (tmp_path / "annotations.json").read_text() == json.dumps(dataset) + "\n"


def test_everything_in_pictures(tmp_path: Path, cat: pointcut.EncodedImage) -> None:
    said = call(PHOTOS / "cat.jpg", "--points", 4, "--out", tmp_path, "--format", "coco,yolo,labelstudio,geojson,labelme,npz")
    assert {Path(line).name for line in said.splitlines()} == {"annotations.json", "data.yaml", "labelstudio.json", NAME}
    found = cat.segment_everything(
        pointcut.AutomaticConfig(4, pred_iou_thresh=0.5, stability_score_thresh=0.7, stability_score_offset=0.5)
    )
    dataset = json.loads((tmp_path / "annotations.json").read_text())
    assert len(dataset["annotations"]) == len(found) >= 1
    for name in ("labels/cat.txt", "cat.geojson", "cat.json", "cat.npz"):
        assert (tmp_path / name).stat().st_size > 0


@pytest.mark.parametrize("asked", [("--box", "300,300,512,512"), ("--points", 4)])
def test_specks_are_dropped(asked: tuple[object, ...], tmp_path: Path) -> None:
    found = []
    for name, more in (("plain", ()), ("clean", ("--min-region", 300))):
        call(PHOTOS / "astronaut.jpg", *asked, *more, "--out", tmp_path / name)
        dataset = json.loads((tmp_path / name / "annotations.json").read_text())
        found.append([coco_mask.decode(one["segmentation"]).astype(bool) for one in dataset["annotations"]])
    plain, clean = found
    assert any(without_small_parts(mask, 300) is not mask for mask in plain), "else the example shows nothing"
    assert clean
    assert all(without_small_parts(mask, 300) is mask for mask in clean)


def test_lists_and_names(album: Path, tmp_path: Path) -> None:
    names = [str(album / "a" / "01.png"), str(album / "b" / "00.png")]
    for index, (text, more) in enumerate((("\n".join(names), []), ("\0".join(names), ["-0"]))):
        report = json.loads(call("-", *more, "--point", "30,20", "--out", tmp_path / str(index), "--json", stdin=text))
        assert (report["pictures"], report["failed"]) == (2, [])
    assert [task.name for task in tasks_in([str(album)])][:2] == ["a/01.png", "a/03.png"]
    shutil.copytree(album / "a", tmp_path / "c")
    with pytest.raises(pointcut.InputError, match="would be called the same"):
        tasks_in([names[0], str(tmp_path / "c" / "01.png")])
    missing = json.loads(call(tmp_path / "no.png", names[0], "--box", "1,1,9,9", "--out", tmp_path / "m", "--json", code=3))
    assert missing["failed"][0]["message"].endswith("cannot be read (No such file or directory)")
    (tmp_path / "empty").mkdir()
    assert call(tmp_path / "empty", "--out", tmp_path / "e", code=1) == ""


def test_tables(album: Path, tmp_path: Path) -> None:
    shutil.copytree(album, tmp_path / "album")
    rows = [
        {"image": "album/a/01.png", "x": 30, "y": 20, "label": 1, "object": "1", "name": "left"},
        {"image": "album/a/01.png", "x": 70, "y": 50, "label": "", "object": "2", "name": "right"},
        {"image": "album/a/01.png", "x": 5, "y": 5, "label": 0, "object": "1", "name": ""},
        {"image": "album/b/00.png", "x": 20, "y": 20, "label": 1, "object": "", "name": ""},
    ]
    with (tmp_path / "clicks.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    first, second = tasks_in([str(tmp_path / "clicks.csv")])
    assert first.pointed == Pointed((((30, 20), (5, 5)), ((70, 50),)), ((1, 0), (1,)), (), ("left", "right"))
    assert second.name == "album/b/00.png"
    call(tmp_path / "clicks.csv", "--out", tmp_path / "out")
    dataset = json.loads((tmp_path / "out" / "annotations.json").read_text())
    assert [category["name"] for category in dataset["categories"]] == ["left", "right", "object"]
    table = pyarrow.Table.from_pylist([{"image": "album/a/05.png", "x0": 1.0, "y0": 2.0, "x1": 30.0, "y1": 40.0}])
    pyarrow.parquet.write_table(table, tmp_path / "boxes.parquet")
    (task,) = tasks_in([str(tmp_path / "boxes.parquet")])
    assert task.pointed == Pointed(boxes=((1, 2, 30, 40),), names=("object",))
    for text, message in (
        ("picture\na.png\n", "column image is missing"),
        ("image,x,y\na.png,ten,5\n", "line 2: expected numbers"),
    ):
        (tmp_path / "bad.csv").write_text(text)
        with pytest.raises(pointcut.InputError, match=message):
            tasks_in([str(tmp_path / "bad.csv")])


def test_boxes_from_label_files(album: Path, tmp_path: Path) -> None:
    tasks = tasks_in([str(album)])
    coco = {
        "images": [{"id": 1, "file_name": "a/01.png"}, {"id": 2, "file_name": "nowhere.png"}],
        "annotations": [{"image_id": 1, "bbox": [10, 10, 40, 30], "category_id": 5}],
        "categories": [{"id": 5, "name": "cup"}],
    }
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    region = {"type": "rectanglelabels", "original_width": 80, "original_height": 60}
    region["value"] = {"x": 12.5, "y": 50 / 3, "width": 50, "height": 50, "rectanglelabels": ["cup"]}
    (tmp_path / "ls.json").write_text(
        json.dumps([{"data": {"image": "/data/upload/1/01.png?x"}, "annotations": [{"result": [region]}]}])
    )
    (tmp_path / "yolo" / "a").mkdir(parents=True)
    (tmp_path / "yolo" / "a" / "01.txt").write_text("3 0.375 0.41666667 0.5 0.5\n")
    masks = []
    for source, name in (("coco.json", "cup"), ("ls.json", "cup"), ("yolo", "3")):
        (task,) = with_boxes(tasks, tmp_path / source)
        assert task.name == "a/01.png"
        out = tmp_path / f"out-{source}"
        call(album, "--boxes", tmp_path / source, "--out", out)
        dataset = json.loads((out / "annotations.json").read_text())
        assert dataset["categories"] == [{"id": 1, "name": name}]
        masks.append(dataset["annotations"][0]["segmentation"])
    assert masks[0] == masks[1] == masks[2]
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(pointcut.InputError, match="neither a COCO file"):
        with_boxes(tasks, tmp_path / "bad.json")


def test_another_job_or_another_run_in_the_folder(album: Path, tmp_path: Path) -> None:
    call(album / "a", "--box", "10,10,50,40", "--out", tmp_path, code=3)
    before = files_of(tmp_path)
    assert call(album / "a", "--box", "11,10,50,40", "--out", tmp_path, code=1) == ""
    assert files_of(tmp_path) == before
    with pytest.raises(pointcut.OutputError, match=r"holds another job .* --fresh"):
        run_batch(tasks_in([str(album)]), BatchJob("nano", "exact", ("coco",), BOX), tmp_path)
    with (
        Journal(tmp_path, BatchJob("nano", "exact", ("coco",), None).told, fresh=True),
        pytest.raises(pointcut.OutputError, match="another run"),
    ):
        run_batch(tasks_in([str(album)]), BatchJob("nano", "exact", ("coco",), BOX), tmp_path)
    call(album / "a", "--box", "11,10,50,40", "--out", tmp_path, "--fresh", code=3)


def test_failed_ones_are_tried_again_when_asked(album: Path, tmp_path: Path) -> None:
    shutil.copytree(album / "a", tmp_path / "a")
    options = (tmp_path / "a", "--box", "10,10,50,40", "--out", tmp_path / "out", "--json")
    assert len(json.loads(call(*options, code=3))["failed"]) == 1
    good = (album / "a" / "01.png").read_bytes()
    (tmp_path / "a" / "03.png").write_bytes(good)
    assert json.loads(call(*options, "--retry-failed"))["failed"] == []
    changed = tmp_path / "a" / "05.png"
    Image.open(io.BytesIO(good)).resize((40, 30)).save(changed)
    report = json.loads(call(*options, "--retry-failed"))
    assert report["resumed"] == report["pictures"] - 1, "a file of another length is done again"


def test_a_full_disk_is_said_and_nothing_is_lost(album: Path, tmp_path: Path) -> None:
    """A file system of 60 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=60k", "tmpfs", disk], capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a small file system")
    try:
        job = BatchJob("nano", "exact", ("npz", "overlay"), BOX)
        with pytest.raises(pointcut.OutputError, match="cannot be written"):
            run_batch(tasks_in([str(album)]), job, disk)
        lines = (disk / NAME).read_text().splitlines()
        assert len(lines) >= 1
        shutil.copytree(disk, tmp_path / "moved")
        run_batch(tasks_in([str(album)]), job, tmp_path / "moved")
        run_batch(tasks_in([str(album)]), job, tmp_path / "whole")
        assert files_of(tmp_path / "moved") == files_of(tmp_path / "whole")
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_folder_that_cannot_be_written(album: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(pointcut.OutputError):
        run_batch(tasks_in([str(album)]), BatchJob("nano", "exact", ("coco",), BOX), tmp_path / "file" / "out")


KILLED = """
import os, sys
import pyarrow.parquet
from pathlib import Path
from pointcut.batch.inputs import Pointed, tasks_in
from pointcut.batch.run import run_batch
from pointcut.batch.work import BatchJob
job = BatchJob("nano", "exact", ("coco", "png", "parquet"), Pointed(boxes=((10., 10., 50., 40.),), names=("thing",)))
import torch
torch.set_num_threads(1)  # a process whose threads have computed together cannot be forked
import pointcut.batch.work
model = pointcut.batch.work.load("nano", device="cpu")
pointcut.batch.work.load = lambda *_, **__: model  # once instead of a hundred times
while True:
    print("ready", flush=True)
    folder = sys.stdin.readline().strip()
    child = os.fork()
    if not child:
        run_batch(tasks_in([sys.argv[1]]), job, Path(folder), workers=2)
        os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


@pytest.fixture
def nursery(album: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that begins runs: forked, so that fifty of them take seconds, with the model loaded once."""
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(album / "a")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    yield process
    process.kill()
    process.wait()


def begun(nursery: subprocess.Popen[str], folder: Path) -> int:
    assert nursery.stdin is not None
    assert nursery.stdout is not None
    assert nursery.stdout.readline() == "ready\n"
    nursery.stdin.write(f"{folder}\n")
    nursery.stdin.flush()
    return int(nursery.stdout.readline())


def ended(nursery: subprocess.Popen[str]) -> int:
    assert nursery.stdout is not None
    return int(nursery.stdout.readline())


@pytest.mark.slow
def test_killed_at_fifty_moments(nursery: subprocess.Popen[str], tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    for folder in (tmp_path / "warm", whole):
        started = time.monotonic()
        begun(nursery, folder)
        assert ended(nursery) == 0
        length = time.monotonic() - started
    expected = files_of(whole)
    assert len(expected) == 8  # a journal, two datasets, five label pictures
    rng, kills, folder, number = random.Random(0), 0, tmp_path / "run0", 0
    while kills < 50:
        child = begun(nursery, folder)
        select.select([nursery.stdout], [], [], rng.uniform(0.02, 0.9) * length)  # until then, or its end
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        if ended(nursery) == signal.SIGKILL:
            kills += 1
        else:  # it got to its end: another folder
            assert files_of(folder) == expected
            number += 1
            folder = tmp_path / f"run{number}"
    begun(nursery, folder)
    assert ended(nursery) == 0
    assert files_of(folder) == expected


@pytest.mark.slow
def test_processes_do_what_threads_do_and_end_with_their_parent(album: Path, tmp_path: Path) -> None:
    """Everything in pictures is looked for in processes; a run that is killed leaves none of them behind."""
    call(album, "--points", 3, "--out", tmp_path / "processes", "--format", "coco,png", "--workers", 2, code=3)
    job = BatchJob("nano", "exact", ("coco", "png"), None, (("points_per_side", 3),))
    run_batch(tasks_in([str(album)]), job, tmp_path / "threads", workers=2)
    assert files_of(tmp_path / "processes") == files_of(tmp_path / "threads")
    command = [sys.executable, "-m", "pointcut", "batch", album, "--points", 40, "--out", tmp_path / "killed", "--workers", 2]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    own, end = psutil.Process(process.pid), time.monotonic() + 60
    while time.monotonic() < end:  # two workers, and what watches over shared resources
        children = [child for child in own.children() if "spawn_main" in " ".join(child.cmdline())]
        if len(children) == 2:
            break
        time.sleep(0.1)
    assert len(children) == 2
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive


def test_watching_a_folder(tmp_path: Path) -> None:
    """It begins empty; what is done is taken away before the next comes; results lie in it."""
    source = tmp_path / "in"
    source.mkdir()
    out = source / "out"
    command = [sys.executable, "-m", "pointcut", "batch", source, "--box", "30,0,370,299", "--out", out, "--watch"]
    command += ["--format", "coco,overlay"]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        assert process.stderr.readline().endswith("waiting for them\n")

        def images() -> list[str]:
            path = out / "annotations.json"
            return [one["file_name"] for one in json.loads(path.read_text())["images"]] if path.is_file() else []

        def wait(count: int) -> None:
            end = time.monotonic() + 60
            while len(images()) < count and time.monotonic() < end:
                time.sleep(0.1)

        shutil.copy(PHOTOS / "cat.jpg", source / "1.jpg")
        wait(1)
        (source / "1.jpg").unlink()
        time.sleep(2.5)  # so that an empty folder is seen
        shutil.copy(PHOTOS / "cat.jpg", source / "2.jpg")
        wait(2)
        assert images() == ["1.jpg", "2.jpg"]
        process.send_signal(signal.SIGINT)
        assert process.wait(20) in (130, 1)
    finally:
        process.kill()
        process.wait()


def test_watching_tells_what_cannot_be_read(tmp_path: Path) -> None:
    """What is wrong when it is called ends it; what goes wrong later is told once, and waited for."""
    shutil.copy(PHOTOS / "cat.jpg", tmp_path)
    table = tmp_path / "table.csv"
    command = [sys.executable, "-m", "pointcut", "batch", str(table), "--out", str(tmp_path / "out"), "--watch"]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "table.csv: cannot be read as a table" in ended.stderr

    table.write_text("image,x,y\n")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        assert process.stderr.readline().endswith("waiting for them\n")
        table.write_text("image,x,y\ncat.jpg,a,b\n")
        assert "table.csv, line 2: expected numbers" in process.stderr.readline()
        time.sleep(1.5)  # looked at once more, and not told again
        table.write_text("image,x,y\ncat.jpg,200,150\n")
        assert process.stderr.readline().startswith("1 of 1 pictures done")
    finally:
        process.kill()
        process.wait()
