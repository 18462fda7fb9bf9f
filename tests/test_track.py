"""`pointcut track`: jobs that go on, films written and read back, broken films."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from typer.testing import CliRunner

from pointcut.cli.main import app
from pointcut.errors import InputError, OutputError
from pointcut.video.frames import open_frames

from films import SIZE, ball, empty_stream, truth, write_film


def track_command(film: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "pointcut", "track", str(film), "--box", "0:11,29,49,67", "--out", str(out), *more]


@pytest.mark.slow
def test_a_killed_job_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    long = write_film(tmp_path / "long.mp4", 70)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    subprocess.run(track_command(long, whole, "--format", "json"), check=True, capture_output=True)
    job = subprocess.Popen(track_command(long, cut, "--format", "json"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    journal = cut / "long.track.jsonl"
    deadline = time.monotonic() + 120
    while not (cut / "long.track.memory").exists():
        assert time.monotonic() < deadline
        assert job.poll() is None
        time.sleep(0.01)
    job.send_signal(signal.SIGKILL)
    job.wait()
    assert not (cut / "long.sheet.jpg").exists()
    with journal.open("a") as file:
        file.write('{"frame": 40, "seco')  # as a kill in the middle of a line leaves it
    again = subprocess.run(track_command(long, cut, "--format", "json"), check=True, capture_output=True, text=True)
    assert "went on at frame" in again.stderr
    assert journal.read_bytes() == (whole / "long.track.jsonl").read_bytes()
    assert len(journal.read_text().splitlines()) == 71


@pytest.mark.slow
@pytest.mark.parametrize("tenths", [9, 3])
def test_a_pipe_is_stopped(tenths: int, tmp_path: Path) -> None:
    """As a camera's is: at Ctrl-C, at work or waiting for more, everything that was asked for is made of what came."""
    content = write_film(tmp_path / "ball.mkv", 300).read_bytes()
    call = [sys.executable, "-m", "pointcut", "track", "-", "--box", "0:11,29,49,67", "--out", str(tmp_path)]
    journal = tmp_path / "stdin.track.jsonl"
    with subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stdin is not None
        run.stdin.write(content[: len(content) * tenths // 10])
        run.stdin.flush()
        seen = [0]
        while seen[-1] < 21 or (tenths == 3 and seen[-1] > seen[-2]):
            assert run.poll() is None
            time.sleep(2)
            seen.append(journal.read_bytes().count(b"\n") if journal.is_file() else 0)
        run.send_signal(signal.SIGINT)
        written, said = run.communicate(timeout=60)
    assert run.returncode == 0, said
    frames = journal.read_bytes().count(b"\n") - 1
    assert 20 <= frames < 270
    assert f"{frames} frames; seen: object 1" in said.decode()
    assert written.decode().split() == [str(tmp_path / f"stdin.{kind}") for kind in ("sheet.jpg", "overlay.mp4", "track.jsonl")]
    assert open_frames(tmp_path / "stdin.overlay.mp4").announced() == frames


def test_every_format_is_read_back(film: Path, tmp_path: Path) -> None:
    formats = "overlay.mp4,cutout.webm,cutout,masks,coco,json"
    answer = CliRunner().invoke(
        app,
        ["track", str(film), "--box", "2:13,29,51,67@3", "--end", "8", "--out", str(tmp_path), "--format", formats, "--json"],
    )
    assert answer.exit_code == 0, answer.output
    told = json.loads(answer.stdout)
    assert told["frames"] == 6
    assert told["seen"] == {"3": 6}
    assert all(Path(path).exists() for path in told["files"])
    rows = [json.loads(line) for line in (tmp_path / "ball.track.jsonl").read_text().splitlines()][1:]
    assert [row["frame"] for row in rows] == [2, 3, 4, 5, 6, 7]
    masks = [coco_mask.decode(row["objects"][0]["rle"]).astype(bool) for row in rows]
    assert all((mask & truth(i)).sum() / (mask | truth(i)).sum() > 0.5 for i, mask in enumerate(masks, 2))

    overlay = open_frames(tmp_path / "ball.overlay.mp4")
    assert overlay[5].shape == (*SIZE, 3)
    with pytest.raises(IndexError):
        overlay[6]
    assert overlay.seconds(3) == pytest.approx(0.3, abs=0.002)
    with av.open(str(tmp_path / "ball.cutout.webm")) as container:
        stream = container.streams.video[0]
        assert stream.metadata.get("ALPHA_MODE", stream.metadata.get("alpha_mode")) == "1"
    for i, mask in enumerate(masks, 2):
        labels = np.asarray(Image.open(tmp_path / "ball.masks" / f"{i:06d}.png"))
        np.testing.assert_array_equal(labels == 3, mask)
        alone = np.asarray(Image.open(tmp_path / "ball.cutout" / f"{i:06d}.png"))
        np.testing.assert_array_equal(alone[..., 3] > 0, mask)
    dataset = json.loads((tmp_path / "ball.coco.json").read_text())
    assert [image["file_name"] for image in dataset["images"]] == [f"ball_{i:06d}.jpg" for i in range(2, 8)]
    assert dataset["categories"] == [{"id": 1, "name": "object 3"}]
    np.testing.assert_array_equal(coco_mask.decode(dataset["annotations"][0]["segmentation"]).astype(bool), masks[0])
    assert Image.open(tmp_path / "ball.sheet.jpg").size[0] > SIZE[1]


def test_a_film_that_breaks_off_keeps_what_came_before(tmp_path: Path) -> None:
    whole = write_film(tmp_path / "whole.mkv", 40)
    broken = tmp_path / "broken.mkv"
    data = whole.read_bytes()
    broken.write_bytes(data[: len(data) // 2])
    answer = CliRunner().invoke(
        app, ["track", str(broken), "--box", "0:11,29,49,67", "--out", str(tmp_path / "out"), "--format", "json", "--json"]
    )
    assert answer.exit_code == 3, answer.output
    told = json.loads(answer.stdout)
    assert 5 < told["frames"] < 40
    assert "of 4.0 s" in told["broken"]
    assert (tmp_path / "out" / "broken.sheet.jpg").exists()


def test_wrong_calls(film: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke
    assert run(app, ["track", str(film)]).exit_code == 2
    assert run(app, ["track", str(film), "--point", "x:1,2"]).exit_code == 2
    assert run(app, ["track", str(film), "--box", "0:1,2,30,40", "--box", "0:1,2,30,41"]).exit_code == 2
    assert run(app, ["track", str(film), "--box", "0:1,2,30,40", "--mask", "0:a.png"]).exit_code == 2
    wrong = run(app, ["track", str(film), "--point", "0:30,48", "--format", "avi", "--out", str(tmp_path)])
    assert isinstance(wrong.exception, InputError)
    first = ["track", str(film), "--point", "0:30,48", "--end", "2", "--out", str(tmp_path), "--format", "json"]
    assert run(app, first).exit_code == 0
    other = run(app, [*first[:3], "0:31,48", *first[4:]])
    assert isinstance(other.exception, OutputError)
    assert "--fresh" in str(other.exception)
    assert run(app, [*first[:3], "0:31,48", *first[4:], "--fresh"]).exit_code == 0


def test_variable_rate_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as container:
        stream = empty_stream(container)
        stream.codec_context.time_base = Fraction(1, 1000)
        for i, pts in enumerate((0, 100, 700, 750)):
            frame = av.VideoFrame.from_ndarray(ball(i), format="rgb24")
            frame.pts, frame.time_base = pts, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    frames = open_frames(path)
    assert [frames.seconds(i) for i in range(4)] == pytest.approx([0, 0.1, 0.7, 0.75], abs=0.002)


def test_a_mask_picture_starts_a_track(film: Path, tmp_path: Path) -> None:
    Image.fromarray(truth(1).astype(np.uint8) * 7).save(tmp_path / "mask.png")
    call = [
        "track",
        str(film),
        "--mask",
        f"1:{tmp_path / 'mask.png'}@4",
        "--end",
        "4",
        "--out",
        str(tmp_path),
        "--format",
        "json",
    ]
    assert CliRunner().invoke(app, call).exit_code == 0
    rows = [json.loads(line) for line in (tmp_path / "ball.track.jsonl").read_text().splitlines()][1:]
    assert [row["objects"][0]["id"] for row in rows] == [4, 4, 4]
    first = coco_mask.decode(rows[0]["objects"][0]["rle"]).astype(bool)
    assert (first & truth(1)).sum() / (first | truth(1)).sum() > 0.95
