"""Boxes by text, by file, by a plug-in; and that labels travel into everything that is written."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import pointcut
from pointcut import detect
from pointcut.cli.main import app
from pointcut.detect import Detections, open_detector
from pointcut.detect.grounding_dino import GroundingDino, prompt_of

from conftest import PHOTOS

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "?", "a", "cat", "red", "cup", "dog"]


@pytest.fixture(scope="session")
def dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Grounding DINO with a few thousand random weights, as `save_pretrained` writes it."""
    from transformers import (
        BertConfig,
        BertTokenizerFast,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoProcessor,
        SwinConfig,
    )
    from transformers.models.grounding_dino.image_processing_pil_grounding_dino import GroundingDinoImageProcessorPil

    torch.manual_seed(0)
    swin = SwinConfig(
        image_size=64,
        embed_dim=16,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=4,
        out_features=["stage2", "stage3", "stage4"],
    )
    bert = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    config = GroundingDinoConfig(
        backbone_config=swin,
        text_config=bert,
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        num_queries=8,
        max_text_len=64,
        encoder_n_points=2,
        decoder_n_points=2,
    )
    folder = tmp_path_factory.mktemp("dino")
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    tokenizer = BertTokenizerFast(vocab={word: i for i, word in enumerate(WORDS)}, do_lower_case=True)
    pictures = GroundingDinoImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 96})
    GroundingDinoProcessor(pictures, tokenizer).save_pretrained(folder)
    return folder


def test_grounding_dino_finds_what_transformers_finds(dino: Path) -> None:
    image = np.asarray(Image.open(PHOTOS / "cat.jpg"))
    detector = GroundingDino.open(str(dino), "cpu", threshold=0.0)
    found = detector(image, "A cat.  a red CUP")
    assert len(found) == 8
    assert set(found.labels) <= {"a cat", "a red cup"}
    inputs = detector.processor(images=image, text="a cat. a red cup.", return_tensors="pt")
    with torch.inference_mode():
        outputs = detector.model(**inputs)
    (theirs,) = detector.processor.post_process_grounded_object_detection(
        outputs, inputs["input_ids"], threshold=0.0, text_threshold=0.0, target_sizes=[image.shape[:2]]
    )
    np.testing.assert_allclose(found.boxes_xyxy, theirs["boxes"].numpy(), atol=1e-3)
    chances = outputs.logits[0].sigmoid()  # tokens: [CLS] a cat . a red cup . [SEP]
    cat, cup = chances[:, 1:3].amax(1), chances[:, 4:7].amax(1)
    np.testing.assert_allclose(found.scores, torch.maximum(cat, cup), atol=1e-6)
    assert [label == "a cat" for label in found.labels] == (cat >= cup).tolist()
    some = GroundingDino.open(str(dino), "cpu", threshold=float(np.median(found.scores)))(image, "a cat. a red cup.")
    assert len(some) == 4
    for nothing in (None, "", " . "):
        with pytest.raises(pointcut.InputError, match="needs a text"):
            detector(image, nothing)
    assert prompt_of("A dog\n the  Cat.") == "a dog. the cat."
    with pytest.raises(pointcut.WeightsNotFound, match="cannot be loaded as a detector"):
        open_detector("grounding-dino:/nowhere")


def test_text_on_the_command_line(dino: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GroundingDino, "open", opened_low := low(GroundingDino.open))
    asked = ["--text", "a cat. a red cup.", "--detector", f"grounding-dino:{dino}", "--json"]
    result = CliRunner().invoke(app, ["segment", str(PHOTOS / "cat.jpg"), *asked, "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert opened_low.called
    record = json.loads((tmp_path / "cat.json").read_text())
    assert record["detector"].startswith("grounding-dino:")
    assert record["text"] == "a cat. a red cup."
    assert len(record["masks"]) == 8
    assert {mask["label"] for mask in record["masks"]} <= {"a cat", "a red cup"}
    scores = [mask["box_score"] for mask in record["masks"]]
    assert scores == sorted(scores, reverse=True)
    assert (tmp_path / "cat.overlay.png").stat().st_size > 0
    formats = "coco,parquet,yolo,geojson,labelstudio,labelme,npz,png,overlay"
    result = CliRunner().invoke(
        app, ["batch", str(PHOTOS / "cat.jpg"), *asked, "--out", str(tmp_path / "b"), "--format", formats]
    )
    assert result.exit_code == 0, result.output
    out, labels = tmp_path / "b", [mask["label"] for mask in record["masks"]]
    dataset = json.loads((out / "annotations.json").read_text())
    names = {category["id"]: category["name"] for category in dataset["categories"]}
    assert [names[one["category_id"]] for one in dataset["annotations"]] == labels
    assert pyarrow.parquet.read_table(out / "masks.parquet")["label"].to_pylist() == labels
    geojson = json.loads((out / "cat.geojson").read_text())
    assert [feature["properties"]["label"] for feature in geojson["features"]] == labels
    assert np.load(out / "cat.npz")["labels"].tolist() == labels
    assert json.loads(Image.open(out / "cat.labels.png").text["labels"]) == labels
    assert {shape["label"] for shape in json.loads((out / "cat.json").read_text())["shapes"]} == set(labels)
    for name in ("data.yaml", "labelstudio.json"):
        assert all(label in (out / name).read_text() for label in labels)


class low:  # stands for a class method
    """`GroundingDino.open` that takes every box: random weights are sure of nothing."""

    def __init__(self, original) -> None:
        self.original, self.called = original, False

    def __call__(self, source: str, device: str) -> GroundingDino:
        self.called = True
        return self.original(source, device, threshold=0.0)


class Corners:
    """A detector as somebody's package might bring it: whatever there is, in the corner; and some nonsense."""

    def __init__(self, model: str) -> None:
        self.name = f"corners:{model}"

    def __call__(self, image: np.ndarray, text: str | None) -> Detections:
        height, width = image.shape[:2]
        boxes = np.array([[-9, -9, width / 2, height / 2], [5, 5, 5, 90], [width / 3, 0, width, np.inf]], np.float32)
        return Detections(boxes, (text or "thing", "flat", "tall"), np.array([0.3, 0.9, 0.8], np.float32))


@pytest.fixture
def corners(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("corners", "test_detect:open_corners", detect.GROUP)
    monkeypatch.setattr(EntryPoint, "load", lambda _: lambda model, _device: Corners(model))
    monkeypatch.setattr(detect, "entry_points", lambda group: [point] if group == detect.GROUP else [])


@pytest.mark.usefixtures("corners")
def test_a_plug_in(tmp_path: Path, nano: pointcut.Segmenter) -> None:
    assert detect.detectors() == ["corners", "grounding-dino"]
    detector = open_detector("corners:big")
    assert detector.name == "corners:big"
    found = detector(np.zeros((60, 80, 3), np.uint8), None).within((60, 80))
    assert found.labels == ("tall", "thing"), "best first, and what has no area is gone"
    np.testing.assert_allclose(found.boxes_xyxy, [[80 / 3, 0, 80, 60], [0, 0, 40, 30]], rtol=1e-6)
    result = CliRunner().invoke(
        app, ["batch", str(PHOTOS / "cat.jpg"), "--detector", "corners:big", "--out", str(tmp_path), "--crop", "30,10,400,290"]
    )
    assert result.exit_code == 0, result.output
    dataset = json.loads((tmp_path / "annotations.json").read_text())
    assert [category["name"] for category in dataset["categories"]] == ["tall", "thing"]
    part = np.ascontiguousarray(np.asarray(Image.open(PHOTOS / "cat.jpg"))[10:290, 30:400])
    box = detector(part, None).within(part.shape[:2]).boxes_xyxy[0]
    cut = nano.encode(part).segment(boxes=box)
    assert dataset["annotations"][0]["area"] == pytest.approx(int(cut.areas[0]), rel=0.001)
    x, y = dataset["annotations"][0]["bbox"][:2]
    np.testing.assert_allclose((x - 30, y - 10), cut.boxes_xyxy[0, :2], atol=1)
    with pytest.raises(pointcut.InputError, match="no detector is called 'nobody'"):
        open_detector("nobody")
    with pytest.raises(pointcut.InputError, match="as many boxes"):
        Detections(np.zeros((2, 4), np.float32), ("a",), np.zeros(1, np.float32))


def test_nothing_found_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(_image: np.ndarray, _text: str | None) -> Detections:
        return Detections(np.zeros((0, 4), np.float32), (), np.zeros(0, np.float32))

    nothing.name = "nothing"  # type: ignore[attr-defined]
    monkeypatch.setattr(detect, "open_detector", lambda *_: nothing)
    result = CliRunner().invoke(app, ["segment", str(PHOTOS / "cat.jpg"), "--text", "a unicorn.", "--out", str(tmp_path)])
    assert result.exit_code == 0, (result.output, result.exception)
    assert json.loads((tmp_path / "cat.json").read_text())["masks"] == []


def test_wrong_calls() -> None:
    photo = str(PHOTOS / "cat.jpg")
    for wrong in (["--text", "a cat.", "--point", "5,5"], ["--detector", "x", "--box", "1,1,9,9"], []):
        assert CliRunner().invoke(app, ["segment", photo, *wrong]).exit_code == 2
