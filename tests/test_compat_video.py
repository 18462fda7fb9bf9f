"""The reference's video predictor: what it promises beside its numbers (those: test_video_goldens.py)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pointcut.compat.sam2 import SAM2VideoPredictor, build_sam2_video_predictor
from pointcut.errors import DeviceUnavailable, InputError

from films import SIZE, ball, truth, write_film


@pytest.fixture(scope="module")
def predictor() -> SAM2VideoPredictor:
    return build_sam2_video_predictor("nano.yaml", device="cpu")


def pictures(count: int = 6):
    return [ball(2 * i) for i in range(count)]


def test_the_whole_story(predictor: SAM2VideoPredictor) -> None:
    state = predictor.init_state(pictures())
    assert state["num_frames"] == 6
    assert (state["video_height"], state["video_width"]) == SIZE
    frame, ids, masks = predictor.add_new_points_or_box(state, 0, "ball", box=np.array([11, 29, 49, 67], np.float32))
    assert (frame, ids) == (0, ["ball"])
    assert masks.shape == (1, 1, *SIZE)
    assert masks.dtype == torch.float32
    answers = list(predictor.propagate_in_video(state))
    assert [index for index, _, _ in answers] == [0, 1, 2, 3, 4, 5]
    for index, _, logits in answers:
        mask = (logits[0, 0] > 0).numpy()
        assert (mask & truth(2 * index)).sum() / (mask | truth(2 * index)).sum() > 0.6
    assert [i for i, _, _ in predictor.propagate_in_video(state, 3, 2)] == [3, 4, 5]
    assert [i for i, _, _ in predictor.propagate_in_video(state, 2, reverse=True)] == [2, 1, 0]
    assert list(predictor.propagate_in_video(state, 0, reverse=True)) == []


def test_films_are_counted(predictor: SAM2VideoPredictor, tmp_path: Path) -> None:
    state = predictor.init_state(str(write_film(tmp_path / "ball.mp4", 12)))
    assert state["num_frames"] == 12
    predictor.add_new_mask(state, 0, 1, truth(0))
    assert [index for index, _, _ in predictor.propagate_in_video(state, max_frame_num_to_track=2)] == [0, 1, 2]


def test_prompts_are_added_cleared_and_removed(predictor: SAM2VideoPredictor) -> None:
    state = predictor.init_state(pictures())
    predictor.add_new_points_or_box(state, 0, 1, points=[[30, 48]], labels=[1])
    first = state["objects"][1].points[0]
    predictor.add_new_points_or_box(state, 0, 1, points=[[5, 5]], labels=[0], clear_old_points=False)
    assert state["objects"][1].points[0][1].tolist() == [[1, 0]]
    assert torch.equal(state["objects"][1].points[0][0][:, :1], first[0])
    predictor.add_new_mask(state, 1, 2, truth(2))
    assert predictor.clear_all_prompts_in_frame(state, 0, 1, need_output=False) is None
    with pytest.raises(RuntimeError, match="No input points or masks are provided for object id 1"):
        predictor.propagate_in_video_preflight(state)
    with pytest.raises(RuntimeError, match="doesn't exist"):
        predictor.remove_object(state, 9, strict=True)
    assert predictor.remove_object(state, 9) == ([1, 2], [])
    ids, frames = predictor.remove_object(state, 1)
    assert ids == [2]
    assert frames == []  # its prompts were cleared before
    assert predictor.remove_object(state, 2) == ([], [])
    with pytest.raises(RuntimeError, match="No input points or masks are provided for any object"):
        next(predictor.propagate_in_video(state))


def test_wrong_calls_have_the_references_words(predictor: SAM2VideoPredictor) -> None:
    state = predictor.init_state(pictures(1))
    with pytest.raises(ValueError, match="points and labels must be provided together"):
        predictor.add_new_points_or_box(state, 0, 1, points=[[1, 1]])
    with pytest.raises(ValueError, match="at least one of points or box must be provided as input"):
        predictor.add_new_points_or_box(state, 0, 1)
    with pytest.raises(ValueError, match="cannot add box without clearing old points"):
        predictor.add_new_points_or_box(state, 0, 1, box=[1, 1, 9, 9], clear_old_points=False)
    with pytest.raises(AssertionError, match="two axes"):
        predictor.add_new_mask(state, 0, 1, np.zeros((1, 5, 5)))


def test_the_option_that_crashes_upstream() -> None:
    """`clear_non_cond_mem_around_input`: a correction drops what was tracked around it."""
    predictor = build_sam2_video_predictor("nano.yaml", device="cpu", clear_non_cond_mem_around_input=True)
    state = predictor.init_state(pictures())
    predictor.add_new_mask(state, 0, 1, truth(0))
    assert len(list(predictor.propagate_in_video(state))) == 6
    assert sorted(state["objects"][1].bank.tracked) == [1, 2, 3, 4, 5]
    predictor.add_new_points_or_box(state, 3, 1, points=[[36, 48]], labels=[1])
    predictor.propagate_in_video_preflight(state)
    assert sorted(state["objects"][1].bank.tracked) == []


def test_masks_do_not_overlap_where_that_is_asked_for() -> None:
    predictor = build_sam2_video_predictor("nano.yaml", device="cpu", hydra_overrides_extra=["++model.non_overlap_masks=true"])
    state = predictor.init_state(pictures(3))
    predictor.add_new_mask(state, 0, 1, truth(0))
    both = predictor.add_new_mask(state, 0, 2, truth(3))[2]
    assert not ((both[0] > 0) & (both[1] > 0)).any()
    for _, _, masks in predictor.propagate_in_video(state):
        assert not ((masks[0] > 0) & (masks[1] > 0)).any()


def test_builders_refuse_what_they_do_not_know() -> None:
    with pytest.raises(TypeError, match="unexpected keyword"):
        build_sam2_video_predictor("nano.yaml", device="cpu", no_such=1)
    with pytest.raises(InputError, match="not supported"):
        build_sam2_video_predictor("nano.yaml", device="cpu", hydra_overrides_extra=["++model.image_size=512"])
    if not torch.cuda.is_available():
        with pytest.raises(DeviceUnavailable):
            build_sam2_video_predictor("nano.yaml")
