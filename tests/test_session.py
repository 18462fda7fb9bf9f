"""The session with the built-in model: encode once, answer many times, the same from any thread and after saving."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pointcut
from pointcut.errors import DeviceUnavailable, InputError, InvalidPrompt, OutputError, WeightsMismatch
from pointcut.masks import iou
from pointcut.pixels import prompts_to_model
from pointcut.prompts import parse_prompts
from pointcut.segment.session import Encoder, decoder_digest
from pointcut.weights.load import load_network

from conftest import PHOTOS
from small import small_net

FACE = [(220, 150)]


def same(first: pointcut.Segments, second: pointcut.Segments) -> None:
    np.testing.assert_array_equal(first.masks, second.masks)
    np.testing.assert_array_equal(first.scores, second.scores)
    np.testing.assert_array_equal(first.logits, second.logits)


def test_three_candidates_for_one_click(cat: pointcut.EncodedImage) -> None:
    cut = cat.segment(points=FACE)
    assert cut.masks.shape == (3, 300, 451)
    assert cut.masks.dtype == bool
    assert cut.logits.shape == (3, 128, 128)
    assert cut.objects.tolist() == [0, 0, 0]
    assert len(cut.best) == 1
    assert cut.best.scores[0] == cut.scores.max()
    (candidates,) = cut.candidates
    assert candidates.scores.tolist() == sorted(cut.scores.tolist(), reverse=True)
    assert ((cut.scores >= 0) & (cut.scores <= 1)).all()
    assert ((cut.stability >= 0) & (cut.stability <= 1)).all()
    assert cut.areas.tolist() == [int(m.sum()) for m in cut.masks]
    assert len(cat.segment(points=FACE, multimask=False)) == 1
    assert len(cat.segment(boxes=(10, 10, 400, 290))) == 1
    assert len(cat.segment(boxes=(10, 10, 400, 290), multimask=True)) == 3


def test_the_mask_holds_what_was_pointed_at(cat: pointcut.EncodedImage) -> None:
    cut = cat.segment(points=FACE).best
    assert cut.masks[0, 150, 220]
    x0, y0, x1, y1 = cat.segment(boxes=(150, 60, 330, 260)).boxes_xyxy[0]
    assert x0 < 240 < x1
    assert y0 < 160 < y1


def test_the_best_of_all_four_masks_is_among_the_candidates(cat: pointcut.EncodedImage) -> None:
    given = prompts_to_model(parse_prompts(FACE, None, None, None, cat.size), cat.frame, cat.net)
    with torch.inference_mode():
        scores = cat.net.mask_decoder.decode(*cat.net.prompted(cat.side_for_many, given)).scores[0].numpy()
    cut = cat.segment(points=FACE)
    assert cut.best.scores[0] == pytest.approx(scores.max(), abs=1e-6)
    assert all(np.abs(scores - own).min() < 1e-6 for own in cut.scores)


def test_boxes_together_are_boxes_alone(cat: pointcut.EncodedImage) -> None:
    boxes = cat.segment(boxes=[(10, 10, 400, 290), (150, 60, 330, 260)])
    for i, box in enumerate(boxes.prompts):
        alone = cat.segment(boxes=box.box)
        np.testing.assert_array_equal(alone.masks[0], boxes.masks[i])


@pytest.mark.parametrize("family", ["sam1", "sam2"])
def test_published_models_give_their_own_candidates(family: str, noise: np.ndarray) -> None:
    (photo,) = Encoder(small_net(family), family).encode([noise])
    given = prompts_to_model(parse_prompts([(30, 20)], None, None, None, photo.size), photo.frame, photo.net)
    with torch.inference_mode():
        decoded = photo.net.mask_decoder.decode(*photo.net.prompted(photo.side, given))
    np.testing.assert_array_equal(photo.segment(points=[(30, 20)]).scores, decoded.scores[0, 1:])


def test_segments_are_immutable(cat: pointcut.EncodedImage) -> None:
    cut = cat.segment(points=FACE)
    with pytest.raises(ValueError, match="read-only"):
        cut.masks[0, 0, 0] = True
    with pytest.raises(AttributeError):
        cut.scores = np.zeros(3)  # type: ignore[misc]
    assert len(cut[[2, 0]]) == 2
    assert [len(c) for c in cut] == [1, 1, 1]


def test_refining(cat: pointcut.EncodedImage) -> None:
    first = cat.segment(points=FACE)
    second = cat.segment(points=[*FACE, (20, 20)], labels=[1, 0], previous=first)
    assert len(second) == 1
    assert second.masks[0, 150, 220]
    assert not second.masks[0, 20, 20]
    by_logits = cat.segment(points=[*FACE, (20, 20)], labels=[1, 0], mask=first.best.logits[0])
    same(second, by_logits)
    with pytest.raises(InvalidPrompt, match="not both"):
        cat.segment(points=FACE, previous=first, mask=first.best.logits[0])
    with pytest.raises(InvalidPrompt, match="got ndarray; give arrays as mask"):
        cat.segment(points=FACE, previous=first.best.logits[0])  # type: ignore[arg-type]


def test_rough_mask(cat: pointcut.EncodedImage) -> None:
    rough = np.zeros((300, 451), bool)
    rough[60:260, 150:330] = True
    cut = cat.segment(mask=rough)
    assert len(cut) == 1
    assert iou(cut.masks[0], rough) > 0.3


def test_objects_of_uneven_length_are_what_each_is_alone(cat: pointcut.EncodedImage) -> None:
    points = [[(220, 150)], [(100, 60), (300, 80), (30, 30)], [(340, 90)]]
    labels = [[1], [1, 1, 0], [1]]
    together = cat.segment(points=points, labels=labels)
    assert together.objects.tolist() == [0, 0, 0, 1, 2, 2, 2]
    assert len(together.prompts) == 3
    for i in range(3):
        alone = cat.segment(points=points[i], labels=labels[i])
        ours = together[np.flatnonzero(together.objects == i)]
        assert (ours.masks != alone.masks).mean() < 1e-4
        np.testing.assert_allclose(ours.scores, alone.scores, atol=1e-4)


def test_threads_share_an_image(cat: pointcut.EncodedImage) -> None:
    prompts = [[(20 + 10 * i, 40 + 5 * i)] for i in range(16)]
    expected = [cat.segment(points=p) for p in prompts]
    with ThreadPoolExecutor(8) as pool:
        for got, want in zip(pool.map(lambda p: cat.segment(points=p), prompts), expected, strict=True):
            same(got, want)


FORKED = """
import multiprocessing, sys
import pointcut

model = pointcut.load("nano")

def area(path):
    return int(model.encode(path).segment(points=[(220, 150)]).areas[0])

here = area(sys.argv[1])
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map_async(area, sys.argv[1:] * 3).get(60) == [here] * 3
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no such processes here")
def test_forked_processes_compute() -> None:
    """Without OpenMP's threads, which only the process that loaded has."""
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-c", FORKED, PHOTOS / "cat.jpg"], check=True, env=environment, timeout=100)


def test_what_travels_to_another_process(nano: pointcut.Segmenter, cat: pointcut.EncodedImage) -> None:
    want = cat.segment(points=FACE)
    for copied in (pickle.loads(pickle.dumps(nano)), copy.deepcopy(nano)):
        same(copied.encode(PHOTOS / "cat.jpg").segment(points=FACE), want)
    same(pickle.loads(pickle.dumps(cat)).segment(points=FACE), want)
    same(pickle.loads(pickle.dumps(want)), want)


def test_a_model_and_a_picture_show_themselves_in_a_line(nano: pointcut.Segmenter, cat: pointcut.EncodedImage) -> None:
    assert repr(nano) == "<Segmenter: nano on cpu, float32>"
    assert repr(cat) == "<EncodedImage: 451 x 300, by nano on cpu>"


def test_the_number_of_threads_changes_nothing(nano: pointcut.Segmenter) -> None:
    before = torch.get_num_threads()
    try:
        cuts = []
        for count in (1, 2):
            torch.set_num_threads(count)
            cuts.append(nano.encode(PHOTOS / "coffee.jpg").segment(points=[(300, 200)]))
    finally:
        torch.set_num_threads(before)
    assert (cuts[0].masks != cuts[1].masks).mean() < 1e-5
    np.testing.assert_allclose(cuts[0].scores, cuts[1].scores, atol=1e-5)


def test_batch_is_one_by_one(nano: pointcut.Segmenter) -> None:
    sources = [PHOTOS / "cat.jpg", PHOTOS / "coffee.jpg", PHOTOS / "cat.jpg"] * 3
    together = nano.encode_batch(iter(sources))
    assert [e.size for e in together] == [(300, 451), (400, 600), (300, 451)] * 3
    for encoded, source in zip(together[:2], sources[:2], strict=True):
        alone = nano.encode(source)
        torch.testing.assert_close(encoded.features.embedding, alone.features.embedding, atol=1e-4, rtol=1e-4)


def test_save_and_load(cat: pointcut.EncodedImage, nano: pointcut.Segmenter, tmp_path: Path) -> None:
    path = cat.save(tmp_path / "cat.safetensors")
    for again in (nano.load_encoded(path), pointcut.load_encoded_image(path, device="cpu")):
        assert again.frame == cat.frame
        np.testing.assert_array_equal(again.image, cat.image)
        same(again.segment(points=FACE), cat.segment(points=FACE))
    assert sorted(tmp_path.iterdir()) == [path]


def test_saved_images_of_other_models_are_refused(cat: pointcut.EncodedImage, tmp_path: Path) -> None:
    from pointcut.segment.segmenter import Segmenter
    from pointcut.segment.session import Encoder
    from pointcut.weights.load import CONFIGS

    path = cat.save(tmp_path / "cat.safetensors")
    net = CONFIGS["nano"].build()
    net.bake()
    with pytest.raises(WeightsMismatch, match="other weights"):
        Segmenter(Encoder(net, "other")).load_encoded(path)
    (tmp_path / "x.safetensors").write_bytes(b"no")
    with pytest.raises(InputError, match="not an encoded image"):
        pointcut.load_encoded_image(tmp_path / "x.safetensors")
    with pytest.raises(OutputError):
        cat.save(tmp_path / "no" / "folder.safetensors")


def test_pictures_by_name(cat: pointcut.EncodedImage, tmp_path: Path) -> None:
    best = cat.segment(points=FACE).best
    cutout = Image.open(best.save(tmp_path / "a.png"))
    assert cutout.mode == "RGBA"
    np.testing.assert_array_equal(np.asarray(cutout)[..., 3] > 0, best.masks[0])
    np.testing.assert_array_equal(np.asarray(cutout)[best.masks[0], :3], cat.image[best.masks[0]])
    mask = np.asarray(Image.open(best.save(tmp_path / "a.mask.png")))
    np.testing.assert_array_equal(mask > 0, best.masks[0])
    overlay = Image.open(best.save(tmp_path / "a.overlay.jpg"))
    assert overlay.size == (451, 300)
    with pytest.raises(OutputError, match="JPEG cannot hold"):
        best.save(tmp_path / "a.jpg")
    with pytest.raises(OutputError, match="not a kind of picture"):
        best.save(tmp_path / "a.xyz")
    with pytest.raises(OutputError, match="no folder"):
        best.save(tmp_path / "no" / "a.png")
    with pytest.raises(InputError, match="cutout, mask or overlay"):
        best.save(tmp_path / "a.png", "picture")  # type: ignore[arg-type]
    assert {p.name for p in tmp_path.iterdir()} == {"a.png", "a.mask.png", "a.overlay.jpg"}
    assert best._repr_png_().startswith(b"\x89PNG")
    assert "1 masks of 1 objects in 451 x 300" in repr(best)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (3, 7)])
def test_tiny_pictures(size: tuple[int, int], nano: pointcut.Segmenter) -> None:
    cut = nano.encode(np.zeros((*size, 3), np.uint8)).segment(points=[(0, 0)])
    assert cut.masks.shape == (3, *size)


def test_mask_logits_of_the_wrong_size(cat: pointcut.EncodedImage) -> None:
    with pytest.raises(InvalidPrompt, match=r"\(128, 128\), got \(64, 64\)"):
        cat.segment(mask=np.zeros((64, 64), np.float32))


def test_devices_and_precisions() -> None:
    with pytest.raises(DeviceUnavailable, match="no device is called"):
        pointcut.load("nano", device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(DeviceUnavailable, match="not available"):
            pointcut.load("nano", device="cuda")
    with pytest.raises(InputError, match="precision"):
        pointcut.load("nano", precision="int4")  # type: ignore[arg-type]


def test_bfloat16_is_near(cat: pointcut.EncodedImage) -> None:
    rough = pointcut.load("nano", device="cpu", precision="fast").encode(PHOTOS / "cat.jpg")
    assert rough.features.embedding.dtype == torch.float32
    exact, near = cat.segment(boxes=(150, 60, 330, 260)), rough.segment(boxes=(150, 60, 330, 260))
    assert iou(exact.masks[0], near.masks[0]) > 0.9


def test_a_saved_picture_fits_machines_that_pack_weights_and_others() -> None:
    net = load_network("nano").net
    before = decoder_digest(net)
    net.settle(torch.float32)
    assert decoder_digest(net) == before


def test_the_answer_to_a_box_goes_in_again(cat: pointcut.EncodedImage, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `previous` would; a click's candidates, and a box's, are looked at once."""
    click, box, decoder = (220, 150), (30, 0, 370, 299), cat.net.mask_decoder

    def asked() -> list[pointcut.Segments]:
        asked_once = cat.segment(click), cat.segment(boxes=box, multimask=True)
        return [cat.segment(boxes=box), cat.segment(click, boxes=box), *asked_once]

    given = asked()
    monkeypatch.setattr(decoder, "config", replace(decoder.config, box_again=False))
    first = asked()
    again = [cat.segment(boxes=box, previous=first[0]), cat.segment(click, boxes=box, previous=first[1]), *first[2:]]
    for one, other in zip(given, again, strict=True):
        np.testing.assert_array_equal(one.logits, other.logits)
        np.testing.assert_array_equal(one.scores, other.scores)
    assert (given[0].logits != first[0].logits).any()
