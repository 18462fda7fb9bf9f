"""Where the recipe's photographs come from: folders and files of a system's packages."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gather import main as gather_photographs


def test_photographs_are_gathered_once_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng, system = np.random.default_rng(7), tmp_path / "system"
    halves = {name: rng.integers(0, 256, (8, 8, 3), np.uint8).repeat(50, 0).repeat(80, 1) for name in "abcde"}
    for path, picture in {
        "faces/a.jpg": halves["a"],
        "faces/b.jpg": halves["b"],
        "faces/legacy/c.jpg": halves["c"],
        "faces/twin.jpg": halves["a"][::2, ::2],
        "walls/Hill/contents/images/1920x1080.jpg": halves["d"],
        "walls/Hill/contents/images/640x480.jpg": halves["e"],
        "walls/Hill/contents/screenshot.jpg": halves["e"],
        "walls/Lake/contents/images/1920x1080.jpg": halves["e"],
    }.items():
        (system / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(system / path, quality=95)
    out, held = tmp_path / "set", tmp_path / "held"
    monkeypatch.setattr("sys.argv", ["gather.py", "--out", str(out), "--held-out", str(held), str(system)])
    gather_photographs()
    assert "4 photographs" in capsys.readouterr().out
    assert [path.name for path in (held / "images").iterdir()] == ["Hill-1920x1080.jpg"]
    assert sorted(path.name for path in (out / "images").iterdir()) == ["Lake-1920x1080.jpg", "a.jpg", "b.jpg"]


def test_photographs_are_gathered_out_of_resources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(8)

    def webp(*channels: int) -> bytes:
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (8, 8, *channels), np.uint8).repeat(50, 0).repeat(80, 1)).save(file, "webp")
        return file.getvalue()

    contents = [webp(3), b"RIFF\x04\0\0\0WAVE", webp(4), b"/* a script */", webp(3)]
    data = b"".join(struct.pack(">I", len(content)) + content for content in contents)
    file = tmp_path / "zoo.rcc"
    file.write_bytes(struct.pack(">4s5I", b"qres", 3, 24 + len(data), 24, 24 + len(data), 0) + data)
    out, held = tmp_path / "set", tmp_path / "held"
    monkeypatch.setattr("sys.argv", ["gather.py", "--out", str(out), "--held-out", str(held), str(file)])
    gather_photographs()
    assert "2 photographs" in capsys.readouterr().out
    assert [path.name for folder in (held, out) for path in (folder / "images").iterdir()] == ["zoo-00.jpg", "zoo-04.jpg"]
    file.write_bytes(b"PK" * 20)
    with pytest.raises(SystemExit, match="neither a folder nor a file of Qt resources"):
        gather_photographs()
