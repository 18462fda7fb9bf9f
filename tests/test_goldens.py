"""The same numbers as Meta's code, on weights that anyone can make again (`../shared/goldens`), in float32."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pointcut import rle
from pointcut.compat.sam2 import SAM2AutomaticMaskGenerator
from pointcut.masks import iou
from pointcut.nets.promptable import Promptable
from pointcut.segment.segmenter import Segmenter
from pointcut.segment.session import Encoder
from pointcut.weights.load import network_from

TOLERANCE = 2e-3  # of the reference's spread (standard deviation)

BOXES = [[75, 275, 1725, 850], [425, 600, 700, 875], [1375, 550, 1650, 800], [1240, 675, 1400, 750]]
PROMPTS = {
    "one_point": {"points": [(500, 375)], "multimask": True},
    "one_point_single": {"points": [(500, 375)], "multimask": False},
    "three_points": {"points": [(500, 375), (510, 380), (450, 300)], "labels": [1, 1, 0], "multimask": True},
    "box": {"boxes": BOXES[1], "multimask": False},
    "box_and_points": {"boxes": BOXES[1], "points": [(575, 750), (500, 700)], "labels": [0, 1], "multimask": False},
    "four_boxes": {"boxes": BOXES, "multimask": False},
    "two_objects": {"points": [[(500, 375)], [(1000, 600)]], "multimask": True},
}
REFINE = {"points": [(500, 375), (1125, 625)], "labels": [1, 0], "multimask": False}

CHECKPOINTS = {
    "sam_vit_b": "sam_vit_b_01ec64",
    "sam2_hiera_tiny": "sam2_hiera_tiny",
    "sam2.1_hiera_tiny": "sam2.1_hiera_tiny",
    "sam2.1_hiera_base_plus": "sam2.1_hiera_base_plus",
    "sam2.1_hiera_large": "sam2.1_hiera_large",
}


def assert_close(got: np.ndarray, expected: np.ndarray, what: str) -> None:
    assert got.shape == expected.shape, what
    error = np.abs(got - expected).max() / expected.std()
    assert error <= TOLERANCE, f"{what}: {error:.2e} of the spread"


SOON = ("sam2_hiera_tiny", "sam2.1_hiera_tiny", "grid", "single")
"""What takes seconds; the others take half a minute each."""


def each(names: Iterable[str]) -> list[object]:
    return [pytest.param(name, marks=() if name in SOON else pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", each(CHECKPOINTS))
def test_images(name: str, goldens: Path, reproducible) -> None:
    net, row = network_from(reproducible(CHECKPOINTS[name]), name)
    photo = Segmenter(Encoder(net, row)).encode(goldens / "inputs" / "truck.jpg")
    expected = np.load(goldens / "outputs" / f"image_{name}.npz")

    assert_close(photo.features.embedding[0, :, ::8, ::8].numpy(), expected["image_embedding"], "embedding")
    for i, step in enumerate((32, 16)[: len(photo.features.high_res)]):
        got = photo.features.high_res[i][0, :, ::step, ::step].numpy()
        assert_close(got, expected[f"high_res_{i}"], f"high_res_{i}")

    cases = dict(PROMPTS)
    if not photo.features.high_res:  # the SAM 1 file holds single objects only
        del cases["four_boxes"], cases["two_objects"]
    first = photo.segment(**cases["one_point"])
    cuts = {case: photo.segment(**prompt) for case, prompt in cases.items()}
    cuts["refine"] = photo.segment(**REFINE, mask=first.logits[0])
    with torch.inference_mode():
        full = {case: photo.masks_of(torch.from_numpy(cut.logits)[None])[0].numpy() for case, cut in cuts.items()}
    assert {key.split("/")[0] for key in expected if "/" in key} == set(cuts)
    for case, cut in cuts.items():
        reference = expected[f"{case}/low_res_logits"]
        step = cut.logits.shape[-1] // reference.shape[-1]
        assert_close(cut.logits[:, ::step, ::step].reshape(reference.shape), reference, f"{case} logits")
        np.testing.assert_allclose(cut.scores, expected[f"{case}/scores"].ravel(), atol=1e-4, err_msg=case)
        if f"{case}/mask_logits_sample" in expected:
            # the reference stores what lies before its clamp to +-32, so only what lies within it is comparable
            sample, got = expected[f"{case}/mask_logits_sample"], full[case][:, ::37, ::41]
            assert_close(np.clip(got, -31, 31), np.clip(sample, -31, 31), f"{case} full size")
        if f"{case}/mask_area" in expected:
            area = expected[f"{case}/mask_area"].ravel()
            assert (np.abs(cut.areas - area) <= 1e-4 * photo.image[..., 0].size).all(), f"{case} area"


@pytest.fixture(scope="module")
def tiny(reproducible) -> Promptable:
    return network_from(reproducible("sam2.1_hiera_tiny"), "sam2.1_hiera_tiny")[0]


@pytest.mark.parametrize("case", each(["grid", "crops", "m2m", "single"]))
def test_automatic(case: str, goldens: Path, tiny: Promptable) -> None:
    """The same records as SAM2AutomaticMaskGenerator's: number, masks, boxes, points, crops, and their order."""
    expected = json.loads((goldens / "outputs" / "automatic_sam2.1_hiera_tiny.json").read_text())[case]
    image = np.asarray(Image.open(goldens / "inputs" / "truck_600x400.png").convert("RGB"))
    generator = SAM2AutomaticMaskGenerator(tiny, **expected["config"], output_mode="uncompressed_rle")
    records = generator.generate(image)
    assert len(records) == len(expected["records"])
    for ours, theirs in zip(records, expected["records"], strict=True):
        assert list(ours) == list(theirs)
        first, second = (rle.from_runs(np.array(r["segmentation"]["counts"]), 400, 600) for r in (ours, theirs))
        assert iou(first, second) >= 0.999
        assert abs(ours["area"] - theirs["area"]) <= 20
        assert ours["bbox"] == theirs["bbox"]
        assert ours["point_coords"] == theirs["point_coords"]
        assert ours["crop_box"] == theirs["crop_box"]
        assert ours["predicted_iou"] == pytest.approx(theirs["predicted_iou"], abs=1e-4)
        assert ours["stability_score"] == pytest.approx(theirs["stability_score"], abs=1e-3)
