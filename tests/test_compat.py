"""The drop-in names: the session's numbers, bit for bit, in the references' shapes and types."""

from __future__ import annotations

import ast
import functools
import inspect
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pointcut
from pointcut import rle
from pointcut.compat import sam2, segment_anything
from pointcut.compat.sam2 import SAM2AutomaticMaskGenerator, SAM2ImagePredictor, build_sam2, build_sam2_hf
from pointcut.compat.segment_anything import (
    ResizeLongestSide,
    SamAutomaticMaskGenerator,
    SamPredictor,
    sam_model_registry,
)
from pointcut.errors import DeviceUnavailable, InputError, UnknownModel

from conftest import PHOTOS

POINTS, LABELS = np.array([[220, 150], [30, 30]]), np.array([1, 0])
BOX = np.array([150, 60, 330, 260])


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.asarray(Image.open(PHOTOS / "cat.jpg"))


@pytest.fixture(scope="module")
def sam1_predictor(image: np.ndarray) -> SamPredictor:
    predictor = SamPredictor(sam_model_registry["nano"]().to("cpu"))
    predictor.set_image(image)
    return predictor


@pytest.fixture(scope="module")
def sam2_predictor(image: np.ndarray) -> SAM2ImagePredictor:
    predictor = SAM2ImagePredictor(build_sam2("nano.yaml", device="cpu"))
    predictor.set_image(image)
    return predictor


PROMPTS = [
    ({"point_coords": POINTS[:1], "point_labels": LABELS[:1]}, {"points": POINTS[:1], "multimask": True}),
    (
        {"point_coords": POINTS, "point_labels": LABELS, "multimask_output": False},
        {"points": POINTS, "labels": LABELS, "multimask": False},
    ),
    ({"box": BOX, "multimask_output": False}, {"boxes": BOX, "multimask": False}),
    (
        {"point_coords": POINTS, "point_labels": LABELS, "box": BOX, "multimask_output": True},
        {"points": POINTS, "labels": LABELS, "boxes": BOX, "multimask": True},
    ),
]


@pytest.mark.parametrize(("theirs", "ours"), PROMPTS)
def test_sam1_is_the_session(theirs, ours, sam1_predictor: SamPredictor, cat: pointcut.EncodedImage) -> None:
    masks, scores, logits = sam1_predictor.predict(**theirs)
    cut = cat.segment(**ours)
    assert masks.dtype == bool
    assert masks.shape == cut.masks.shape
    np.testing.assert_array_equal(masks, cut.masks)
    np.testing.assert_array_equal(scores, cut.scores)
    np.testing.assert_array_equal(logits, cut.logits)


@pytest.mark.parametrize(("theirs", "ours"), PROMPTS)
def test_sam2_is_the_session(theirs, ours, sam2_predictor: SAM2ImagePredictor, cat: pointcut.EncodedImage) -> None:
    masks, scores, logits = sam2_predictor.predict(**theirs)
    cut = cat.segment(**ours)
    assert masks.dtype == np.float32
    assert set(np.unique(masks)) <= {0.0, 1.0}
    np.testing.assert_array_equal(masks > 0, cut.masks)
    np.testing.assert_array_equal(scores, cut.scores)
    np.testing.assert_array_equal(logits, cut.logits)
    assert np.abs(logits).max() <= 32


@pytest.mark.slow
def test_sam1_of_a_real_layout_is_the_session(reproducible, tmp_path: Path, image: np.ndarray) -> None:
    """Through a checkpoint file, padding and Pillow's resizing and all."""
    path = tmp_path / "sam_vit_b.pth"
    torch.save(reproducible("sam_vit_b_01ec64"), path)
    predictor = SamPredictor(sam_model_registry["vit_b"](checkpoint=str(path)))
    predictor.set_image(np.ascontiguousarray(image[..., ::-1]), image_format="BGR")
    assert predictor.original_size == (300, 451)
    assert predictor.input_size == (681, 1024)
    photo = pointcut.load(path, device="cpu").encode(image)
    masks, scores, logits = predictor.predict(point_coords=POINTS, point_labels=LABELS)
    cut = photo.segment(points=POINTS, labels=LABELS, multimask=True)
    np.testing.assert_array_equal(masks, cut.masks)
    np.testing.assert_array_equal(scores, cut.scores)
    again, _, _ = predictor.predict(POINTS, LABELS, mask_input=logits[:1], multimask_output=False)
    np.testing.assert_array_equal(again, photo.segment(POINTS, LABELS, mask=logits[0], multimask=False).masks)
    assert predictor.get_image_embedding().shape == (1, 256, 64, 64)

    everything = SamAutomaticMaskGenerator(predictor.model, 2, 64, 0.0, 0.0, box_nms_thresh=1.0).generate(image)
    assert len(everything) == 12
    for record in everything[::4]:  # the padded square's masks, as clicks give them
        masks, scores, _ = predictor.predict(np.array(record["point_coords"]), np.ones(1))
        same = np.abs(scores - record["predicted_iou"]).argmin()
        assert (masks[same] != record["segmentation"]).mean() < 1e-4
        assert record["area"] == record["segmentation"].sum()

    embedding = predictor.get_image_embedding()
    resized = torch.as_tensor(predictor.transform.apply_image(image)).permute(2, 0, 1)[None]
    predictor.set_torch_image(resized, (300, 451))
    torch.testing.assert_close(predictor.get_image_embedding(), embedding, atol=1e-3, rtol=1e-3)


def test_sam1_torch_interface(sam1_predictor: SamPredictor) -> None:
    boxes = sam1_predictor.transform.apply_boxes_torch(torch.tensor(np.stack([BOX, BOX // 2])), (300, 451))
    masks, scores, logits = sam1_predictor.predict_torch(None, None, boxes, multimask_output=False)
    assert masks.shape == (2, 1, 300, 451)
    assert masks.dtype == torch.bool
    assert scores.shape == (2, 1)
    assert logits.shape == (2, 1, 128, 128)
    raw, _, _ = sam1_predictor.predict_torch(None, None, boxes, multimask_output=False, return_logits=True)
    assert raw.dtype == torch.float32
    assert torch.equal(raw > 0, masks)


def test_sam2_many_boxes_and_logits(sam2_predictor: SAM2ImagePredictor) -> None:
    boxes = np.array([BOX, BOX // 2, BOX])
    masks, scores, logits = sam2_predictor.predict(box=boxes, multimask_output=False, return_logits=True)
    assert masks.shape == (3, 1, 300, 451)
    assert scores.shape == (3, 1)
    assert logits.shape == (3, 1, 128, 128)
    np.testing.assert_allclose(masks[0], masks[2], atol=1e-4)
    unit = boxes / np.array([451, 300, 451, 300])
    again, _, _ = sam2_predictor.predict(box=unit, multimask_output=False, return_logits=True, normalize_coords=False)
    np.testing.assert_allclose(again, masks, atol=1e-2)


def test_sam2_batch(image: np.ndarray) -> None:
    predictor = SAM2ImagePredictor.from_pretrained("nano", device="cpu")
    other = np.asarray(Image.open(PHOTOS / "coffee.jpg"))
    predictor.set_image_batch([image, other])
    masks, scores, logits = predictor.predict_batch([POINTS, POINTS], [LABELS, LABELS])
    assert [m.shape for m in masks] == [(3, 300, 451), (3, 400, 600)]
    assert len(scores) == len(logits) == 2
    predictor.set_image(other)
    alone, _, _ = predictor.predict(POINTS, LABELS)
    assert (alone != masks[1]).mean() < 1e-4
    with pytest.raises(AssertionError, match="batched mode"):
        predictor.predict_batch([POINTS], [LABELS])


def test_sam2_features(sam2_predictor: SAM2ImagePredictor) -> None:
    assert sam2_predictor._orig_hw == [(300, 451)]
    assert sam2_predictor._features["image_embed"].shape == (1, 128, 32, 32)
    assert [tuple(x.shape) for x in sam2_predictor._features["high_res_feats"]] == [(1, 16, 128, 128), (1, 32, 64, 64)]


def test_sam2_holes_and_islands(image: np.ndarray) -> None:
    model = build_sam2("nano", device="cpu")
    plain, tidy = SAM2ImagePredictor(model), SAM2ImagePredictor(model, max_hole_area=1e9, max_sprinkle_area=0)
    for predictor in (plain, tidy):
        predictor.set_image(image)
    before, _, _ = plain.predict(box=BOX, multimask_output=False)
    after, _, _ = tidy.predict(box=BOX, multimask_output=False)
    assert before.any()
    assert not before.all()
    assert after.all()  # every hole is smaller than a thousand million pixels
    tidy.max_hole_area, tidy.max_sprinkle_area = 0, 1e9
    assert not tidy.predict(box=BOX, multimask_output=False)[0].any()


def test_errors_of_the_references(image: np.ndarray) -> None:
    first = SamPredictor(sam_model_registry["nano"]())
    with pytest.raises(RuntimeError, match=r"An image must be set with \.set_image\(\.\.\.\) before mask prediction\."):
        first.predict(POINTS, LABELS)
    with pytest.raises(RuntimeError, match="to generate an embedding"):
        first.get_image_embedding()
    with pytest.raises(AssertionError, match=r"image_format must be in \['RGB', 'BGR'\], is HSV\."):
        first.set_image(image, "HSV")
    first.set_image(image)
    with pytest.raises(AssertionError, match="point_labels must be supplied if point_coords is supplied"):
        first.predict(POINTS)
    first.reset_image()
    assert not first.is_image_set
    second = SAM2ImagePredictor(first.model)
    with pytest.raises(RuntimeError, match="before mask prediction"):
        second.predict(POINTS, LABELS)
    with pytest.raises(NotImplementedError, match="Image format not supported"):
        second.set_image("cat.jpg")
    with pytest.raises(TypeError, match="unexpected keyword 'mask_treshold'"):
        SAM2ImagePredictor(first.model, mask_treshold=1)
    with pytest.raises(FileNotFoundError):
        sam_model_registry["vit_b"]("nope.pth")
    with pytest.raises(UnknownModel):
        build_sam2("configs/other.yaml", device="cpu")
    with pytest.raises(InputError, match="hydra"):
        build_sam2("nano", device="cpu", hydra_overrides_extra=["++model.x=1"])
    if not torch.cuda.is_available():
        with pytest.raises(DeviceUnavailable):
            build_sam2("nano")


def test_postprocessing_is_the_stability_fallback() -> None:
    assert build_sam2("configs/sam2.1/sam2.1_hiera_t.yaml", device="cpu").mask_decoder.config.stability_fallback
    without = build_sam2("configs/sam2.1/sam2.1_hiera_t.yaml", device="cpu", apply_postprocessing=False)
    assert not without.mask_decoder.config.stability_fallback
    assert build_sam2_hf("nano", device="cpu").input_size == 640


REFERENCE = [
    ("facebookresearch/segment-anything:segment_anything/predictor.py", segment_anything),
    ("facebookresearch/segment-anything:segment_anything/utils/transforms.py", segment_anything),
    ("facebookresearch/segment-anything:segment_anything/build_sam.py", segment_anything),
    ("facebookresearch/sam2:sam2/sam2_image_predictor.py", sam2),
    ("facebookresearch/sam2:sam2/build_sam.py", sam2),
]


def parameters(text: str) -> list[tuple[str, object]]:
    """`name(a, b=1)` as text -> [("a", None), ("b", 1)]; a parameter without a default has `...`."""
    (function,) = ast.parse(f"def {text}: ...").body
    names = [a.arg for a in function.args.args]
    values = [ast.literal_eval(d) for d in function.args.defaults]
    return list(zip(names, [...] * (len(names) - len(values)) + values, strict=True))


@pytest.mark.parametrize(("file", "module"), REFERENCE, ids=lambda x: x.rpartition("/")[2] if isinstance(x, str) else "")
def test_signatures(file: str, module, goldens: Path) -> None:
    """Every call has the reference's parameters, in their order, with their defaults."""
    signatures = json.loads((goldens.parent / "reference" / "signatures.json").read_text())[file]
    checked = 0
    for owner, members in signatures.items():
        if owner not in module.__all__:
            assert owner.startswith("_") or "video" in owner, f"{owner} is missing"  # video is another issue
            continue
        calls = {f"{owner}.{n}": text for n, text in members.items()} if isinstance(members, dict) else {owner: members}
        for name, text in calls.items():
            target = functools.reduce(getattr, name.split("."), module)
            if isinstance(target, property):
                continue
            ours = [
                (p.name, ... if p.default is p.empty else p.default)
                for p in inspect.signature(target).parameters.values()
                if p.kind is not p.VAR_KEYWORD and p.name not in ("self", "cls")
            ]
            theirs = [(n, () if d == [] else d) for n, d in parameters(text) if n not in ("self", "cls")]
            assert ours == theirs, name
            checked += 1
    assert checked >= 2


def test_resize_longest_side() -> None:
    transform = ResizeLongestSide(1024)
    assert transform.get_preprocess_shape(1200, 1800, 1024) == (683, 1024)
    assert transform.apply_image(np.zeros((1200, 1800, 3), np.uint8)).shape == (683, 1024, 3)
    coords = np.array([[1800.0, 1200.0]])
    np.testing.assert_allclose(transform.apply_coords(coords, (1200, 1800)), [[1024, 683]])
    np.testing.assert_allclose(coords, [[1800, 1200]])
    torch.testing.assert_close(
        transform.apply_coords_torch(torch.tensor(coords), (1200, 1800)), torch.tensor([[1024.0, 683.0]])
    )
    np.testing.assert_allclose(transform.apply_boxes(np.array([0, 0, 1800, 1200]), (1200, 1800)), [[0, 0, 1024, 683]])
    assert transform.apply_image_torch(torch.zeros(1, 3, 1200, 1800)).shape == (1, 3, 683, 1024)


def test_automatic_records(image: np.ndarray) -> None:
    """Forms of the result, order of the keys, and what cannot be asked."""
    model = build_sam2("nano", device="cpu")
    options = {"points_per_side": 3, "pred_iou_thresh": 0.2, "stability_score_thresh": 0.0}
    binary, plain, packed = (
        SAM2AutomaticMaskGenerator(model, **options, output_mode=mode).generate(image)
        for mode in ("binary_mask", "uncompressed_rle", "coco_rle")
    )
    keys = ["segmentation", "area", "bbox", "predicted_iou", "point_coords", "stability_score", "crop_box"]
    assert len(binary) == len(plain) == len(packed) >= 2
    for first, second, third in zip(binary, plain, packed, strict=True):
        assert list(first) == keys
        mask = first["segmentation"]
        assert mask.dtype == bool
        assert mask.sum() == first["area"] == sum(second["segmentation"]["counts"][1::2])
        np.testing.assert_array_equal(rle.decode(third["segmentation"]), mask)
        ys, xs = np.nonzero(mask)
        assert first["bbox"] == [xs.min(), ys.min(), xs.max() - xs.min(), ys.max() - ys.min()]
        assert first["crop_box"] == [0, 0, 451, 300]
    with pytest.raises(AssertionError, match="Unknown output_mode"):
        SAM2AutomaticMaskGenerator(model, output_mode="png")
    with pytest.raises(TypeError, match="unexpected keyword 'pints'"):
        SAM2AutomaticMaskGenerator(model, pints=3)
    assert SAM2AutomaticMaskGenerator.from_pretrained("nano", device="cpu", points_per_side=1).config.points_per_side == 1
    grid = SAM2AutomaticMaskGenerator(model, points_per_side=None, point_grids=[np.array([[0.5, 0.5], [1.0, 1.0]])])
    assert isinstance(grid.generate(image), list)
