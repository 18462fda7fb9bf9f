"""Tracking: frames from anywhere, the tracker's promises, jobs that go on, films written and read back, broken files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from typer.testing import CliRunner

import pointcut
from pointcut.cli.main import app
from pointcut.errors import InputError, InvalidPrompt, ModelError, OutputError
from pointcut.images import MAX_PIXELS
from pointcut.masks import iou
from pointcut.nets.decoder import ImageSide
from pointcut.nets.following import Found
from pointcut.nets.prompts import Prompts
from pointcut.scaling import Scaling
from pointcut.video.bank import POINTERS
from pointcut.video.camera import DRIVERS
from pointcut.video.engine import alike
from pointcut.video.films import USUAL, FilmFrames
from pointcut.video.frames import KEPT, natural, open_frames
from pointcut.video.pipe import PipedFilm
from scans import dicom

from films import SIZE, ball, truth, write_film


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_film(tmp_path_factory.mktemp("film") / "ball.mp4", 30)


# frames


def test_folders_are_read_in_natural_order(tmp_path: Path) -> None:
    for number in (10, 9, 1):
        Image.fromarray(ball(number)).save(tmp_path / f"f{number}.png")
    for name in ("notes.txt", "._f1.png", "f.sheet.jpg"):  # macOS and Pointcut put such files beside pictures
        (tmp_path / name).write_text("no picture")
    frames = open_frames(tmp_path)
    assert frames.count == 3
    for i, number in enumerate((1, 9, 10)):
        np.testing.assert_array_equal(frames[i], ball(number))
    assert natural(Path("a2.jpg")) < natural(Path("a10.jpg"))
    with pytest.raises(IndexError):
        frames[3]
    with pytest.raises(InputError, match="holds no pictures"):
        open_frames(tmp_path / "empty" if (tmp_path / "empty").mkdir() is None else tmp_path)


def test_films_can_be_read_in_any_order(film: Path) -> None:
    frames = open_frames(film)
    forwards = [frames[i].astype(int) for i in range(30)]
    assert frames.rate == 10
    assert frames.seconds(12) == pytest.approx(1.2)
    for i in (29, 3, 17):
        np.testing.assert_array_equal(frames[i], forwards[i])
        assert abs(forwards[i] - ball(i)).mean() < 6
    with pytest.raises(IndexError):
        frames[30]
    assert frames.count == 30


def deep(frame: int) -> np.ndarray:
    """The ball as a microscope might see it: (H, W) uint16, with a speck that outshines it from the second frame on."""
    values = 1000 + 20 * ball(frame)[..., 0].astype(np.uint16)
    values[0, 0] = 1000 if frame == 0 else 60_000
    return values


def test_stacks_do_not_flicker(tmp_path: Path) -> None:
    first, *others = (Image.fromarray(deep(i)) for i in range(4))
    first.save(tmp_path / "stack.tif", save_all=True, append_images=others)
    (tmp_path / "slices").mkdir()
    dicom(tmp_path / "scan.dcm", np.stack([deep(i) for i in range(4)]))
    for i in range(4):
        Image.fromarray(deep(i)).save(tmp_path / "slices" / f"{i}.tif")
    for source in (tmp_path / "stack.tif", tmp_path / "scan.dcm", tmp_path / "slices", [deep(i) for i in range(4)]):
        frames = open_frames(source)
        assert frames.count == 4
        for i in (3, 1, 0):
            scaled = np.clip((deep(i).astype(float) - deep(0).min()) * 255 / (deep(0).max() - deep(0).min()), 0, 255)
            assert abs(frames[i][..., 1] - scaled).max() <= 1
        with pytest.raises(IndexError):
            frames[4]


def test_limits_that_are_asked_for(tmp_path: Path) -> None:
    """Of the first frame, for all; a film has none."""
    first, *others = (Image.fromarray(deep(i)) for i in range(3))
    first.save(tmp_path / "stack.tif", save_all=True, append_images=others)
    frames = open_frames(tmp_path / "stack.tif", scaling=Scaling.parse("2%,98%"))
    low, high = np.percentile(deep(0), (2, 98))
    assert abs(frames[2][..., 0] - np.clip((deep(2) - low) * 255 / (high - low), 0, 255)).max() <= 1
    call = [
        "track",
        str(tmp_path / "stack.tif"),
        "--box",
        "0:12,30,48,66",
        "--out",
        str(tmp_path),
        "--format",
        "json",
        "--json",
    ]
    for scale in ("2%,98%", "0,10000"):  # another one is another job
        done = CliRunner().invoke(app, [*call, "--scale", scale])
        assert isinstance(done.exception, OutputError) == (scale == "0,10000"), done.output
    assert json.loads((tmp_path / "stack.track.jsonl").read_text().splitlines()[0])["scale"] == "2%,98%"
    with pytest.raises(InputError, match="8 bits already"):
        open_frames(write_film(tmp_path / "a.mp4", 2), scaling=Scaling("full"))


def test_a_scan_that_has_fewer_frames_than_it_says(tmp_path: Path) -> None:
    frames = open_frames(dicom(tmp_path / "scan.dcm", np.stack([deep(i) for i in range(2)]), NumberOfFrames=2**31 - 1))
    assert frames[1].shape == (96, 128, 3)
    with pytest.raises(IndexError):
        frames[2]
    assert frames.count == 2
    assert "broken or cut off" in (frames.broken or "")


def test_tracking_through_a_stack(nano: pointcut.Segmenter, tmp_path: Path) -> None:
    first, *others = (Image.fromarray(deep(i)) for i in range(3))
    first.save(tmp_path / "stack.tif", save_all=True, append_images=others)
    tracker = nano.track(tmp_path / "stack.tif")
    tracker.prompt(0, 1, boxes=(12, 30, 48, 66))
    for frame in tracker.run():
        assert iou(frame.segments.masks[0], truth(frame.index)) > 0.7


KINDS = [("webm", "libvpx-vp9"), ("mkv", "libx264"), ("mov", "libx264")]
LOCAL = [("ts", "libx264"), ("mpg", "mpeg1video"), ("wmv", "wmv2"), ("flv", "flv1"), ("y4m", "wrapped_avframe")]


@pytest.mark.parametrize(("suffix", "codec"), KINDS + LOCAL)
def test_kinds_of_films(suffix: str, codec: str, tmp_path: Path) -> None:
    frames = open_frames(write_film(tmp_path / f"a.{suffix}", 20, codec, rate=25))
    assert abs(frames[19].astype(int) - ball(19)).mean() < 8
    times = [frames.seconds(i) for i in range(20)]
    assert times == pytest.approx(np.arange(20) / 25, abs=2e-3)  # from 0, wherever the file's own clock begins
    with pytest.raises(IndexError):
        frames[20]
    assert frames.broken is None


def test_camcorders_put_a_time_before_each_packet(tmp_path: Path) -> None:
    packets = write_film(tmp_path / "a.ts", 4, rate=25).read_bytes()
    (tmp_path / "a.mts").write_bytes(b"".join(b"\0\0\0\0" + packets[i : i + 188] for i in range(0, len(packets), 188)))
    assert abs(open_frames(tmp_path / "a.mts")[3].astype(int) - ball(3)).mean() < 8


def test_strangers_films_are_of_few_kinds(tmp_path: Path) -> None:
    for suffix, codec in LOCAL:
        film = write_film(tmp_path / f"a.{suffix}", 2, codec, rate=25)
        with pytest.raises(InputError, match=r"not a film that is known here \(mp4, mov, mkv, webm, avi, gif\)"):
            FilmFrames(film, max_pixels=MAX_PIXELS, kinds=USUAL)
    for suffix, codec in KINDS:
        assert FilmFrames(write_film(tmp_path / f"a.{suffix}", 2, codec), max_pixels=MAX_PIXELS, kinds=USUAL)[1].shape == (
            96,
            128,
            3,
        )
    (tmp_path / "a.ts").write_text("G" * 187 + "\n" + "Good day\n" * 20)
    with pytest.raises(InputError):
        open_frames(tmp_path / "a.ts")


def test_gifs_and_arrays_and_streams(tmp_path: Path) -> None:
    pictures = [Image.fromarray(ball(i)) for i in range(3)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=100)
    assert abs(open_frames(tmp_path / "a.gif")[2].astype(int) - ball(2)).mean() < 10
    np.testing.assert_array_equal(open_frames([ball(0), ball(1)])[1], ball(1))
    np.testing.assert_array_equal(open_frames(np.stack([ball(0), ball(1)]))[1], ball(1))
    stream = open_frames(ball(i) for i in range(20))
    np.testing.assert_array_equal(stream[15], ball(15))
    np.testing.assert_array_equal(stream[15 - KEPT + 1], ball(15 - KEPT + 1))
    with pytest.raises(InputError, match="is gone"):
        stream[0]
    with pytest.raises(IndexError):
        stream[20]


def test_a_camera(monkeypatch: pytest.MonkeyPatch, nano: pointcut.Segmenter) -> None:
    """FFmpeg draws the pictures; that there is no camera here is what the second half is about."""
    monkeypatch.setitem(DRIVERS, sys.platform, ("lavfi", "testsrc=size={}x48:rate=10"))
    tracker = nano.track("camera:64")
    tracker.prompt(0, 1, boxes=(10, 10, 40, 40))
    assert [frame.segments.image.shape for frame in tracker.run(end=3)] == [(48, 64, 3)] * 3
    monkeypatch.setitem(DRIVERS, sys.platform, ("lavfi", "/no/camera{}"))
    with pytest.raises(InputError, match="camera:7: no such camera"):
        open_frames("camera:7")
    monkeypatch.delitem(DRIVERS, sys.platform)
    with pytest.raises(InputError, match="generator"):
        open_frames("camera:7")


def piped(content: bytes, path: Path, hold: threading.Event | None = None) -> PipedFilm:
    """A film through a real pipe, a little at a time; with `hold` the last tenth waits for it."""
    out, into = os.pipe()

    def feed() -> None:
        with os.fdopen(into, "wb", buffering=0) as pipe:
            for i in range(0, len(content), 500):
                if hold is not None and i > 0.9 * len(content):
                    hold.wait(60)
                pipe.write(content[i : i + 500])

    threading.Thread(target=feed, daemon=True).start()
    return PipedFilm(os.fdopen(out, "rb"), path, max_pixels=MAX_PIXELS)


@pytest.mark.parametrize(
    ("name", "frames"), [("ball.mkv", 30), ("ball.mp4", 30), ("ball.mp4", 9), ("ball.avi", 12), ("ball.ts", 30)]
)
def test_a_film_through_a_pipe(name: str, frames: int, tmp_path: Path) -> None:
    """Some kinds are read as they come; an mp4 that says at its end what is in it is not."""
    film = write_film(tmp_path / name, frames, "mpeg4" if name.endswith("avi") else "libx264")
    there, here = open_frames(film), piped(film.read_bytes(), tmp_path / "kept")
    assert here.count == there.count == (frames if frames < POINTERS else None)
    for i in [*range(frames), 3]:
        np.testing.assert_array_equal(here[i], there[i])
        assert here.seconds(i) == there.seconds(i)
    with pytest.raises(IndexError):
        here[frames]
    assert here.announced() == frames
    assert (tmp_path / "kept").read_bytes() == film.read_bytes()


def test_a_pipe_is_followed_while_it_lasts(tmp_path: Path, nano: pointcut.Segmenter) -> None:
    rest = threading.Event()
    content = write_film(tmp_path / "ball.mkv", 200).read_bytes()
    tracker = nano.track(piped(content, tmp_path / "kept", rest))
    tracker.prompt(0, 1, mask=truth(0))
    assert [frame.segments.areas[0] > 0 for frame in tracker.run(end=30)] == [True] * 30
    assert not rest.is_set()
    rest.set()
    np.testing.assert_allclose(tracker.frames[199], ball(199), atol=40)


@pytest.mark.parametrize(("content", "says"), [(b"", "nothing came"), (b"no film at all, only words", "not a film")])
def test_a_pipe_without_a_film(content: bytes, says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=says):
        piped(content, tmp_path / "kept")


def test_rotation_is_honoured(tmp_path: Path) -> None:
    """What phones write: frames lie on their side, and the file says so."""
    path = tmp_path / "phone.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(ball(0), format="rgb24")))
        container.mux(stream.encode())
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40  # version 0: the 3x3 matrix of 16.16 numbers
    assert int.from_bytes(data[place : place + 4], "big") == 0x10000
    quarter = [0, 0x10000, 0, 0xFFFF0000, 0, 0, SIZE[0] << 16, 0, 0x40000000]
    data[place : place + 36] = b"".join(value.to_bytes(4, "big") for value in quarter)
    path.write_bytes(data)
    upright = open_frames(path)[0]
    assert upright.shape == (SIZE[1], SIZE[0], 3)
    assert abs(upright.astype(int) - np.rot90(ball(0), -1)).mean() < 6


PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (PLAYLIST, "not a film"),
        (b"ffconcat version 1.0\nfile /etc/hostname\n", "not a film"),
        (b"\x00\x00\x00\x20ftypisom" + bytes(64), "no frame"),
        (b"\x1a\x45\xdf\xa3" + bytes(64), "no frame"),
        (os.urandom(4096), "not a film"),
    ],
)
def test_what_is_no_film(content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(content)
    with pytest.raises(InputError, match=says):
        open_frames(path)


def test_films_that_are_missing_or_too_large(film: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        open_frames(tmp_path / "none.mp4")
    with pytest.raises(pointcut.ImageTooLarge):
        open_frames(film, max_pixels=100)
    assert SIZE[0] * SIZE[1] < MAX_PIXELS


# the tracker


def test_a_ball_is_followed(nano: pointcut.Segmenter) -> None:
    tracker = nano.track(ball(2 * i) for i in range(6))
    first = tracker.prompt(0, 7, boxes=(11, 29, 49, 67))
    assert first.objects.tolist() == [7]
    seen = list(tracker.run())
    assert [frame.index for frame in seen] == [0, 1, 2, 3, 4, 5]
    for frame in seen:
        mask = frame.segments.masks[0]
        overlap = (mask & truth(2 * frame.index)).sum() / (mask | truth(2 * frame.index)).sum()
        assert overlap > 0.6, frame.index
        assert frame.occluded.tolist() == [False]
        assert 0 <= frame.segments.scores[0] <= 1
    np.testing.assert_array_equal(seen[0].segments.masks, first.masks)


def test_a_click_in_a_film_is_looked_at_again(nano: pointcut.Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its own answer as a rough mask, before it is followed."""
    asked: list[Prompts] = []
    find = nano.net.find

    def noted(frame: ImageSide, embedding: torch.Tensor, prompts: Prompts, multimask: bool) -> Found:
        asked.append(prompts)
        return find(frame, embedding, prompts, multimask)

    monkeypatch.setattr(nano.net, "find", noted)
    nano.track([ball(0), ball(2)]).prompt(0, 1, points=(30, 48))
    first, again = asked
    assert first.masks is None
    assert again.masks is not None
    assert torch.equal(first.points, again.points)


def test_objects_come_and_go(nano: pointcut.Segmenter) -> None:
    tracker = nano.track([ball(i) for i in range(5)])
    tracker.prompt(0, 1, mask=truth(0))
    ids = []
    for frame in tracker.run():
        ids.append(frame.segments.objects.tolist())
        if frame.index == 1:
            tracker.prompt(1, 2, points=[(100, 20)])
        if frame.index == 3:
            tracker.remove(1)
    assert ids == [[1], [1], [1, 2], [1, 2], [2]]
    with pytest.raises(InputError, match="no object 1"):
        tracker.remove(1)
    tracker.reset()
    assert tracker.objects == []
    with pytest.raises(InputError, match="nothing to follow"):
        next(tracker.run())


def test_a_mask_is_taken_as_it_is_and_corrections_stay(nano: pointcut.Segmenter) -> None:
    tracker = nano.track([ball(2 * i) for i in range(5)])
    given = tracker.prompt(0, 1, mask=truth(0))
    assert (given.masks[0] & truth(0)).sum() / (given.masks[0] | truth(0)).sum() > 0.95
    before = {frame.index: frame.segments.masks[0] for frame in tracker.run()}
    corrected = tracker.prompt(3, 1, mask=truth(6)).masks[0]
    again = {frame.index: frame.segments.masks[0] for frame in tracker.run(2)}
    np.testing.assert_array_equal(again[3], corrected)
    np.testing.assert_array_equal(again[2].shape, before[2].shape)
    back = {frame.index: frame.segments.masks[0] for frame in tracker.run(4, 1, reverse=True)}
    assert sorted(back) == [1, 2, 3, 4]
    np.testing.assert_array_equal(back[3], corrected)


def test_objects_through_the_network_together_are_the_same(nano: pointcut.Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU: three begun on the first frame, and one on the second, which looks less far back."""
    sizes = []

    def followed(most: int) -> list[np.ndarray]:
        recall = nano.net.memory.recall
        monkeypatch.setattr(nano.net.memory, "recall", lambda *args: sizes.append(len(answer := recall(*args))) or answer)
        monkeypatch.setattr("pointcut.video.engine.alike", lambda recalled, _: list(alike(recalled, most)))
        tracker = nano.track([ball(4 * i) for i in range(5)])
        for object_id, point in enumerate([(30, 48), (90, 20), (110, 80)]):
            tracker.prompt(0, object_id, points=[point])
        tracker.prompt(1, 3, boxes=(16, 30, 52, 66))
        answers = [frame.segments.logits for frame in tracker.run()]
        monkeypatch.undo()
        return answers

    alone = followed(1)
    assert set(sizes) == {1}
    sizes.clear()
    together = followed(16)
    assert set(sizes) == {3, 1}
    for one, other in zip(alone, together, strict=True):
        assert len(one) == 4
        np.testing.assert_allclose(other, one, atol=2e-3)


def test_the_next_frame_is_begun_early(film: Path, nano: pointcut.Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, which is never to wait for what becomes of the frame before."""
    begun: list[int] = []

    def followed(early: bool) -> dict[int, np.ndarray]:
        tracker = nano.track(film)
        assert not tracker._looks_ahead, "on a CPU it would only come later"
        tracker._looks_ahead = early
        read = tracker.engine.encode
        monkeypatch.setattr(type(tracker.engine), "encode", lambda _, square: begun.append(len(begun)) or read(square))
        tracker.prompt(24, 1, boxes=(35, 29, 73, 67))
        answers = {}
        for frame in tracker.run():
            answers[frame.index] = frame.segments.logits
            assert len(begun) == min(len(answers) + early, 6), "each once"
            if frame.index == 27:
                tracker.prompt(27, 1, points=[(57, 48)])
        answers |= {-frame.index: frame.segments.logits for frame in tracker.run(24, 22, reverse=True)}
        monkeypatch.undo()
        begun.clear()
        return answers

    one, other = followed(False), followed(True)
    assert list(one) == list(other) == [*range(24, 30), -24, -23, -22]
    for index in one:
        np.testing.assert_array_equal(other[index], one[index])


def test_a_frame_is_given_before_the_next_one_fails(tmp_path: Path, nano: pointcut.Segmenter) -> None:
    for number in range(3):
        Image.fromarray(ball(number)).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_bytes(b"no picture")
    for early in (False, True):
        tracker = nano.track(tmp_path)
        tracker._looks_ahead = early
        tracker.prompt(0, 1, mask=truth(0))
        run = tracker.run()
        assert [next(run).index, next(run).index] == [0, 1]
        with pytest.raises(InputError, match=r"2\.png"):
            next(run)


def test_a_stream_is_not_asked_for_what_has_yet_to_happen(nano: pointcut.Segmenter) -> None:
    given = []
    tracker = nano.track(given.append(i) or ball(i) for i in range(9))
    tracker._looks_ahead = not tracker.frames.live
    tracker.prompt(0, 1, mask=truth(0))
    assert next(tracker.run()).index == 0
    assert given == [0]


def test_wrong_prompts_are_explained(nano: pointcut.Segmenter) -> None:
    tracker = nano.track([ball(0), ball(1)])
    with pytest.raises(InvalidPrompt, match="outside the picture"):
        tracker.prompt(0, 1, points=[(500, 500)])
    with pytest.raises(InvalidPrompt, match="not both"):
        tracker.prompt(0, 1, points=[(5, 5)], mask=truth(0))
    with pytest.raises(InvalidPrompt, match="one object, got 2"):
        tracker.prompt(0, 1, boxes=[(0, 0, 5, 5), (5, 5, 9, 9)])
    with pytest.raises(InvalidPrompt, match="bool"):
        tracker.prompt(0, 1, mask=np.zeros((128, 128), np.float32))
    with pytest.raises(InputError, match="no frame 2; the last is 1"):
        tracker.prompt(2, 1, points=[(5, 5)])
    assert tracker.objects == []


def test_networks_without_memory_say_so(reproducible, tmp_path: Path) -> None:
    path = tmp_path / "sam_vit_b.pth"
    torch.save(reproducible("sam_vit_b_01ec64"), path)
    with pytest.raises(ModelError, match="cannot follow"):
        pointcut.load(path, device="cpu").track([ball(0)])


@pytest.mark.slow
def test_the_memory_is_bounded(nano: pointcut.Segmenter) -> None:
    def stream() -> Iterator[np.ndarray]:
        for i in range(40):
            yield ball(i)

    tracker = nano.track(stream())
    tracker.prompt(0, 1, boxes=(11, 29, 49, 67))
    count = 0
    for frame in tracker.run():
        count += frame.index == count
        bank = tracker._things[1].bank
        assert len(bank.tracked) < POINTERS
        assert sum(one.memory is not None for one in bank.tracked.values()) < bank.slots
        assert list(bank.prompted) == [0]
    assert count == 40


# jobs


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
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuv420p"
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
