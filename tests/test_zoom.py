"""Masks drawn anew from what is around each object: the same prompts, one mask an object, finer where things are small."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from typer.testing import CliRunner

import pointcut
from pointcut import masks, rle
from pointcut.cli.main import app
from pointcut.errors import InputError, InvalidPrompt
from pointcut.pipeline import Preparation
from pointcut.segment.session import Encoder
from pointcut.segment.zoom import around

from conftest import PHOTOS
from small import small_net

FACE = (150.0, 60.0, 330.0, 260.0)
NOSE = (244.0, 240.0)


def within(whole: pointcut.Segments, x0: int, y0: int, part: pointcut.Segments) -> None:
    """The one mask of the whole is the part's, put back."""
    height, width = part.image.shape[:2]
    expected = np.zeros(whole.image.shape[:2], bool)
    expected[y0 : y0 + height, x0 : x0 + width] = part.mask(0)
    np.testing.assert_array_equal(whole.mask(0), expected)
    np.testing.assert_allclose(whole.stability, part.stability, atol=1e-6)


def test_a_box_is_asked_anew_where_it_is_seen_closer(nano: pointcut.Segmenter, cat: pointcut.EncodedImage) -> None:
    cut = cat.segment(boxes=(220, 200, 280, 240))
    closer = cat.zoom_in(cut)
    part = nano.encode(np.ascontiguousarray(cat.image[160:280, 160:340]))
    first = part.segment(boxes=(60, 40, 120, 80))
    again = part.segment(boxes=(60, 40, 120, 80), previous=first)
    within(closer, 160, 160, again)
    np.testing.assert_allclose(closer.scores, again.scores, atol=1e-6)
    assert closer.prompts == cut.prompts
    assert np.shares_memory(closer.image, cut.image)


def test_a_click_is_asked_with_the_mask_that_it_gave_and_its_box(nano: pointcut.Segmenter, cat: pointcut.EncodedImage) -> None:
    cut = cat.segment(points=[NOSE, (60, 60)], labels=[1, 0])
    corners = np.concatenate([cut.boxes_xyxy[0], [*NOSE, NOSE[0] + 1, NOSE[1] + 1]]).reshape(-1, 2)
    box = np.concatenate([corners.min(0), corners.max(0)])
    crop = around(box, cat.size, 3.0)
    assert crop is not None
    assert crop.x0 > 60, "else the click beside it would not lie outside"
    part = slice(crop.y0, crop.y1), slice(crop.x0, crop.x1)
    alone = nano.encode(np.ascontiguousarray(cat.image[part]))
    asked = {"points": [(NOSE[0] - crop.x0, NOSE[1] - crop.y0)], "boxes": box - np.array([crop.x0, crop.y0] * 2)}
    first = alone.segment(**asked, mask=cut.mask(0)[part])
    within(cat.zoom_in(cut), crop.x0, crop.y0, alone.segment(**asked, previous=first))
    assert cat.zoom_in(cut).scores == cut.scores, "it was taken for what is meant"


def test_what_fills_the_picture_is_looked_at_again(cat: pointcut.EncodedImage) -> None:
    box = (2, 2, 449, 298)
    cut = cat.segment(boxes=box)
    within(cat.zoom_in(cut), 0, 0, cat.segment(boxes=box, previous=cat.segment(boxes=box), multimask=False))


def test_many_objects_keep_their_order_prompts_and_numbers(cat: pointcut.EncodedImage) -> None:
    points = [[(40 * i + 20, 30 * j + 20)] for i in range(2) for j in range(2)] + [[NOSE]]
    cut, told = cat.segment(points=points), []
    closer = cat.zoom_in(cut, progress=lambda done, of: told.append((done, of)))
    assert told == [(i + 1, len(points)) for i in range(len(points))]
    assert closer.objects.tolist() == list(range(len(points)))
    assert closer.prompts == cut.prompts
    assert closer.logits.shape == (len(points), 128, 128)
    for row in (0, len(points) - 1):
        alone = cat.zoom_in(cat.segment(points=points[row]))
        assert masks.iou(alone.masks[0], closer.mask(row)) > 0.99  # prompted alone and together: sums in another order
        np.testing.assert_allclose(alone.scores, closer.scores[row : row + 1], atol=1e-3)


def test_it_can_be_refined_further(cat: pointcut.EncodedImage) -> None:
    closer = cat.zoom_in(cat.segment(points=NOSE))
    again = cat.segment(points=[NOSE], previous=closer)
    assert masks.iou(again.masks[0], closer.mask(0)) > 0.5


def test_masks_from_elsewhere_have_no_prompt(cat: pointcut.EncodedImage) -> None:
    rough = np.zeros(cat.size, bool)
    rough[180:260, 210:290] = True
    cut = pointcut.Segments.of_masks(cat.image, np.stack([rough, np.zeros_like(rough)]))
    closer = cat.zoom_in(cut)
    assert masks.iou(closer.mask(0), rough) > 0.3
    assert closer.areas[1] == 0, "an empty mask points at nothing"
    assert len(cat.zoom_in(cut[[]])) == 0


def test_what_does_not_belong_together(cat: pointcut.EncodedImage, nano: pointcut.Segmenter) -> None:
    cut = cat.segment(points=NOSE)
    with pytest.raises(InvalidPrompt, match="another picture"):
        nano.encode(np.zeros((64, 64, 3), np.uint8)).zoom_in(cut)
    for times in (1.0, -2.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="above 1"):
            cat.zoom_in(cut, times)


@pytest.mark.parametrize("family", ["sam1", "sam2"])
def test_published_models_too(family: str, noise: np.ndarray) -> None:
    (photo,) = Encoder(small_net(family), family).encode([noise])
    cut = photo.segment(boxes=[(4, 4, 14, 16), (20, 20, 30, 34)])
    closer = photo.zoom_in(cut)
    assert len(closer) == 2
    assert closer.masks.shape == cut.masks.shape
    assert (closer.object_scores is None) == (cut.object_scores is None)


def test_surroundings() -> None:
    def of(*box: float) -> tuple[int, ...] | None:
        crop = around(np.array(box, np.float32), (1000, 2000), 3.0)
        return None if crop is None else (crop.x0, crop.y0, crop.x1, crop.y1)

    assert of(900, 450, 1000, 550) == (800, 350, 1100, 650)
    assert of(900, 490, 1000, 500) == (800, 420, 1100, 570)  # not narrower than half of its length
    assert of(900, 490, 902, 492) == (869, 459, 933, 523)  # nor smaller than there is to be seen
    assert of(0, 0, 100, 100) == (0, 0, 200, 200)  # as far as there is a picture
    assert of(300, 100, 1700, 900) is None


def test_at_the_edge(cat: pointcut.EncodedImage) -> None:
    height, width = cat.size
    for point in ((0, 0), (width - 0.01, height - 0.01), (width, height)):
        assert len(cat.zoom_in(cat.segment(points=point))) == 1
    cut = cat.segment(boxes=(width - 30, height - 30, width + 20, height + 20))
    assert cat.zoom_in(cut).boxes_xyxy[0, 2] <= width


def test_small_things_in_large_pictures_are_drawn_finely(nano: pointcut.Segmenter) -> None:
    """A star of 100 pixels in a picture of 2400: the model's square shows it at 20."""
    rng = np.random.default_rng(0)
    ground = Image.fromarray(rng.integers(90, 130, (60, 80, 3), dtype=np.uint8)).resize((2400, 1800), Image.Resampling.BICUBIC)
    angles = np.arange(10) * np.pi / 5
    corners = [(1100 + r * np.sin(a), 700 - r * np.cos(a)) for a, r in zip(angles, [50, 22] * 5, strict=True)]
    shape = Image.new("1", ground.size)
    ImageDraw.Draw(shape).polygon(corners, fill=1)
    ground.paste((220, 60, 40), mask=shape)
    truth, photo = np.asarray(shape), nano.encode(ground)
    cut = photo.segment(boxes=masks.boxes_xyxy(truth[None])[0])
    plain, closer = (masks.iou(one.mask(0), truth) for one in (cut, photo.zoom_in(cut)))
    assert closer > 0.9
    assert closer > plain + 0.05


def test_everything_is_drawn_anew(cat: pointcut.EncodedImage, nano: pointcut.Segmenter) -> None:
    config = pointcut.AutomaticConfig(4, pred_iou_thresh=0.5, stability_score_thresh=0.5)
    found, told = cat.segment_everything(config), []
    part = Preparation(zoom=True).encode(nano, cat.image)
    cut = part.segment_everything(config, lambda done, of: told.append(done / of))
    assert told == sorted(told)
    assert told[-1] == 1
    assert 0.5 in told
    assert part.segment_everything(config).rle() == cut.rle()
    assert cut.rle() == cat.zoom_in(found).rle() != found.rle()
    np.testing.assert_array_equal(cut.scores, found.scores)


def test_by_the_command(tmp_path: Path, cat: pointcut.EncodedImage) -> None:
    def told(*call: object, code: int = 0) -> str:
        done = CliRunner().invoke(app, [str(part) for part in call])
        assert done.exit_code == code, done.output
        return done.output

    box = ",".join(map(str, FACE))
    record = json.loads(
        told(
            "segment", PHOTOS / "cat.jpg", "--point", "244,240", "--crop", "100,50,400,300", "--zoom", "--json", "-o", tmp_path
        )
    )
    assert record["zoom"] is True
    (mask,) = record["masks"]
    assert mask["object"] == 0
    assert rle.decode(mask["rle"]).shape == cat.size
    told("segment", PHOTOS / "cat.jpg", "--point", "244,240", "--zoom", "--multimask", "-o", tmp_path, code=2)
    told("segment", PHOTOS / "cat.jpg", "--point", "244,240", "--zoom", "--tile", 512, "-o", tmp_path, code=2)
    told("auto", PHOTOS / "cat.jpg", "--zoom", "--tile", 512, "-o", tmp_path, code=2)
    told("batch", PHOTOS / "cat.jpg", "--box", box, "--zoom", "--out", tmp_path / "batch", "--format", "coco")
    (line,) = [json.loads(row) for row in (tmp_path / "batch" / "pointcut.batch.jsonl").read_text().splitlines()][1:]
    closer = cat.zoom_in(cat.segment(boxes=FACE))
    assert line["masks"][0]["area"] == closer.areas[0]
    plain = ["batch", str(PHOTOS / "cat.jpg"), "--box", box, "--out", str(tmp_path / "batch"), "--format", "coco"]
    assert "holds another job" in str(CliRunner().invoke(app, plain).exception)


def test_told_in_records() -> None:
    assert Preparation().told() == {}
    assert Preparation((1, 2, 3, 4), 99, zoom=True).told() == {"crop": [1, 2, 3, 4], "long_side": 99, "zoom": True}
    assert replace(Preparation(zoom=True), zoom=False) == Preparation()
