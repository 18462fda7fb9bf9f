"""Every format is read back, with the loss that docs/formats.md states."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from pointcut import rle
from pointcut.errors import InputError, MissingExtra
from pointcut.export import FORMATS, Record, open_writers
from pointcut.export.polygons import area, polygons
from pointcut.masks import iou
from pointcut.segments import Segments

H, W = 120, 160


def shapes() -> np.ndarray:
    """A ring, two islands, a diagonal band, one pixel, and the whole picture."""
    y, x = np.mgrid[:H, :W]
    far = np.hypot(x - 60, y - 60)
    masks = np.zeros((5, H, W), bool)
    masks[0] = (far < 40) & (far > 18)
    masks[1, 5:25, 100:140] = masks[1, 80:110, 110:150] = True
    masks[2] = abs(x - y - 20) < 9
    masks[3, 30, 30] = True
    masks[4] = True
    return masks


@pytest.fixture
def cut() -> Segments:
    masks = shapes()
    image = np.random.default_rng(0).integers(0, 255, (H, W, 3), dtype=np.uint8)
    scores = np.linspace(0.9, 0.5, 5, dtype=np.float32)
    stored = tuple(rle.encode(mask) for mask in masks)
    return Segments(image, stored, scores, scores, np.zeros((5, 2, 2), np.float32), np.arange(5))


@pytest.fixture
def written(cut: Segments, tmp_path: Path) -> Path:
    labels = ("ring", "pair", "band", "dot", "ring")
    with open_writers(tmp_path, list(FORMATS)) as writers:
        writers.add(Record("one.jpg", cut, labels))
        writers.add(Record("two.jpg", cut[[0, 2]]))
    assert {path.name for path in writers.files} >= {"annotations.json", "data.yaml", "one.txt", "two.npz", "labelstudio.json"}
    assert not [path for path in tmp_path.rglob("*") if ".tmp" in path.name]
    return tmp_path


def filled(outline: np.ndarray, size: tuple[int, int] = (H, W), scale: int = 8) -> np.ndarray:
    """A polygon drawn: true where a pixel's middle is inside."""
    big = np.zeros((size[0] * scale, size[1] * scale), np.uint8)
    cv2.fillPoly(big, [(np.asarray(outline) * scale).round().astype(np.int32)], 1)
    return big[scale // 2 :: scale, scale // 2 :: scale].astype(bool)


def test_coco_is_exact(written: Path, cut: Segments) -> None:
    dataset = COCO(str(written / "annotations.json"))
    assert [image["file_name"] for image in dataset.imgs.values()] == ["one.jpg", "two.jpg"]
    annotations = dataset.loadAnns(dataset.getAnnIds(imgIds=[1]))
    for row, annotation in enumerate(annotations):
        np.testing.assert_array_equal(dataset.annToMask(annotation).astype(bool), cut.mask(row))
        assert annotation["area"] == coco_mask.area(annotation["segmentation"]) == cut.areas[row]
        np.testing.assert_allclose(annotation["bbox"], coco_mask.toBbox(annotation["segmentation"]))
    assert [category["name"] for category in dataset.cats.values()] == ["ring", "pair", "band", "dot", "object"]


def test_npz_and_labels_are_exact(written: Path, cut: Segments) -> None:
    with np.load(written / "one.npz", allow_pickle=False) as data:
        np.testing.assert_array_equal(data["masks"], cut.masks)
        np.testing.assert_array_equal(data["areas"], cut.areas)
        np.testing.assert_allclose(data["boxes_xyxy"], cut.boxes_xyxy)
    labels = np.asarray(Image.open(written / "one.labels.png"))
    assert labels[30, 30] in (1, 4)
    assert labels[0, 0] == 5
    assert labels[50, 70] == 3  # inside the ring's hole lies the band, smaller than the whole
    assert Image.open(written / "one.overlay.png").size == (W, H)


def test_yolo_loses_holes_only(written: Path, cut: Segments) -> None:
    lines = [line.split() for line in (written / "labels" / "one.txt").read_text().splitlines()]
    by_class: dict[int, np.ndarray] = {}
    for number, *values in lines:
        outline = np.array(values, float).reshape(-1, 2) * (W, H)
        assert (outline >= 0).all()
        by_class[int(number)] = by_class.get(int(number), np.zeros((H, W), bool)) | filled(outline)
    assert iou(by_class[1], cut.mask(1)) > 0.98
    assert iou(by_class[2], cut.mask(2)) > 0.95
    assert 'names:\n  0: "ring"' in (written / "data.yaml").read_text()


def test_geojson_keeps_holes(written: Path, cut: Segments) -> None:
    features = json.loads((written / "one.geojson").read_text())["features"]
    assert [f["properties"]["label"] for f in features] == ["ring", "pair", "band", "dot", "ring"]
    for row, least in ((0, 0.96), (1, 0.98), (2, 0.95), (4, 0.99)):
        mask = np.zeros((H, W), bool)
        for outline, *holes in features[row]["geometry"]["coordinates"]:
            assert outline[0] == outline[-1]
            part = filled(outline)
            for hole in holes:
                part &= ~filled(hole)
            mask |= part
        assert iou(mask, cut.mask(row)) > least, row
    assert len(features[0]["geometry"]["coordinates"][0]) == 2
    assert len(features[1]["geometry"]["coordinates"]) == 2


def test_labelme_and_label_studio(written: Path, cut: Segments) -> None:
    document = json.loads((written / "one.json").read_text())
    assert (document["imageHeight"], document["imageWidth"], document["imagePath"]) == (H, W, "one.jpg")
    pair = [shape for shape in document["shapes"] if shape["group_id"] == 1]
    assert iou(filled(pair[0]["points"]) | filled(pair[1]["points"]), cut.mask(1)) > 0.98
    tasks = json.loads((written / "labelstudio.json").read_text())
    assert [task["data"]["image"] for task in tasks] == ["one.jpg", "two.jpg"]
    regions = [r for r in tasks[0]["predictions"][0]["result"] if r["meta"]["mask"] == 2]
    points = np.array(regions[0]["value"]["points"]) * (W, H) / 100
    assert iou(filled(points), cut.mask(2)) > 0.95
    assert regions[0]["value"]["polygonlabels"] == ["band"]


def test_outlines() -> None:
    ring, dot = shapes()[0], shapes()[3]
    (part,) = polygons(ring)
    assert area(part.outline) - area(part.holes[0]) == pytest.approx(ring.sum(), rel=0.03)
    assert len(polygons(dot)) == 1
    assert polygons(np.zeros((4, 4), bool)) == []


def test_a_name_used_twice_and_an_unknown_format(cut: Segments, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown format 'tiff'"):
        open_writers(tmp_path, ["tiff"])
    with open_writers(tmp_path, ["npz"]) as writers:
        writers.add(Record("a.jpg", cut))
        with pytest.raises(InputError, match="same files"):
            writers.add(Record("a.png", cut))


def test_what_was_done_is_kept_when_something_fails(cut: Segments, tmp_path: Path) -> None:
    def fails() -> None:
        with open_writers(tmp_path, ["coco"]) as writers:
            writers.add(Record("a.jpg", cut))
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert len(json.loads((tmp_path / "annotations.json").read_text())["images"]) == 1


def test_outlines_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    with pytest.raises(MissingExtra, match=r"pointcut\[export\]"):
        polygons(np.ones((4, 4), bool))
    with pytest.raises(MissingExtra):
        open_writers("nowhere", ["npz", "yolo"])
    assert not Path("nowhere").exists()
