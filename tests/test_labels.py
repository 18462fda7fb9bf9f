"""Boxes from label files, as the tools that people label with write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import pointcut
from pointcut.detect.files import boxes_in
from pointcut.detect.labelled import LabelFile, Labelled


def written(path: Path, value: Any) -> Path:
    """A file with that text, or that value as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def known(labels: LabelFile, name: str) -> Labelled:
    its = labels.of(name)
    assert its is not None, f"{name} is not among {labels.names}"
    return its


def test_plain_json(tmp_path: Path) -> None:
    by_name = boxes_in(written(tmp_path / "a.json", {"a.jpg": [[1, 2, 3, 4]], "b/c.jpg": []}))
    assert known(by_name, "x/a.jpg").boxes == [(1, 2, 3, 4)]
    assert known(by_name, "x/a.jpg").labels == ["object"]
    listed = boxes_in(written(tmp_path / "b.json", [{"image": "a.jpg", "boxes": [[1, 2, 3, 4]], "labels": ["cup"]}]))
    assert known(listed, "a.jpg").labels == ["cup"]


WRONG: tuple[Any, ...] = (
    {},
    {"a": [[1, 2]]},
    [{"image": "a", "boxes": [[1, 2, 3, 4]], "labels": []}, 3],
    [{"boxes": 3}],
    "text",
    [[1]],
    [{"data": {}}, 1],
)


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_label_file(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(pointcut.InputError, match="neither a COCO file"):
        boxes_in(written(tmp_path / "c.json", wrong))


def test_a_file_that_is_nested_without_end(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text("[" * 100_000)
    with pytest.raises(pointcut.InputError, match="neither a COCO file"):
        boxes_in(tmp_path / "c.json")


def coco(*names: str) -> dict[str, Any]:
    """A box around each picture's first pixel, and one that is as wide as its number."""
    images = [{"id": i, "file_name": name} for i, name in enumerate(names, start=1)]
    return {"images": images, "annotations": [{"image_id": i["id"], "bbox": [0, 0, i["id"], 1]} for i in images]}


def test_whose_boxes_they_are(tmp_path: Path) -> None:
    labels = boxes_in(
        written(tmp_path / "coco.json", coco("images/train/a.jpg", "images/val/a.jpg", "images/val/b.png", "b.jpg"))
    )
    assert [known(labels, f"{name}.jpg").boxes[0][2] for name in ("train/a", "val/a", "photos/images/val/a")] == [1, 2, 2]
    assert known(labels, "val/b.png").boxes[0][2] == 3
    assert known(labels, "b.png").boxes[0][2] == 3
    assert known(labels, "b.jpg").boxes[0][2] == 4
    for nobody_s in ("a.jpg", "test/a.jpg", "c.jpg"):  # whose of the two a.jpg may not be guessed
        assert labels.of(nobody_s) is None


REGION = {"type": "rectanglelabels", "original_width": 80, "original_height": 60}
VALUE = {"x": 12.5, "y": 50, "width": 50, "height": 25, "rectanglelabels": ["cup"]}


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("/data/upload/7/3e4b1c2f-01.png", "a/01.png"),
        ("/data/upload/7/3e4b1c2f-01.png", "3e4b1c2f-01.png"),
        ("/data/local-files/?d=photos/a/01.png", "a/01.png"),
        ("/data/local-files/?d=photos%2Fa%2F0%201.png", "a/0 1.png"),
        ("s3://bucket/photos/a/01.png", "a/01.png"),
        ("https://example.org/a/01.png?X-Amz-Signature=0f", "a/01.png"),
    ],
)
def test_label_studio(tmp_path: Path, address: str, name: str) -> None:
    region = REGION | {"value": VALUE}
    brush = {"type": "brushlabels", "value": {"rle": [1], "brushlabels": ["cup"]}}
    whole = [
        {"data": {"note": "two words", "image": address}, "annotations": [{"result": [brush, {"type": "relation"}, region]}]}
    ]
    short = [{"id": 1, "note": "two words", "image": address, "label": [VALUE | REGION], "annotator": 1}]
    for export in (whole, short):
        its = known(boxes_in(written(tmp_path / "ls.json", export)), name)
        assert (its.boxes, its.labels, its.shares) == ([(10, 30, 50, 45)], ["cup"], False)


YOLO = "1 0.5 0.25 0.5 0.25\n\n0 0.5 0.5 1 1 0.93\n"


@pytest.mark.parametrize(
    "files",
    [
        {"classes.txt": "cat\ncup\n", "01.txt": YOLO},  # LabelImg
        {"classes.txt": "cat\ncup\n", "notes.json": "{}", "labels/01.txt": YOLO},  # Label Studio
        {"obj.names": "cat\ncup", "train.txt": "data/obj_train_data/01.png\n", "obj_train_data/01.txt": YOLO},  # CVAT
        {"data.yaml": "names: [cat, cup]\nnc: 2\n", "README.roboflow.txt": "hi there\n", "train/labels/01.txt": YOLO},
        {"data.yaml": 'names:\n  0: "cat"\n  1: "cup"\n', "labels/01.txt": YOLO, "descriptions/01.txt": "a cat\n"},  # ours
    ],
)
def test_yolo_as_tools_write_it(tmp_path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        written(tmp_path / name, text)
    its = known(boxes_in(tmp_path), "01.png")
    assert its.shares
    assert its.boxes == [(0.25, 0.125, 0.75, 0.375), (0, 0, 1, 1)]
    assert its.labels == ["cup", "cat"]


def test_yolo_beside_its_pictures(tmp_path: Path) -> None:
    """As Ultralytics has it, and named by the labels' own folder: classes' names lie above."""
    written(tmp_path / "data.yaml", "names: {0: cat, 1: cup}")
    written(tmp_path / "labels" / "train" / "01.txt", "0 0.1 0.2 0.3 0.2 0.3 0.6\n")
    for folder, name in (
        (tmp_path, "images/train/01.jpg"),
        (tmp_path / "labels", "train/01.jpg"),
        (tmp_path / "labels" / "train", "01.jpg"),
    ):
        its = known(boxes_in(folder), name)
        assert (its.boxes, its.labels) == ([(0.1, 0.2, 0.3, 0.6)], ["cat"])  # of an outline its box


@pytest.mark.parametrize(
    "line", ["0 0.5 0.5 0.5", "0 120 80 40 40", "cat", "0 nan 0.5 0.5 0.5", "0 0.1 0.1 0.2 0.2 0.3 0.3 0.4"]
)
def test_yolo_that_is_none(tmp_path: Path, line: str) -> None:
    written(tmp_path / "01.txt", f"0 0.5 0.5 1 1\n{line}\n")
    with pytest.raises(pointcut.InputError, match=r"01\.txt, line 2: expected class cx cy w h"):
        boxes_in(tmp_path)


def test_yolo_without_labels_or_names(tmp_path: Path) -> None:
    with pytest.raises(pointcut.InputError, match="holds no YOLO labels"):
        boxes_in(tmp_path)
    written(tmp_path / "01.txt", "7 0.5 0.5 1 1\n")
    assert known(boxes_in(tmp_path), "01.png").labels == ["7"]
    written(tmp_path / "data.yaml", "names: 3")
    with pytest.raises(pointcut.InputError, match=r"data\.yaml: names of classes cannot be read"):
        boxes_in(tmp_path)
