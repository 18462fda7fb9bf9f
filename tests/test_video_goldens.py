"""Tracking against what Meta's code computes on reproducible weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pointcut.compat.sam2 import SAM2VideoPredictor
from pointcut.nets.decoder import ImageFeatures
from pointcut.nets.promptable import Promptable
from pointcut.pixels import to_picture
from pointcut.segment.segmenter import Segmenter
from pointcut.segment.session import Encoder
from pointcut.segments import Segments
from pointcut.weights.load import network_from

TOLERANCE = 2e-3
"""Of the logits' spread."""


@pytest.fixture(scope="module")
def tiny(reproducible) -> Promptable:
    net, _ = network_from(reproducible("sam2.1_hiera_tiny"), "sam2.1_hiera_tiny")
    net.settle(torch.float32)
    encode, known = net.encode_frame, {}

    def encode_once(pixels: Tensor) -> ImageFeatures:
        """The same ten frames are asked for four times over; what a frame's pixels give does not depend on anything else."""
        key = pixels.numpy().tobytes()
        if key not in known:
            known[key] = encode(pixels)
        return known[key]

    net.encode_frame = encode_once
    return net


@pytest.mark.slow
def test_the_references_predictor(goldens: Path, tiny: Promptable) -> None:
    """Every step that the file holds: prompts, propagation, a correction, reverse, removal, a mask."""
    expected = np.load(goldens / "outputs" / "video_sam2.1_hiera_tiny.npz")
    seen: set[str] = set()

    def check(tag: str, answer: tuple[int, list[int], Tensor]) -> None:
        frame, ids, masks = answer
        key = f"{tag}/{frame}"
        assert ids == expected[f"{key}/ids"].tolist()
        sample = expected[f"{key}/logits_sample"]
        error = np.abs(masks[:, 0, ::6, ::6].numpy() - sample).max() / sample.std()
        assert error <= TOLERANCE, f"{key}: {error:.1e} of the spread"
        areas = (masks > 0).sum((1, 2, 3)).numpy()
        np.testing.assert_allclose(areas, expected[f"{key}/area"], atol=5)
        seen.update(f"{key}/{part}" for part in ("ids", "logits_sample", "area"))

    predictor = SAM2VideoPredictor(tiny)
    state = predictor.init_state(goldens / "inputs" / "bedroom")
    check("click", predictor.add_new_points_or_box(state, 0, 1, points=[[210, 350], [250, 220]], labels=[1, 1]))
    check("box", predictor.add_new_points_or_box(state, 0, 2, box=[300, 0, 500, 400]))
    for answer in predictor.propagate_in_video(state):
        check("forward", answer)
    check("correct", predictor.add_new_points_or_box(state, 4, 1, points=[[420, 200]], labels=[0]))
    for answer in predictor.propagate_in_video(state, start_frame_idx=4):
        check("again", answer)
    for answer in predictor.propagate_in_video(state, start_frame_idx=4, reverse=True):
        check("back", answer)
    ids, frames = predictor.remove_object(state, 2)
    assert ids == expected["removed/ids"].tolist()
    assert [index for index, _ in frames] == [0]
    predictor.reset_state(state)
    mask = np.zeros((540, 960), bool)
    mask[100:300, 200:420] = True
    check("mask", predictor.add_new_mask(state, 0, 7, mask))
    for answer in predictor.propagate_in_video(state, max_frame_num_to_track=3):
        check("from_mask", answer)
    assert seen | {"removed/ids"} == set(expected.files)


@pytest.mark.slow
def test_the_tracker_keeps_corrections(goldens: Path, tiny: Promptable) -> None:
    """The reference with `add_all_frames_to_correct_as_cond`, although the tracker forgets what no frame looks at any more."""
    expected = np.load(goldens / "outputs" / "video_sticky_sam2.1_hiera_tiny.npz")
    tracker = Segmenter(Encoder(tiny, "tiny")).track(goldens / "inputs" / "bedroom")

    def steps() -> Iterator[tuple[str, int, Segments]]:
        yield "click", 0, tracker.prompt(0, 1, points=[(210, 350), (250, 220)])
        yield from (("forward", frame.index, frame.segments) for frame in tracker.run(end=6))
        yield "correct", 4, tracker.prompt(4, 1, points=[(420, 200)], labels=[0])
        yield from (("again", frame.index, frame.segments) for frame in tracker.run(4, 9))
        yield from (("back", frame.index, frame.segments) for frame in tracker.run(4, reverse=True))

    count = 0
    for tag, frame, cut in steps():
        key, count = f"{tag}/{frame}", count + 1
        assert cut.objects.tolist() == expected[f"{key}/ids"].tolist()
        assert abs(cut.areas - expected[f"{key}/area"]).max() <= 5, key
        sample = expected[f"{key}/logits_sample"]
        place = tracker._place(cut.image)
        full = to_picture(torch.from_numpy(cut.logits)[None], place)[0, :, ::6, ::6].numpy()
        assert np.abs(full - sample).max() / sample.std() <= TOLERANCE, key
    assert 3 * count == len(expected.files)
