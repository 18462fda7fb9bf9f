"""Whatever the program around it told PyTorch, a network answers as it does alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import pytest
import torch

import pointcut
from pointcut.compat.sam2 import SAM2ImagePredictor, SAM2VideoPredictor
from pointcut.compat.segment_anything import SamPredictor
from pointcut.segment.features import pooled_features
from pointcut.segment.segmenter import Segmenter
from pointcut.segment.session import Encoder

from films import ball
from small import small_net


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


SURROUNDINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "gradients": torch.enable_grad,
    "a device of nothing": lambda: torch.device("meta"),  # what does not say where it is to be made, is made there
}


def answers(name: str) -> list[np.ndarray]:
    if name == "nano":
        model = pointcut.load(name, device="cpu")
    else:
        with torch.device("cpu"), default_dtype(torch.float32):
            net = small_net(name)
        net.settle(torch.float32)
        model = Segmenter(Encoder(net, name))
    photo = model.encode(ball(0))
    click = photo.segment(points=[(30, 48)])
    cuts = [click, photo.segment(boxes=[(10, 20, 60, 70), (5, 5, 40, 60)])]
    cuts += [
        photo.segment(points=[(30, 48), (90, 20)], labels=[1, 0], previous=click),
        photo.segment(mask=np.ones(photo.size, bool)),
    ]
    cuts += [photo.segment_everything(pointcut.AutomaticConfig(3, pred_iou_thresh=0.0, stability_score_thresh=0.0))]
    told = [photo.preview(points=[(30, 48)]).mask, pooled_features(photo, cuts[1])]
    if name != "sam1":
        tracker = model.track([ball(i) for i in range(4)])
        tracker.prompt(0, 1, boxes=(10, 20, 60, 70))
        tracker.prompt(1, 2, points=[(90, 20)])
        cuts += [frame.segments for frame in tracker.run(end=4)]
        told += as_sam2(model)
    else:
        predictor = SamPredictor(model.encoder.net)
        predictor.set_image(ball(0))
        told += predictor.predict(np.array([[30, 48]]), np.array([1]))
        told += predictor.predict(box=np.array([10, 20, 60, 70]), mask_input=told[-1][:1], multimask_output=False)
    for cut in cuts:
        told += [cut.masks, cut.scores, cut.stability, cut.logits]
    return told


def as_sam2(model: Segmenter) -> list[np.ndarray]:
    """The same network through the names of Meta's package."""
    predictor = SAM2ImagePredictor(model.encoder.net)
    predictor.set_image(ball(0))
    told = list(predictor.predict(point_coords=np.array([[30, 48]]), point_labels=np.array([1])))
    film = SAM2VideoPredictor(model.encoder.net)
    state = film.init_state([ball(i) for i in range(3)])
    film.add_new_points_or_box(state, 0, 1, points=[[30, 48]], labels=[1])
    film.add_new_points_or_box(state, 0, 2, box=[10, 20, 60, 70])
    return told + [masks.numpy() for _, _, masks in film.propagate_in_video(state)]


@pytest.fixture(scope="module", params=["nano", "sam2", "sam1"])
def alone(request: pytest.FixtureRequest) -> tuple[str, list[np.ndarray]]:
    return request.param, answers(request.param)


@pytest.mark.parametrize("around", SURROUNDINGS)
def test_the_same_answers(alone: tuple[str, list[np.ndarray]], around: str) -> None:
    name, expected = alone
    with SURROUNDINGS[around]():
        got = answers(name)
    assert len(got) == len(expected) > 15
    for want, one in zip(expected, got, strict=True):
        assert one.dtype == want.dtype
        np.testing.assert_array_equal(one, want)
