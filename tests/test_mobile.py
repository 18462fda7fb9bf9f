"""MobileSAM: its published layout loads, its image encoder computes what its own code computes (tests/data/mobile_sam.py)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pointcut.compat.segment_anything import SamPredictor, sam_model_registry
from pointcut.errors import InputError
from pointcut.nets.sam1 import MOBILE
from pointcut.segment.segmenter import Segmenter
from pointcut.segment.session import Encoder
from pointcut.weights import specs
from pointcut.weights.load import network_from

from small import SMALL, small_net

DATA = Path(__file__).parent / "data"
SHAPES: dict[str, list[int]] = json.loads((DATA / "mobile_sam.json").read_text())


@pytest.fixture(scope="module")
def weights(goldens: Path) -> dict[str, torch.Tensor]:  # noqa: ARG001  # its folder must be on the path
    """Reproducible ones, by the published names."""
    from weights import tensor

    drawn = {name: torch.from_numpy(np.asarray(tensor(name, shape))) for name, shape in SHAPES.items()}
    return {name: x.abs() + 0.5 if name.endswith("running_var") else x for name, x in drawn.items()}


def test_the_published_layout_loads_strictly() -> None:
    net, name = network_from({name: torch.empty(shape, device="meta") for name, shape in SHAPES.items()}, "manifest")
    assert name == "mobile-sam"
    million = sum(p.numel() for p in MOBILE.build().parameters()) / 1e6
    assert million == pytest.approx(specs.MOBILE.parameters, rel=0.02)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in net.modules())  # folded away


def test_the_encoder_is_the_references(weights: dict[str, torch.Tensor]) -> None:
    expected = np.load(DATA / "mobile_sam.npz")["embedding"]
    net, _ = network_from(weights, "reproducible")
    net.settle(torch.float32)
    pixels = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (1, 3, 1024, 1024)).astype(np.float32))
    with torch.inference_mode():
        got = net.encode(pixels).embedding[0, :, 5::16, 7::16].numpy()
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= 2e-4 * expected.std()


def test_other_sides_have_other_maps(weights: dict[str, torch.Tensor]) -> None:
    """Nothing of it belongs to one size; the number of cells in a window does not divide this one's map."""
    net, _ = network_from(weights, "reproducible", side=320)
    with torch.inference_mode():
        features = net.encode(torch.zeros(1, 3, 320, 320))
    assert features.embedding.shape == (1, 256, 20, 20)
    with pytest.raises(InputError, match="multiple of 64"):
        network_from(weights, "reproducible", side=330)


def test_it_answers_like_the_others(noise: np.ndarray) -> None:
    photo = Segmenter(Encoder(small_net("mobile"), "mobile")).encode(noise)
    cut = photo.segment(points=[(40, 30)])
    assert cut.masks.shape == (3, 60, 80)


def test_its_name_in_the_registry(noise: np.ndarray) -> None:
    net = sam_model_registry["vit_t"]()
    assert net.config == MOBILE
    predictor = SamPredictor(net)
    predictor.set_image(noise)
    masks, scores, logits = predictor.predict(np.array([[40, 30]]), np.array([1]))
    assert (masks.shape, scores.shape, logits.shape) == ((3, 60, 80), (3,), (3, 256, 256))


def test_a_batch_is_its_pictures() -> None:
    net = SMALL["mobile"].build()
    net.bake()
    pixels = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (2, 3, 256, 256)).astype(np.float32))
    with torch.inference_mode():
        both = net.encode(pixels).embedding
        each = torch.cat([net.encode(x[None]).embedding for x in pixels])
    torch.testing.assert_close(both, each, rtol=1e-4, atol=1e-4)
