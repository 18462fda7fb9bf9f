"""Frames from anywhere: films, folders, stacks, cameras and pipes; and what is no film."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import pointcut
from pointcut.cli.main import app
from pointcut.errors import InputError, OutputError
from pointcut.images import MAX_PIXELS
from pointcut.masks import iou
from pointcut.scaling import Scaling
from pointcut.video.bank import POINTERS
from pointcut.video.camera import DRIVERS
from pointcut.video.films import USUAL, FilmFrames
from pointcut.video.frames import KEPT, natural, open_frames
from pointcut.video.pipe import PipedFilm
from scans import dicom

from films import SIZE, ball, empty_stream, truth, write_film


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
        stream = empty_stream(container)
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
