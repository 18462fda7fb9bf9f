"""Pictures in parts: what is found does not depend on the grid, no mask ends at a seam, and memory stays that of a window."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFilter
from typer.testing import CliRunner

import pointcut
from pointcut import rle
from pointcut.cli.main import app
from pointcut.reading.large import Whole
from pointcut.tiles import Tiling, everything_in, segment_in
from pointcut.tiles.windows import Window

CONFIG = pointcut.AutomaticConfig(8, pred_iou_thresh=0.5, stability_score_thresh=0.7, stability_score_offset=0.5)


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, list[np.ndarray]]:
    """900 x 700 with discs small and large on quiet ground, and the mask of each disc."""
    rng = np.random.default_rng(3)
    ground = np.full((700, 900, 3), (60, 110, 70)) + rng.normal(0, 3, (700, 900, 3))
    picture = Image.fromarray(ground.clip(0, 255).astype(np.uint8))
    truth = []
    for x, y, radius, colour in (
        (150, 135, 45, (220, 60, 40)),
        (380, 225, 34, (240, 240, 250)),  # on the seams of tiles of 384
        (675, 380, 172, (230, 200, 60)),  # larger than what tiles share
        (248, 518, 56, (40, 60, 200)),
        (810, 90, 32, (250, 120, 200)),
    ):
        box = (x - radius, y - radius, x + radius, y + radius)
        ImageDraw.Draw(picture).ellipse(box, fill=colour)
        mask = Image.new("L", picture.size)
        ImageDraw.Draw(mask).ellipse(box, fill=1)
        truth.append(np.asarray(mask) > 0)
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(1))), truth


def best_ious(cut: pointcut.Segments, truth: list[np.ndarray]) -> list[float]:
    found = [rle.edges_of(mask) for mask in cut.rle()]
    ious = []
    for mask in truth:
        edges, area = rle.edges_of(rle.encode(mask)), int(mask.sum())
        shared = [rle.shared_area(one, edges) for one in found]
        areas = [int((one[1::2] - one[::2]).sum()) for one in found]
        ious.append(max(s / (area + a - s) for s, a in zip(shared, areas, strict=True)))
    return ious


@pytest.mark.slow
def test_everything_does_not_depend_on_the_grid(nano: pointcut.Segmenter, scene: tuple[np.ndarray, list[np.ndarray]]) -> None:
    image, truth = scene
    known: list[list[float]] = []
    seen: list[tuple[int, int]] = []
    # With 8 points a side the smallest disc gets a single one in tiles of 384, at its rim, and a mask two pixels too wide.
    config = replace(CONFIG, points_per_side=10)
    for tiling in (Tiling(384, 96), Tiling(512, 160)):
        cut = everything_in(nano, Whole(image), tiling, config, lambda *now: seen.append(now))
        known.append(best_ious(cut, truth))
        assert min(known[-1]) > 0.9, (tiling, known)  # how well the model knows discs
        assert np.mean(known[-1]) > 0.94, (tiling, known)
        for layer in tiling.layers(image.shape[:2])[:-1]:
            for window in layer:  # a cut mask would have a long straight side just there
                for edge in {window.x0, window.x1} - {0, 900}:
                    sides = [int((box[[0, 2]] == edge).sum()) for box in cut.boxes_xyxy]
                    long = [mask for mask, hit in zip(cut.rle(), sides, strict=True) if hit and rle.area(mask) > 5000]
                    assert all(_column(mask, edge) < 60 for mask in long), (tiling, edge)
    np.testing.assert_allclose(*known, atol=0.06)
    assert seen[0] == (1, sum(map(len, Tiling(384, 96).layers(image.shape[:2]))))


def _column(mask: pointcut.rle.Rle, x: int) -> int:
    """How many pixels of a mask lie along a column's sides."""
    drawn = rle.decode(mask)
    return int(max(drawn[:, min(x, drawn.shape[1] - 1)].sum(), drawn[:, x - 1].sum()))


@given(st.integers(64, 3000), st.integers(64, 3000), st.sampled_from([(64, 0), (128, 64), (512, 100)]))
def test_tiles_cover_everything_and_overlap(height: int, width: int, grid: tuple[int, int]) -> None:
    tiling = Tiling(*grid)
    layers = tiling.layers((height, width))
    assert layers[-1] == [Window(0, 0, width, height)]
    for number, layer in enumerate(layers[:-1]):
        side, overlap = tiling.side << number, tiling.overlap << number
        xs, ys = (sorted({(getattr(w, f"{a}0"), getattr(w, f"{a}1")) for w in layer}) for a in "xy")
        for starts, length in ((xs, width), (ys, height)):
            assert starts[0][0] == 0
            assert starts[-1][1] == length
            assert all(after[0] <= before[1] - overlap for before, after in pairwise(starts))
            assert all(end - start == min(side, length) for start, end in starts)
    with pytest.raises(pointcut.InputError):
        Tiling(512, 300)


def test_a_click_sees_as_much_as_the_object_needs(nano: pointcut.Segmenter, scene: tuple[np.ndarray, list[np.ndarray]]) -> None:
    image, truth = scene
    small = segment_in(nano, Whole(image), points=[(150, 135)], side=192)
    large = segment_in(nano, Whole(image), points=[(675, 380)], side=192)
    assert (small.window.x1 - small.window.x0, large.window.x1 - large.window.x0) == (192, 384)
    for found, mask in ((small, truth[0]), (large, truth[2])):
        assert max(pointcut.masks.iou(one, mask) for one in found.placed.masks) > 0.9
        np.testing.assert_array_equal(found.placed.prompts[0].points, [[150, 135]] if found is small else [[675, 380]])
    box = segment_in(nano, Whole(image), boxes=(495, 200, 855, 560), side=192)
    assert box.window == Window(132, 0, 900, 700)
    assert pointcut.masks.iou(box.placed.mask(0), truth[2]) > 0.9
    with pytest.raises(pointcut.InvalidPrompt, match="one object at a time"):
        segment_in(nano, Whole(image), points=[[(5, 5)], [(9, 9)]])


BOUNDED = """
import json, sys, psutil, numpy as np, rasterio
from itertools import pairwise
from pathlib import Path
import pointcut
from pointcut.reading.large import open_large
from pointcut.tiles import Tiling, everything_in, segment_in
model = pointcut.load("nano", device="cpu")
model.encode(np.zeros((1024, 1024, 3), np.uint8)).segment(points=[(5, 5)])
process, peaks = psutil.Process(), []
before = process.memory_info().rss
with open_large(sys.argv[1]) as picture:
    size = picture.height, picture.width
    found = segment_in(model, picture, points=[(20000, 15000)])
    areas = found.placed.areas.tolist()
    config = pointcut.AutomaticConfig(1, pred_iou_thresh=0.5, stability_score_thresh=0.5)
    def watch(done, total):
        peaks.append(process.memory_info().rss - before)
        if done >= 12:
            raise KeyboardInterrupt
    try:
        everything_in(model, picture, Tiling(1024, 256), config, watch)
    except KeyboardInterrupt:
        pass
print(json.dumps({"size": size, "areas": areas, "grown": max(peaks)}))
"""


def test_memory_is_that_of_a_window(tmp_path: Path) -> None:
    """24,000 x 20,000 pixels: 1.4 GB as RGB."""
    path = tmp_path / "huge.tif"
    shape = {"width": 24_000, "height": 20_000, "count": 3, "dtype": "uint8"}
    layout = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "sparse_ok": True}
    with rasterio.open(path, "w", driver="GTiff", crs="EPSG:32633", **shape, **layout) as file:
        block = np.full((3, 512, 512), 90, np.uint8)
        block[:, 100:400, 100:400] = 220
        file.write(block, window=rasterio.windows.Window(19_750, 14_750, 512, 512))
    done = subprocess.run([sys.executable, "-c", BOUNDED, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert told["size"] == [20_000, 24_000]
    assert len(told["areas"]) == 3
    assert told["grown"] < 400e6


@pytest.mark.slow
def test_the_command(scene: tuple[np.ndarray, list[np.ndarray]], tmp_path: Path) -> None:
    image, truth = scene
    path = tmp_path / "map.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=900,
        height=700,
        count=3,
        dtype="uint8",
        crs="EPSG:32633",
        transform=(2, 0, 500_000, 0, -2, 6e6),
    ) as file:
        file.write(image.transpose(2, 0, 1))

    def call(*arguments: object, code: int = 0) -> str:
        result = CliRunner().invoke(app, list(map(str, arguments)))
        assert result.exit_code == code, (result.output, result.exception)
        return result.stdout

    call("segment", path, "--point", "150,135", "--tile", 192, "--out", tmp_path / "cut")
    record = json.loads((tmp_path / "cut" / "map.json").read_text())
    assert (record["width"], record["height"], record["window_xyxy"]) == (900, 700, [54, 39, 246, 231])
    assert record["map"]["crs"] == "EPSG:32633"
    assert Image.open(tmp_path / "cut" / "map.cutout.png").size == (192, 192)
    best = rle.decode(record["masks"][record["best"][0]]["rle"])
    assert best.shape == (700, 900)
    call("segment", path, "--point", "150,135", "--tile", 192, "--min-region", 10_000_000, "--out", tmp_path / "filled")
    filled = json.loads((tmp_path / "filled" / f"{path.stem}.json").read_text())
    assert filled["min_region"] == 10_000_000
    assert all(mask["area"] == 192**2 for mask in filled["masks"]), "less than that is a hole of the window"
    call("auto", path, "--tile", 512, "--points", 6, "--out", tmp_path / "auto", "--format", "coco,geojson")
    call("batch", path, "--tile", 512, "--points", 6, "--out", tmp_path / "batch", "--format", "coco,geojson")
    for folder in ("auto", "batch"):
        features = json.loads((tmp_path / folder / "map.geojson").read_text())["features"]
        outlines = [np.array(ring[0]) for feature in features for ring in feature["geometry"]["coordinates"]]
        centre = np.array([500_000 + 2 * 248, 6e6 - 2 * 518])
        assert any(np.abs((o.min(0) + o.max(0)) / 2 - centre).max() < 12 for o in outlines), "the blue disc, on the map"
    call("batch", path, "--tile", 512, "--box", "190,460,306,576", "--out", tmp_path / "boxes")
    dataset = json.loads((tmp_path / "boxes" / "annotations.json").read_text())
    assert pointcut.masks.iou(rle.decode(dataset["annotations"][0]["segmentation"]), truth[3]) > 0.9
    call("auto", path, "--tile", 512, "--format", "overlay", "--out", tmp_path / "no", code=2)
    call("batch", path, "--tile", 512, "--format", "overlay", "--out", tmp_path / "no", code=1)
    call("segment", path, "--text", "a disc.", "--tile", 512, code=2)
