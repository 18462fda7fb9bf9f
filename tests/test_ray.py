"""The Ray engine on a cluster of two logical processors: the same files as the local one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import ray
from PIL import Image
from typer.testing import CliRunner

import pointcut
from pointcut.batch.inputs import Pointed, Task, tasks_in
from pointcut.batch.journal import NAME
from pointcut.batch.on_ray import ray_engine, task_of
from pointcut.batch.run import run_batch
from pointcut.batch.work import BatchJob
from pointcut.cli.main import app

from conftest import files_of

BOX = Pointed(boxes=((10.0, 10.0, 50.0, 40.0),), names=("thing",))


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """Begun once, found by `auto`."""
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=120 << 20, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty small pictures, two of them broken: more than travel together."""
    folder = tmp_path_factory.mktemp("album")
    rng = np.random.default_rng(0)
    for i in range(40):
        pixels = rng.integers(0, 60, (60, 80, 3), dtype=np.uint8)
        pixels[10:40, 10 + i % 20 : 50 + i % 20] += 150
        (folder / str(i % 3)).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / str(i % 3) / f"{i:02d}.png")
    (folder / "0" / "03.png").write_bytes(b"no picture")
    (folder / "1" / "04.png").write_bytes((folder / "1" / "07.png").read_bytes()[:200])
    return folder


def test_the_same_files_as_the_local_engine(album: Path, tmp_path: Path) -> None:
    tasks, job = tasks_in([str(album)]), BatchJob("nano", "exact", ("coco", "png", "overlay", "parquet"), BOX)
    seen: list[tuple[int, int, int]] = []
    here = run_batch(tasks, job, tmp_path / "local")
    engine = ray_engine("auto", "cpu", 2)
    there = run_batch(tasks, job, tmp_path / "ray", engine=engine, progress=lambda *now: seen.append(now))
    assert files_of(tmp_path / "ray") == files_of(tmp_path / "local")
    assert len(files_of(tmp_path / "ray")) == 3 + 2 * 38
    assert (there.masks, there.failed) == (here.masks, here.failed)
    assert [one["error"] for one in there.failed] == ["UnsupportedImage", "BrokenImage"]
    assert set(there.where) == {"read", "encode", "segment", "write"}
    assert seen[-1] == (40, 40, 2)


def test_it_goes_on_where_either_engine_was(album: Path, tmp_path: Path) -> None:
    tasks, job = tasks_in([str(album)]), BatchJob("nano", "exact", ("coco", "png"), BOX)
    engine = ray_engine("auto", "cpu", None)
    run_batch(tasks, job, tmp_path / "whole")
    run_batch(tasks[:11], job, tmp_path / "parts")
    report = run_batch(tasks[:30], job, tmp_path / "parts", engine=engine)
    assert report.resumed == 11
    journal = tmp_path / "parts" / NAME
    journal.write_bytes(journal.read_bytes()[:-20])  # killed in the middle of a line
    report = run_batch(tasks, job, tmp_path / "parts", engine=engine)
    assert report.resumed == 29
    assert files_of(tmp_path / "parts") == files_of(tmp_path / "whole")
    assert run_batch(tasks, job, tmp_path / "parts", engine=engine).resumed == 40


def test_what_no_actor_can_do_is_said(album: Path, tmp_path: Path) -> None:
    with pytest.raises(pointcut.UnknownModel, match="no model or file is called 'nope'"):
        run_batch(
            tasks_in([str(album)]), BatchJob("nope", "exact", ("coco",), BOX), tmp_path, engine=ray_engine("auto", "cpu", 1)
        )


def test_the_command(album: Path, tmp_path: Path) -> None:
    """With a list of addresses, as object storage has them."""
    names = "\n".join(path.as_uri() for path in sorted((album / "2").iterdir()))
    arguments = ["-", "--box", "10,10,50,40", "--engine", "ray", "--address", "auto", "--out", str(tmp_path), "--json"]
    result = CliRunner().invoke(app, ["batch", *arguments], input=names)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["pictures"] == 13
    assert CliRunner().invoke(app, ["batch", str(album), "--engine", "spark"]).exit_code == 2
    assert CliRunner().invoke(app, ["batch", str(album), "--address", "auto"]).exit_code == 2


@pytest.mark.parametrize("pointed", [None, BOX, Pointed((((1.0, 2.0), (3.0, 4.0)),), ((1, 0),), (), ("a",))])
def test_tasks_survive_the_journey(pointed: Pointed | None) -> None:
    for task in (Task("a.tif", Path("x/a.tif"), pointed, 3), Task("b", "s3://c/b.jpg", pointed)):
        assert task_of(json.dumps(asdict(task), default=str)) == task
