"""What the network is shown of a picture (crop, long side, square); prompts and masks stay the whole picture's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import pointcut
from pointcut import rle
from pointcut.cli.main import app
from pointcut.pipeline import Preparation
from pointcut.segment.session import Encoder
from pointcut.weights.load import network_from

from conftest import PHOTOS

FACE = (30, 0, 370, 299)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return pointcut.open_image(PHOTOS / "cat.jpg")


def test_a_crop_is_the_part_alone_put_back(nano: pointcut.Segmenter, photo: np.ndarray) -> None:
    part = Preparation(crop=(20, -5, 400, 280)).encode(nano, photo)
    alone = nano.encode(np.ascontiguousarray(photo[0:280, 20:400]))
    cases = [
        ({"points": [(220, 150)]}, {"points": [(200, 150)]}),
        ({"points": [[(220, 150), (30, 20)], [(100, 100)]]}, {"points": [[(200, 150), (10, 20)], [(80, 100)]]}),
        ({"boxes": FACE}, {"boxes": (10, 0, 350, 280)}),
        (
            {"mask": np.pad(np.ones((100, 120), bool), ((50, 150), (100, 231)))},
            {"mask": np.pad(np.ones((100, 120), bool), ((50, 130), (80, 180)))},
        ),
    ]
    for whole, its in cases:
        cut, expected = part.segment(**whole), alone.segment(**its)
        assert cut.masks.shape[1:] == (300, 451)
        np.testing.assert_array_equal(cut.masks[:, 0:280, 20:400], expected.masks)
        assert cut.areas.tolist() == expected.areas.tolist()
        np.testing.assert_allclose(cut.boxes_xyxy, expected.boxes_xyxy + np.array([20, 0, 20, 0]))
    assert np.shares_memory(cut.image, photo)
    everything = part.segment_everything(pointcut.AutomaticConfig(4, pred_iou_thresh=0.5, stability_score_thresh=0.5))
    assert len(everything) >= 1
    assert everything.boxes_xyxy[:, 0].min() >= 20
    with pytest.raises(pointcut.InvalidPrompt, match="within the crop, which begins at 20, 0"):
        part.segment(points=[(5, 150)])
    for wrong in ((9, 9, 9, 20), (500, 10, 600, 20)):
        with pytest.raises(pointcut.InputError):
            Preparation(crop=wrong).encode(nano, photo)


def test_a_long_side_changes_what_is_seen_not_where_things_are(nano: pointcut.Segmenter, photo: np.ndarray) -> None:
    full, small = nano.encode(photo), nano.encode(photo, long_side=200)
    assert small.size == full.size == (300, 451)
    first, second = full.segment(boxes=FACE), small.segment(boxes=FACE)
    assert 0.8 < pointcut.masks.iou(first.mask(0), second.mask(0)) < 1
    same = nano.encode(photo, long_side=451).segment(boxes=FACE)
    np.testing.assert_array_equal(same.mask(0), first.mask(0))
    with pytest.raises(pointcut.InputError, match="at least 16"):
        Preparation(long_side=3)


def test_another_square(photo: np.ndarray) -> None:
    for side, cells in ((256, 13), (512, 26)):
        model = pointcut.load("nano", device="cpu", side=side)
        encoded = model.encode(photo)
        assert encoded.features.embedding.shape[-1] == cells
        # With a click on the eye: what a box alone means is another thing in another size.
        cut, usual = (
            one.segment(boxes=FACE, points=[(340, 140)], labels=[1])
            for one in (encoded, pointcut.load("nano", device="cpu").encode(photo))
        )
        assert pointcut.masks.iou(cut.mask(0), usual.mask(0)) > 0.8
    for wrong in (0, 500, 8192):
        with pytest.raises(pointcut.InputError, match="multiple of 64"):
            pointcut.load("nano", device="cpu", side=wrong)


def test_another_square_is_what_transformers_computes(photo: np.ndarray) -> None:
    """SAM 2.1 tiny of random weights at 512: windows that do not fill the map, and positions brought to its size."""
    from transformers import Sam2Config, Sam2HieraDetConfig, Sam2Model, Sam2VisionConfig

    torch.manual_seed(0)
    sizes = [[128, 128], [64, 64], [32, 32]]
    vision = Sam2VisionConfig(backbone_config=Sam2HieraDetConfig(image_size=[512, 512]), backbone_feature_sizes=sizes)
    config = Sam2Config(vision_config=vision, prompt_encoder_config={"image_size": 512})
    theirs = Sam2Model(config).eval()
    net, name = network_from(dict(theirs.state_dict()), "random", side=512)
    encoded = Encoder(net, name).encode([photo])[0]
    from pointcut.pixels import to_square

    with torch.inference_mode():
        answer = theirs(
            pixel_values=to_square(photo, encoded.frame, torch.device("cpu")),
            input_boxes=torch.tensor([[[30, 0, 370, 299]]]) * torch.tensor([512 / 451, 512 / 300] * 2),
            multimask_output=False,
        )
    ours = encoded.segment(boxes=FACE, multimask=False)
    logits = answer.pred_masks[0, 0, 0].clamp(-32, 32).numpy()
    assert np.abs(ours.logits[0] - logits).max() < 2e-3 * (logits.max() - logits.min())


def test_the_record_says_what_was_done(tmp_path: Path) -> None:
    options = ["--crop", "20,0,400,280", "--long-side", "256", "--side", "256", "--point", "220,150", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, ["segment", str(PHOTOS / "cat.jpg"), *options])
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "cat.json").read_text())
    assert (record["crop"], record["long_side"], record["side"]) == ([20, 0, 400, 280], 256, 256)
    assert rle.decode(record["masks"][0]["rle"]).shape == (300, 451)
    result = CliRunner().invoke(app, ["batch", str(PHOTOS / "cat.jpg"), *options[:-1], str(tmp_path / "b")])
    assert result.exit_code == 0, result.output
    head = json.loads((tmp_path / "b" / "pointcut.batch.jsonl").read_text().splitlines()[0])
    assert head["preparation"] == {"crop": [20, 0, 400, 280], "long_side": 256, "zoom": False}
    assert head["side"] == 256
    area = json.loads((tmp_path / "b" / "annotations.json").read_text())["annotations"][0]["area"]
    assert area == pytest.approx(max(record["masks"], key=lambda mask: mask["score"])["area"], rel=0.001)
    again = CliRunner().invoke(app, ["batch", str(PHOTOS / "cat.jpg"), "--point", "220,150", "--out", str(tmp_path / "b")])
    assert again.exit_code == 1, "another job in the same folder"
