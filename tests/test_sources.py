"""Which pictures are taken out of folders and patterns, and which are left out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from pyarrow import parquet
from typer.testing import CliRunner

import pointcut
from pointcut.batch.inputs import tasks_in
from pointcut.batch.journal import NAME
from pointcut.cli.main import app
from pointcut.files import replacing

from conftest import PHOTOS, files_of


def touched(folder: Path, *names: str) -> Path:
    """Empty files, which is all that looking for pictures asks for."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def taken(source: Path | str, out: Path | None = None) -> list[str]:
    return [task.name for task in tasks_in([str(source)], out)]


def test_what_is_hidden_is_left_out(tmp_path: Path) -> None:
    touched(tmp_path, "a/1.jpg", "a/._1.jpg", ".ipynb_checkpoints/1-checkpoint.png", ".hidden.png", "notes.txt", "2.HEIC")
    assert taken(tmp_path) == ["2.HEIC", "a/1.jpg"]
    assert taken(tmp_path / ".ipynb_checkpoints") == ["1-checkpoint.png"]  # who names it means it


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    touched(tmp_path, "far/1.jpg", "here/2.jpg")
    (tmp_path / "here" / "linked").symlink_to(tmp_path / "far")
    (tmp_path / "far" / "back").symlink_to(tmp_path / "here")
    (tmp_path / "here" / "gone").symlink_to(tmp_path / "nowhere")
    assert taken(tmp_path / "here") == ["2.jpg", "linked/1.jpg"]


def test_a_folder_that_may_not_be_read_is_passed_over() -> None:
    with TemporaryDirectory() as name:
        folder = touched(Path(name), "1.jpg", "closed/2.jpg")
        folder.chmod(0o755)
        (folder / "closed").chmod(0)
        root = os.geteuid() == 0  # who may read everything
        try:
            if root:
                os.seteuid(65534)
            assert taken(folder) == ["1.jpg"]
        finally:
            if root:
                os.seteuid(0)
            (folder / "closed").chmod(0o700)


def test_what_pointcut_has_made_is_left_out(tmp_path: Path) -> None:
    made = ("1.cutout.png", "1.mask.png", "1.overlay.png", "1.labels.png", "1.count.png", "1.cutouts/001.png")
    touched(tmp_path, "1.jpg", *made, "2.overlay.png")
    assert taken(tmp_path) == ["1.jpg", "2.overlay.png"]  # whose is the second? somebody's
    touched(tmp_path / "cut", "4.json", "4.cutout.png", "4.overlay.png")  # by segment, of what lies elsewhere
    assert taken(tmp_path) == ["1.jpg", "2.overlay.png"]
    out = touched(tmp_path / "found", "far/2.overlay.png", "far/2.cutouts/001.png", "3.png")
    assert taken(tmp_path, out) == ["1.jpg", "2.overlay.png", "found/3.png"]
    assert taken(tmp_path) == [
        "1.jpg",
        "2.overlay.png",
        "found/3.png",
        "found/far/2.cutouts/001.png",
        "found/far/2.overlay.png",
    ]
    touched(out, NAME)  # of a run with another --out
    assert taken(tmp_path) == ["1.jpg", "2.overlay.png", "found/3.png"]


def test_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touched(tmp_path, "p/a/1.jpg", "p/b/1.jpg", "p/b/2.png", "p/b/c/3.jpg", "p/b/notes.txt", "[x].jpg")
    assert taken(f"{tmp_path}/p/*/1.*") == ["a/1.jpg", "b/1.jpg"]
    assert taken(f"{tmp_path}/p/**/*.jpg") == ["a/1.jpg", "b/1.jpg", "b/c/3.jpg"]
    monkeypatch.chdir(tmp_path / "p")
    assert taken("b/*") == ["1.jpg", "2.png"]
    assert taken("*/?.png") == ["b/2.png"]
    assert taken("*.gif") == []
    assert taken(tmp_path / "[x].jpg") == ["[x].jpg"]  # a file that is called so


def test_patterns_leave_out_what_pointcut_has_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touched(
        tmp_path, "p/1.png", "p/1.overlay.png", "p/1.cutouts/001.png", "out/2.overlay.png", "run/3.overlay.png", f"run/{NAME}"
    )
    assert taken(f"{tmp_path}/**/*.png", tmp_path / "out") == ["p/1.png"]
    monkeypatch.chdir(tmp_path / "p")
    assert taken("./*.png") == ["1.png"]
    assert taken("../p/*.png") == ["1.png"]
    assert taken("nowhere/*.png") == []


@pytest.mark.parametrize("out", ["found", "."])
def test_results_among_the_pictures(tmp_path: Path, out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose results lie among its pictures, or beside them, ends the same when it is called again."""
    shutil.copy(PHOTOS / "cat.jpg", tmp_path)
    monkeypatch.chdir(tmp_path)

    def call() -> dict[str, object]:
        arguments = ["batch", ".", "--box", "30,0,370,299", "--out", out, "--format", "overlay,png,cutout", "--json"]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, (result.output, result.exception)
        return json.loads(result.stdout)

    assert call()["pictures"] == 1
    before = files_of(tmp_path)
    assert sum(name.endswith(".png") for name in before) == 3
    again = call()
    assert (again["pictures"], again["resumed"]) == (1, 1)
    assert files_of(tmp_path) == before


def test_names_that_are_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As folders of older systems have them: what holds text gets one that can be written."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(PHOTOS / "cat.jpg", os.fsencode(tmp_path) + b"/caf\xe9.jpg")

    def call(*arguments: str) -> str:
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, (result.output, result.exception)
        return result.stdout

    cat = "--box", "30,0,370,299"
    call("batch", ".", *cat, "--format", "parquet,coco,yolo,overlay", "--out", "found")
    assert parquet.read_table("found/masks.parquet")["image"].to_pylist() == ["caf\\udce9.jpg"]
    assert os.path.exists(b"found/caf\xe9.overlay.png")
    count = [sys.executable, "-m", "pointcut", "count", b"caf\xe9.jpg", "--csv", "things.csv", "--points", "4"]
    strict = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}  # as in a terminal
    printed = subprocess.run(count, check=True, capture_output=True, env=strict).stdout
    assert b"\ncaf\xe9.count.png\n" in printed
    assert all(line.startswith("caf\\udce9.jpg,") for line in Path("things.csv").read_text(encoding="utf-8").splitlines()[1:])
    call("index", "add", os.fsdecode(b"caf\xe9.jpg"), *("--boxes", "found/annotations.json"), "--index", "library")
    assert "caf\\udce9.jpg" in call("index", "list", "--index", "library")


def test_the_longest_name(tmp_path: Path) -> None:
    path = tmp_path / f"{'x' * 251}.txt"
    with replacing(path) as temporary:
        temporary.write_text("whole")
    assert files_of(tmp_path) == {path.name: b"whole"}


def test_what_is_wrong_with_another_file_is_said_of_that(tmp_path: Path) -> None:
    """`OutputError` is an `OSError`: it passes through as it is."""
    with pytest.raises(pointcut.OutputError, match=r"other\.txt: cannot"), replacing(tmp_path / "one.txt"):
        raise pointcut.OutputError("other.txt: cannot be written")
    assert list(tmp_path.iterdir()) == []


def test_no_pictures(tmp_path: Path) -> None:
    for verb in ("batch", "run", ("index", "add")):
        result = CliRunner().invoke(app, [*([verb] if isinstance(verb, str) else verb), str(tmp_path)])
        assert isinstance(result.exception, pointcut.InputError)
        assert str(result.exception).startswith(f"no pictures in {tmp_path}")
