"""`pointcut auto`, `count` and `eval`, as a person or a program calls them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from typer.testing import CliRunner

from pointcut.cli.main import app
from pointcut.errors import InputError

from conftest import PHOTOS
from films import ball, truth

CAT = str(PHOTOS / "cat.jpg")


def call(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, (result.exit_code, result.output, result.exception)
    return result.stdout


def test_auto_writes_what_it_prints(tmp_path: Path) -> None:
    printed = json.loads(call("auto", CAT, "--points", 6, "--out", tmp_path, "--format", "coco,png,overlay", "--json"))
    (image,) = printed["images"]
    assert {Path(f).name for f in printed["files"]} == {"cat.labels.png", "cat.overlay.png", "annotations.json"}
    dataset = json.loads((tmp_path / "annotations.json").read_text())
    assert len(dataset["annotations"]) == len(image["masks"]) >= 3
    for mask, annotation in zip(image["masks"], dataset["annotations"], strict=True):
        assert mask["rle"] == annotation["segmentation"]
        assert coco_mask.area(mask["rle"]) == mask["area"]
        assert mask["part_of"] is None or image["masks"][mask["part_of"]]["area"] > mask["area"]


def test_auto_choices(tmp_path: Path) -> None:
    def masks(*options: object) -> list[dict]:
        printed = call("auto", CAT, "--points", 6, "--out", tmp_path, "--format", "coco", "--json", *options)
        return json.loads(printed)["images"][0]["masks"]

    everything = masks("--duplicates", "box")
    assert len(masks("--duplicates", "whole")) <= len(everything)
    assert all(mask["area"] >= 2000 for mask in masks("--min-area", 2000))
    assert all(mask["score"] > 0.6 for mask in masks("--min-score", 0.6))
    assert all(0 not in mask["box_xyxy"][:2] for mask in masks("--no-border"))
    assert masks("--fast")
    assert masks("--min-score", 0.999) == []


def test_auto_goes_on_past_a_broken_picture(tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    printed = call("auto", broken, CAT, "--points", 3, "--out", tmp_path, "--format", "coco", "--json", code=1)
    first, second = json.loads(printed)["images"]
    assert first["error"] == "UnsupportedImage"
    assert "masks" in second
    assert [i["file_name"] for i in json.loads((tmp_path / "annotations.json").read_text())["images"]] == ["cat.jpg"]


@pytest.mark.parametrize(
    "wrong",
    [["--format", "tiff"], ["--duplicates", "never"], ["--points", "0"], ["--crop-layers", "9"], ["--device", "abacus"]],
)
def test_auto_refuses(wrong: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["auto", CAT, "--out", str(tmp_path / "out"), *wrong])
    assert result.exit_code != 0
    assert not (tmp_path / "out" / "annotations.json").exists()


def test_count(tmp_path: Path) -> None:
    coffee = PHOTOS / "coffee.jpg"
    printed = json.loads(call("count", coffee, "--points", 8, "--out", tmp_path, "--json"))
    assert printed["count"] == len(printed["things"]) >= 1
    assert Image.open(printed["picture"]).size == (600, 400)
    alike = json.loads(call("count", coffee, "--like", "300,100", "--points", 8, "--out", tmp_path, "--json"))
    assert all(thing["similarity"] >= 0.5 for thing in alike["things"])
    assert call("count", coffee, "--points", 4, "--out", tmp_path).splitlines()[0].isdigit()


def discs(folder: Path) -> None:
    """Two labelled pictures of a disc and a bar, each easy to cut out."""
    (folder / "easy" / "images").mkdir(parents=True)
    (folder / "easy" / "masks").mkdir()
    y, x = np.mgrid[:120, :160]
    for i in range(2):
        labels = np.zeros((120, 160), np.uint8)
        labels[np.hypot(x - 45 - 10 * i, y - 60) < 28] = 1
        labels[20:100, 110:135] = 2
        labels[:, 158:] = 255
        colours = np.array([[200, 205, 210], [180, 40, 30], [30, 80, 170]], np.uint8)
        Image.fromarray(colours[np.where(labels > 2, 0, labels)]).save(folder / "easy" / "images" / f"{i}.png")
        Image.fromarray(labels).save(folder / "easy" / "masks" / f"{i}.png")


def test_eval(tmp_path: Path) -> None:
    discs(tmp_path)
    printed = json.loads(call("eval", tmp_path, "--automatic", "--sheet", tmp_path / "worst.png", "--json"))
    nano, random, box, grabcut = printed["sets"]["easy"].values()
    assert nano["objects"] == 4
    assert nano["box IoU"] > 0.85 > random["box IoU"]
    assert nano["NoC@80"] < random["NoC@80"] == 20
    assert nano["boundary F"] > random["boundary F"]
    assert nano["1 click, best"] >= nano["1 click, own"]
    assert 0.75 < box["box IoU"] < 0.95  # a disc fills pi/4 of its box, the bar all of it
    assert grabcut["box IoU"] > 0.9
    assert 0 <= nano["recall@0.75"] <= nano["recall@0.5"] <= 1
    assert len(printed["objects"]) == 16
    assert Image.open(tmp_path / "worst.png").width > 500
    assert call("eval", tmp_path, "--no-baselines").startswith("| set | contender | objects |")


def test_following_is_judged_beside_baselines(tmp_path: Path) -> None:
    for i in range(6):
        for kind, picture in (("images", ball(4 * i)), ("masks", truth(4 * i).astype(np.uint8))):
            folder = tmp_path / "films" / "ball" / kind
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(folder / f"{i}.png")
    for i, side in enumerate((40, 50)):  # photographs of several sizes are no film
        for kind in ("images", "masks"):
            folder = tmp_path / "stills" / "photographs" / kind
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.ones((side, side), np.uint8)).save(folder / f"{i}.png")
    judged = json.loads(call("eval", tmp_path, "--films", 6, "--json"))["films"]
    assert {row["film"] for row in judged} == {"ball"}
    rows = {row["follower"]: row for row in judged}
    mask, click, repeated, flow = rows.values()
    assert mask["J&F"] > repeated["J&F"]
    assert 0.2 < repeated["J"] < 0.7  # the ball rolls 20 of its 36 pixels away
    assert flow["J"] > repeated["J"]
    assert 0 <= click["J&F"] <= 1


@pytest.mark.slow
def test_interrupted_films(tmp_path: Path) -> None:
    """Two films, each cut into by the other: what repeats the first mask never notices, and is right again afterwards."""
    for name, way in (("right", 4), ("left", -4)):
        for i in range(6):
            for kind, picture in (("images", ball(way * i)), ("masks", truth(way * i).astype(np.uint8))):
                folder = tmp_path / "films" / name / kind
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture).save(folder / f"{i}.png")
    rows = json.loads(call("eval", tmp_path, "--films", 6, "--cut-away", 2, "--json"))["absence"]
    assert [row["film"] for row in rows[::4]] == ["left, right", "right, left"]
    mask, _, repeated, _ = rows[:4]
    assert repeated["noticed"] == repeated["denied"] == 0 < repeated["J after"] < mask["J after"]
    assert 0 <= mask["noticed"] <= 1
    (line,) = (
        row for row in call("eval", tmp_path, "--films", 6, "--cut-away", 2).splitlines() if "| gone, and noticed" in row
    )
    assert line.endswith("J after it is back |")
    shutil.rmtree(tmp_path / "films" / "left")
    for words, said in (
        (["--cut-away", 2], "--films FRAMES"),
        (["--films", 6, "--cut-away", 2], "at least two of the same size"),
    ):
        refused = CliRunner().invoke(app, ["eval", str(tmp_path), *map(str, words)])
        assert isinstance(refused.exception, InputError)
        assert said in str(refused.exception)


def test_eval_of_nothing(tmp_path: Path) -> None:

    result = CliRunner().invoke(app, ["eval", str(tmp_path)])
    assert isinstance(result.exception, InputError)
