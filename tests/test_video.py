"""The tracker's promises."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pointcut
from pointcut.errors import InputError, InvalidPrompt, ModelError
from pointcut.nets.decoder import ImageSide
from pointcut.nets.following import Found
from pointcut.nets.prompts import Prompts
from pointcut.video.bank import POINTERS
from pointcut.video.engine import alike

from films import ball, truth


def test_a_ball_is_followed(nano: pointcut.Segmenter) -> None:
    tracker = nano.track(ball(2 * i) for i in range(6))
    first = tracker.prompt(0, 7, boxes=(11, 29, 49, 67))
    assert first.objects.tolist() == [7]
    seen = list(tracker.run())
    assert [frame.index for frame in seen] == [0, 1, 2, 3, 4, 5]
    for frame in seen:
        mask = frame.segments.masks[0]
        overlap = (mask & truth(2 * frame.index)).sum() / (mask | truth(2 * frame.index)).sum()
        assert overlap > 0.6, frame.index
        assert frame.occluded.tolist() == [False]
        assert 0 <= frame.segments.scores[0] <= 1
    np.testing.assert_array_equal(seen[0].segments.masks, first.masks)


def test_a_click_in_a_film_is_looked_at_again(nano: pointcut.Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its own answer as a rough mask, before it is followed."""
    asked: list[Prompts] = []
    find = nano.net.find

    def noted(frame: ImageSide, embedding: torch.Tensor, prompts: Prompts, multimask: bool) -> Found:
        asked.append(prompts)
        return find(frame, embedding, prompts, multimask)

    monkeypatch.setattr(nano.net, "find", noted)
    nano.track([ball(0), ball(2)]).prompt(0, 1, points=(30, 48))
    first, again = asked
    assert first.masks is None
    assert again.masks is not None
    assert torch.equal(first.points, again.points)


def test_objects_come_and_go(nano: pointcut.Segmenter) -> None:
    tracker = nano.track([ball(i) for i in range(5)])
    tracker.prompt(0, 1, mask=truth(0))
    ids = []
    for frame in tracker.run():
        ids.append(frame.segments.objects.tolist())
        if frame.index == 1:
            tracker.prompt(1, 2, points=[(100, 20)])
        if frame.index == 3:
            tracker.remove(1)
    assert ids == [[1], [1], [1, 2], [1, 2], [2]]
    with pytest.raises(InputError, match="no object 1"):
        tracker.remove(1)
    tracker.reset()
    assert tracker.objects == []
    with pytest.raises(InputError, match="nothing to follow"):
        next(tracker.run())


def test_a_mask_is_taken_as_it_is_and_corrections_stay(nano: pointcut.Segmenter) -> None:
    tracker = nano.track([ball(2 * i) for i in range(5)])
    given = tracker.prompt(0, 1, mask=truth(0))
    assert (given.masks[0] & truth(0)).sum() / (given.masks[0] | truth(0)).sum() > 0.95
    before = {frame.index: frame.segments.masks[0] for frame in tracker.run()}
    corrected = tracker.prompt(3, 1, mask=truth(6)).masks[0]
    again = {frame.index: frame.segments.masks[0] for frame in tracker.run(2)}
    np.testing.assert_array_equal(again[3], corrected)
    np.testing.assert_array_equal(again[2].shape, before[2].shape)
    back = {frame.index: frame.segments.masks[0] for frame in tracker.run(4, 1, reverse=True)}
    assert sorted(back) == [1, 2, 3, 4]
    np.testing.assert_array_equal(back[3], corrected)


def test_objects_through_the_network_together_are_the_same(nano: pointcut.Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU: three begun on the first frame, and one on the second, which looks less far back."""
    sizes = []

    def followed(most: int) -> list[np.ndarray]:
        recall = nano.net.memory.recall
        monkeypatch.setattr(nano.net.memory, "recall", lambda *args: sizes.append(len(answer := recall(*args))) or answer)
        monkeypatch.setattr("pointcut.video.engine.alike", lambda recalled, _: list(alike(recalled, most)))
        tracker = nano.track([ball(4 * i) for i in range(5)])
        for object_id, point in enumerate([(30, 48), (90, 20), (110, 80)]):
            tracker.prompt(0, object_id, points=[point])
        tracker.prompt(1, 3, boxes=(16, 30, 52, 66))
        answers = [frame.segments.logits for frame in tracker.run()]
        monkeypatch.undo()
        return answers

    alone = followed(1)
    assert set(sizes) == {1}
    sizes.clear()
    together = followed(16)
    assert set(sizes) == {3, 1}
    for one, other in zip(alone, together, strict=True):
        assert len(one) == 4
        np.testing.assert_allclose(other, one, atol=2e-3)


def test_the_next_frame_is_begun_early(film: Path, nano: pointcut.Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, which is never to wait for what becomes of the frame before."""
    begun: list[int] = []

    def followed(early: bool) -> dict[int, np.ndarray]:
        tracker = nano.track(film)
        assert not tracker._looks_ahead, "on a CPU it would only come later"
        tracker._looks_ahead = early
        read = tracker.engine.encode
        monkeypatch.setattr(type(tracker.engine), "encode", lambda _, square: begun.append(len(begun)) or read(square))
        tracker.prompt(24, 1, boxes=(35, 29, 73, 67))
        answers = {}
        for frame in tracker.run():
            answers[frame.index] = frame.segments.logits
            assert len(begun) == min(len(answers) + early, 6), "each once"
            if frame.index == 27:
                tracker.prompt(27, 1, points=[(57, 48)])
        answers |= {-frame.index: frame.segments.logits for frame in tracker.run(24, 22, reverse=True)}
        monkeypatch.undo()
        begun.clear()
        return answers

    one, other = followed(False), followed(True)
    assert list(one) == list(other) == [*range(24, 30), -24, -23, -22]
    for index in one:
        np.testing.assert_array_equal(other[index], one[index])


def test_a_frame_is_given_before_the_next_one_fails(tmp_path: Path, nano: pointcut.Segmenter) -> None:
    for number in range(3):
        Image.fromarray(ball(number)).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_bytes(b"no picture")
    for early in (False, True):
        tracker = nano.track(tmp_path)
        tracker._looks_ahead = early
        tracker.prompt(0, 1, mask=truth(0))
        run = tracker.run()
        assert [next(run).index, next(run).index] == [0, 1]
        with pytest.raises(InputError, match=r"2\.png"):
            next(run)


def test_a_stream_is_not_asked_for_what_has_yet_to_happen(nano: pointcut.Segmenter) -> None:
    given = []
    tracker = nano.track(given.append(i) or ball(i) for i in range(9))
    tracker._looks_ahead = not tracker.frames.live
    tracker.prompt(0, 1, mask=truth(0))
    assert next(tracker.run()).index == 0
    assert given == [0]


def test_wrong_prompts_are_explained(nano: pointcut.Segmenter) -> None:
    tracker = nano.track([ball(0), ball(1)])
    with pytest.raises(InvalidPrompt, match="outside the picture"):
        tracker.prompt(0, 1, points=[(500, 500)])
    with pytest.raises(InvalidPrompt, match="not both"):
        tracker.prompt(0, 1, points=[(5, 5)], mask=truth(0))
    with pytest.raises(InvalidPrompt, match="one object, got 2"):
        tracker.prompt(0, 1, boxes=[(0, 0, 5, 5), (5, 5, 9, 9)])
    with pytest.raises(InvalidPrompt, match="bool"):
        tracker.prompt(0, 1, mask=np.zeros((128, 128), np.float32))
    with pytest.raises(InputError, match="no frame 2; the last is 1"):
        tracker.prompt(2, 1, points=[(5, 5)])
    assert tracker.objects == []


def test_networks_without_memory_say_so(reproducible, tmp_path: Path) -> None:
    path = tmp_path / "sam_vit_b.pth"
    torch.save(reproducible("sam_vit_b_01ec64"), path)
    with pytest.raises(ModelError, match="cannot follow"):
        pointcut.load(path, device="cpu").track([ball(0)])


@pytest.mark.slow
def test_the_memory_is_bounded(nano: pointcut.Segmenter) -> None:
    def stream() -> Iterator[np.ndarray]:
        for i in range(40):
            yield ball(i)

    tracker = nano.track(stream())
    tracker.prompt(0, 1, boxes=(11, 29, 49, 67))
    count = 0
    for frame in tracker.run():
        count += frame.index == count
        bank = tracker._things[1].bank
        assert len(bank.tracked) < POINTERS
        assert sum(one.memory is not None for one in bank.tracked.values()) < bank.slots
        assert list(bank.prompted) == [0]
    assert count == 40
