"""`pointcut auto`, `count` and `eval`, as a person or a program calls them."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from typer.testing import CliRunner

import pointcut
from pointcut.cli.main import app
from pointcut.errors import InputError
from pointcut.evaluate.data import examples

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


def blobs(path: Path, places: list[tuple[int, int]]) -> Path:
    """Bright discs on a dark ground, 16 bits deep, with a speck that outshines them."""
    y, x = np.mgrid[:240, :320]
    values = np.full((240, 320), 1000, np.uint16)
    for cx, cy in places:
        values[np.hypot(x - cx, y - cy) < 24] = 9000
    values[0, 0] = 60_000
    Image.fromarray(values).save(path)
    return path


def test_counting_in_several_pictures(tmp_path: Path) -> None:
    """One is pointed at in the first, and counted in all; what is measured goes into a table."""
    first = blobs(tmp_path / "1.tif", [(60, 60), (160, 60), (260, 60), (60, 180)])
    second = blobs(tmp_path / "2.tif", [(100, 120), (220, 120)])
    (tmp_path / "3.tif").write_bytes(b"no picture")
    options = [
        "--like",
        "60,60",
        "--scale",
        "0,10000",
        "--points",
        8,
        "--out",
        tmp_path / "out",
        "--csv",
        tmp_path / "things.csv",
    ]
    answers = json.loads(call("count", first, second, tmp_path / "3.tif", *options, "--json", code=1))
    assert [answer.get("count") for answer in answers] == [4, 2, None]
    assert answers[2]["error"] == "UnsupportedImage"
    with (tmp_path / "things.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["image"]).name for row in rows] == ["1.tif"] * 4 + ["2.tif"] * 2
    disc = np.pi * 24**2
    assert all(0.8 * disc < int(row["area"]) < 1.25 * disc for row in rows)
    assert [float(row["x0"]) for row in rows] == [thing["box_xyxy"][0] for answer in answers[:2] for thing in answer["things"]]
    assert Image.open(tmp_path / "out" / "2.count.png").size == (320, 240)
    printed = call("count", first, second, *options).splitlines()
    assert printed == [
        f"4\t{first}",
        f"{tmp_path}/out/1.count.png",
        f"2\t{second}",
        f"{tmp_path}/out/2.count.png",
        options[-1].__fspath__(),
    ]
    again = CliRunner().invoke(app, ["count", str(first), str(first), "--out", str(tmp_path)])
    assert again.exit_code == 2
    assert "written to the same file" in again.output
    broken = CliRunner().invoke(app, ["count", str(tmp_path / "3.tif"), str(first), "--like", "1,1"])
    assert isinstance(broken.exception, pointcut.UnreadableImage)


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


def test_data_that_cannot_be_judged_by(tmp_path: Path) -> None:
    """Said at once, and of which file."""
    discs(tmp_path)
    mask = tmp_path / "easy" / "masks" / "1.png"
    labels = np.asarray(Image.open(mask))
    wrong: list[tuple[Image.Image | bytes, str]] = [
        (b"no picture", r"1\.png: cannot be read as a label picture"),
        (Image.fromarray(np.dstack([labels] * 3)), r"1\.png: holds colours"),
        (
            Image.fromarray(labels[:100]),
            r"1\.png: has labels for \(100, 160\) pixels \(height, width\), its picture is \(120, 160\)",
        ),
    ]
    for content, message in wrong:
        content.save(mask) if isinstance(content, Image.Image) else mask.write_bytes(content)
        with pytest.raises(InputError, match=message):
            list(examples(tmp_path, 1))
    for path in mask.parent.iterdir():
        Image.fromarray((labels == 1).astype(np.uint8) * 255).save(path)
    with pytest.raises(InputError, match=r"no objects in the 2 label pictures .* 255 does not count"):
        list(examples(tmp_path, 1))
    Image.fromarray(labels == 1).save(mask)  # one bit a pixel
    (mask.parent.parent / "images" / "._1.png").write_bytes(b"of macOS")
    (mask.parent / "._1.png").write_bytes(b"of macOS")
    (example,) = examples(tmp_path, 1)
    np.testing.assert_array_equal(example.truths[0], labels == 1)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "linked").symlink_to(tmp_path / "easy")
    (elsewhere / "back").symlink_to(elsewhere)
    (example,) = examples(elsewhere, 1)
    assert example.set_name == "linked"
    (tmp_path / "easy" / "images" / "1.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"images/1\.png"):
        list(examples(tmp_path, 1))


@pytest.mark.slow
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
