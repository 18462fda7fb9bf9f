"""The command as people call it: a process, its files, its words and its exit code."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from pointcut import rle
from pointcut.cli.main import VERBS, app, command, main
from pointcut.components import without_small_parts
from pointcut.weights import specs

from conftest import PHOTOS


@dataclass
class Done:
    """What a call of the command left behind."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Done]:
    """Calls the command in this process, offline, with a cache of its own."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache" / "hub"))

    def call(*arguments: object, stdin: bytes | None = b"") -> Done:
        monkeypatch.setattr(sys, "argv", ["pointcut", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", None if stdin is None else io.TextIOWrapper(io.BytesIO(stdin)))
        try:
            main()
            code = 0
        except SystemExit as left:
            code = int(left.code or 0)
        return Done(code, *capsys.readouterr())

    return call


CAT = PHOTOS / "cat.jpg"


def test_one_click(run: Callable[..., Done], tmp_path: Path) -> None:
    done = run("segment", PHOTOS / "cat.jpg", "--point", "220,150", "--out", tmp_path / "new" / "folder")
    assert done.returncode == 0, done.stderr
    files = [Path(line) for line in done.stdout.splitlines()]
    assert [f.name for f in files] == ["cat.cutout.png", "cat.mask.png", "cat.overlay.png", "cat.json"]
    assert sorted(files) == sorted((tmp_path / "new" / "folder").iterdir())
    assert "score 0." in done.stderr
    record = json.loads(files[3].read_text())
    assert (record["width"], record["height"], record["model"]) == (451, 300, "nano")
    assert record["prompt"]["points"] == [[220, 150]]
    assert len(record["masks"]) == 3
    best = record["masks"][record["best"][0]]
    assert best["score"] == max(m["score"] for m in record["masks"])
    mask = rle.decode(best["rle"])
    assert mask.sum() == best["area"]
    np.testing.assert_array_equal(np.asarray(Image.open(files[1])) > 0, mask)
    assert Image.open(files[0]).mode == "RGBA"
    assert set(record["seconds"]) == {"decode", "encode", "segment", "write"}


def test_specks_are_dropped_and_holes_filled(run: Callable[..., Done], tmp_path: Path) -> None:
    call = ["segment", PHOTOS / "astronaut.jpg", "--box", "300,300,512,512", "--json", "--out"]
    plain, clean = (json.loads(run(*call, tmp_path / name, *more).stdout) for name, more in SPECKS)
    assert "min_region" not in plain
    assert clean["min_region"] == 300
    before, after = (rle.decode(record["masks"][0]["rle"]) for record in (plain, clean))
    assert not np.array_equal(before, after), "else the example shows nothing"
    np.testing.assert_array_equal(after, without_small_parts(before, 300))
    np.testing.assert_array_equal(np.asarray(Image.open(clean["files"]["mask"])) > 0, after)


SPECKS = [("plain", []), ("clean", ["--min-region", 300])]


def test_json_of_several_pictures_with_a_broken_one(run: Callable[..., Done], tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes((PHOTOS / "cat.jpg").read_bytes()[:9000])
    done = run(
        "segment", PHOTOS / "cat.jpg", broken, PHOTOS / "coffee.jpg", "--box", "100,50,300,250", "--json", "-o", tmp_path
    )
    assert done.returncode == 1
    first, second, third = json.loads(done.stdout)
    assert first["masks"][0]["area"] > 0
    assert second["error"] == "BrokenImage"
    assert third["image"].endswith("coffee.jpg")
    lines = done.stderr.splitlines()
    assert any(line.startswith(f"pointcut: {broken}: broken or cut off") for line in lines)
    assert lines[-1] == "2 of 3 pictures done, 1 failed"
    assert not list(tmp_path.glob("broken.*.png"))


@pytest.mark.parametrize(("verb", "box"), [("segment", "1,1,9,9"), ("batch", "1,1,9,9"), ("track", "0:1,1,9,9")])
def test_standard_input_that_is_closed(run: Callable[..., Done], tmp_path: Path, verb: str, box: str) -> None:
    done = run(verb, "-", "--box", box, "--out", tmp_path, stdin=None)
    assert done.returncode == 2
    assert "name a file" in done.stderr


def test_stdin_and_several_boxes(run: Callable[..., Done], tmp_path: Path) -> None:
    data = (PHOTOS / "coffee.jpg").read_bytes()
    done = run("segment", "-", "--box", "10,10,200,200", "--box", "200,100,400,300", "-o", tmp_path, stdin=data)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "stdin.json").read_text())
    assert [m["object"] for m in record["masks"]] == [0, 1]


def test_beside_the_picture_by_default_and_with_a_rough_mask(run: Callable[..., Done], tmp_path: Path) -> None:
    shutil.copy(PHOTOS / "cat.jpg", tmp_path / "my cat.jpg")
    rough = np.zeros((300, 451), np.uint8)
    rough[60:260, 150:330] = 255
    Image.fromarray(rough).save(tmp_path / "rough.png")
    done = run("segment", tmp_path / "my cat.jpg", "--mask", tmp_path / "rough.png", "--single")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "my cat.cutout.png").exists()


def test_nobody_s_files_are_written_over(run: Callable[..., Done], tmp_path: Path) -> None:
    cat = tmp_path / "cat.jpg"
    shutil.copy(CAT, cat)
    labelme = json.dumps({"version": "5.5.0", "shapes": [], "imagePath": "cat.jpg"})
    (tmp_path / "cat.json").write_text(labelme)
    done = run("segment", cat, "--point", "220,150")
    assert done.returncode == 2
    assert "cat.json is there and would be written over; choose another folder with --out DIR" in done.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "cat.jpg": CAT.read_bytes(),
        "cat.json": labelme.encode(),
    }
    (tmp_path / "cat.json").unlink()
    assert run("segment", cat, "--point", "220,150").returncode == 0
    assert run("segment", cat, "--point", "225,150").returncode == 0  # its own it writes anew
    mine = (tmp_path / "cat.mask.png").read_bytes()
    done = run("segment", cat, "--mask", tmp_path / "cat.mask.png")  # perhaps painted on since
    assert done.returncode == 2
    assert "cat.mask.png is there and would be written over" in done.stderr
    assert (tmp_path / "cat.mask.png").read_bytes() == mine
    assert run("segment", cat, tmp_path / "cat.cutout.png", "--point", "220,150").returncode == 2


def test_candidates_on_request(run: Callable[..., Done], tmp_path: Path) -> None:
    for flag, count in (("--multimask", 3), ("--single", 1)):
        done = run("segment", PHOTOS / "cat.jpg", "--point", "220,150", "--not", "20,20", flag, "--json", "-o", tmp_path)
        assert len(json.loads(done.stdout)["masks"]) == count


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nope.jpg", "--point", "1,1"], 1, "nope.jpg: no such file"),
        ([PHOTOS, "--point", "1,1"], 1, "is a folder"),
        (["empty.png", "--point", "1,1"], 1, "the file is empty"),
        (["text.png", "--point", "1,1"], 1, "not an image"),
        (["huge.png", "--point", "1,1"], 1, "limit"),
        ([CAT, "--point", "9999,1"], 2, "lies outside the picture, which is 451 x 300"),
        ([CAT, "--box", "5,5,5,9"], 2, "has no area"),
        ([CAT, "--point", "1,1", "--mask", "small.png"], 2, "picture's size"),
        ([CAT, "--point", "1,1", "--model", "sam3"], 2, "no model or file is called 'sam3'"),
        ([CAT, "--point", "1,1", "--model", "sam2.1-tiny"], 2, "HF_HUB_OFFLINE is set. Fetch https://"),
        ([CAT, "--point", "1,1", "--model", "text.png"], 2, "neither safetensors nor"),
        ([CAT, "--point", "1,1", "--device", "tpu"], 2, "no device is called 'tpu'"),
        ([CAT, "--point", "1,1", "--out", "text.png"], 1, "cannot be made"),
        ([CAT, "--point", "1,1", "--out", "/proc/none"], 1, "cannot be"),
    ],
)
def test_mistakes_give_one_line_and_no_file(
    arguments: list[object], code: int, message: str, run: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from test_images import png_header

    monkeypatch.chdir(tmp_path)
    Path("empty.png").touch()
    Path("text.png").write_text("this is no picture, and no weights either")
    Path("huge.png").write_bytes(png_header(65500, 65500))
    Image.new("L", (5, 5), 255).save("small.png")
    before = sorted(tmp_path.iterdir())
    if "--out" not in arguments:
        arguments = [*arguments, "--out", "results"]
    done = run("segment", *arguments)
    assert done.returncode == code, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert message in done.stderr
    assert done.stdout == ""
    assert [p for p in tmp_path.rglob("*") if p.is_file() and p not in before] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([CAT], "say what to cut"),
        ([CAT, "--point", "1"], "expected 2 numbers, as in 500,375"),
        ([CAT, "--point", "1,inf"], "expected 2 numbers"),
        ([CAT, "--box", "1,2,3"], "expected 4 numbers"),
        ([CAT, "--box", "1,2,3,4", "--box", "5,6,7,8", "--point", "1,1"], "several boxes are several objects"),
        ([CAT, PHOTOS / ".." / "photos" / "cat.jpg", "--point", "1,1", "-o", "x"], "name them apart"),
        (["--pont", "1,1"], "No such option"),
    ],
)
def test_usage_errors(arguments: list[object], message: str, run: Callable[..., Done]) -> None:
    done = run("segment", *arguments)
    assert done.returncode == 2
    assert message in done.stderr


def test_a_read_only_folder(run: Callable[..., Done], tmp_path: Path) -> None:
    """Whatever stops the writing: one line, exit code 1."""
    (tmp_path / "cat.cutout.png").mkdir()
    done = run("segment", CAT, "--point", "220,150", "-o", tmp_path)
    assert done.returncode == 1
    assert "cat.cutout.png: cannot be written" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_help_and_version(run: Callable[..., Done]) -> None:
    assert "segment" in run("--help").stdout
    assert "--point" in run("segment", "--help").stdout
    version = run("--version").stdout
    assert version.startswith("pointcut 0.")
    for way in ([Path(sys.executable).parent / "pointcut"], [sys.executable, "-m", "pointcut"]):
        script = subprocess.run([*way, "--version"], capture_output=True, text=True, check=True)
        assert script.stdout == version


def test_as_a_process(tmp_path: Path) -> None:
    """Once from outside, with nothing of this process: picture in, files and exit code out."""
    command = [Path(sys.executable).parent / "pointcut", "segment", PHOTOS / "cat.jpg", "-o", tmp_path]
    done = subprocess.run([*command, "--point", "220,150"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.iterdir())) == 4
    failed = subprocess.run([*command, "--point", "9999,1"], capture_output=True, text=True, check=False)
    assert (failed.returncode, len(failed.stderr.splitlines())) == (2, 1)


def test_interruption(run: Callable[..., Done], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pointcut.segment.segmenter.load", interrupt)
    done = run("segment", PHOTOS / "cat.jpg", "--point", "1,1")
    assert done.returncode == 130
    assert "Traceback" not in done.stderr


def test_shell_completion() -> None:
    script = subprocess.run(
        [Path(sys.executable).parent / "pointcut"],
        env=os.environ | {"_POINTCUT_COMPLETE": "complete_bash", "COMP_WORDS": "pointcut seg", "COMP_CWORD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "segment" in script.stdout, script


def test_models(run: Callable[..., Done]) -> None:
    rows = json.loads(run("models", "list", "--json").stdout)
    assert len(rows) == 13
    assert [r["name"] for r in rows if r["path"]] == ["nano"]
    assert "sam2.1-tiny" in run("models").stdout
    assert run("models", "where", "nano").stdout.strip().endswith(specs.BUILT_IN.name)
    absent = run("models", "where", "sam-vit-b")
    assert (absent.returncode, "models pull sam-vit-b" in absent.stderr) == (1, True)
    assert run("models", "verify").stdout.startswith("nano: ok")
    assert run("models", "pull", "nano").returncode == 0
    offline = run("models", "pull", "sam-vit-b")
    assert offline.returncode == 2
    assert "sam_vit_b_01ec64.pth" in offline.stderr


@pytest.mark.parametrize("verb", list(VERBS))
def test_a_verb_alone_is_the_verb_among_all(verb: str) -> None:
    """Only the verb that is asked for is built, and nobody can tell."""
    alone, among = (CliRunner().invoke(made, [verb, "--help"], prog_name="pointcut") for made in (command([verb]), app))
    assert alone.exit_code == among.exit_code == 0
    assert alone.output == among.output != ""


def test_python_looks_for_garbage_seldom_and_in_a_server_as_usual() -> None:
    script = """
import gc, sys
usual, frozen = gc.get_threshold(), gc.get_freeze_count()  # Python 3.12 begins with some
from pointcut.cli.garbage import collect_as_usual
from pointcut.cli.main import main
sys.argv = ["pointcut", "--version"]
try:
    main()
except SystemExit:
    pass
assert gc.get_threshold()[0] > 20 * usual[0], gc.get_threshold()
assert gc.get_freeze_count() == frozen
collect_as_usual()
assert gc.get_threshold() == usual
assert gc.get_freeze_count() > 1000
"""
    subprocess.run([sys.executable, "-c", script], check=True)
