"""Lanes, the shelf, handles and budgets by themselves."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import pointcut
from pointcut.server.lanes import Busy, Lane, Late
from pointcut.server.problems import Problem
from pointcut.server.shelf import Budget, Handles, Shelf, bytes_of


class Gate:
    """Work that waits until it is let go, and remembers what was done together."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.done: list[list[int]] = []

    def __call__(self, tasks: list[int]) -> list[int]:
        assert self.open.wait(10)
        self.done.append(list(tasks))
        if 13 in tasks:
            raise ValueError("13")
        return [2 * task for task in tasks]


@pytest.fixture
def gate() -> Gate:
    return Gate()


def begun(lane: Lane[int, int]) -> None:
    """Waits until the lane has taken its first task."""
    while lane.waiting:
        time.sleep(0.001)


def test_equal_kinds_that_wait_are_done_together(gate: Gate) -> None:
    lane: Lane[int, int] = Lane("t", gate, most=10, together=3, kind=lambda task: task % 2)
    first = lane.submit(0, 10)
    begun(lane)
    others = [lane.submit(task, 10) for task in (2, 4, 6, 8, 1, 10)]
    gate.open.set()
    assert [job.future.result(5) for job in (first, *others)] == [0, 4, 8, 12, 16, 2, 20]
    assert gate.done == [[0], [2, 4, 6], [8], [1], [10]]
    lane.close()


def test_one_that_fails_does_not_spoil_the_others(gate: Gate) -> None:
    lane: Lane[int, int] = Lane("t", gate, most=10, together=4)
    jobs = [lane.submit(0, 10)]
    begun(lane)
    jobs += [lane.submit(task, 10) for task in (12, 13, 14)]
    gate.open.set()
    assert [jobs[i].future.result(5) for i in (0, 1, 3)] == [0, 24, 28]
    with pytest.raises(ValueError, match="13"):
        jobs[2].future.result(5)
    lane.close()


def test_full_late_and_left(gate: Gate) -> None:
    lane: Lane[int, int] = Lane("t", gate, most=2)
    first = lane.submit(1, 10)
    begun(lane)
    late, left = lane.submit(2, 0.01), lane.submit(3, 10)
    with pytest.raises(Busy):
        lane.submit(4, 10)
    left.cancel()
    time.sleep(0.05)
    gate.open.set()
    assert first.future.result(5) == 2
    with pytest.raises(Late):
        late.future.result(5)
    last = lane.submit(5, 10)
    assert last.future.result(5) == 10
    assert gate.done == [[1], [5]]
    lane.close()
    with pytest.raises(Busy):
        lane.submit(6, 1)


def test_several_threads_of_a_lane() -> None:
    """What only waits for somebody else waits beside its like, and no more of it than was said."""
    meet, alone = threading.Barrier(2), threading.Lock()
    running = most = 0

    def work(tasks: Sequence[int]) -> list[int]:
        nonlocal running, most
        with alone:
            running += 1
            most = max(most, running)
        meet.wait(10)
        with alone:
            running -= 1
        return [-task for task in tasks]

    lane: Lane[int, int] = Lane("t", work, most=10, threads=2)
    jobs = [lane.submit(task, 10) for task in range(4)]
    assert [job.future.result(10) for job in jobs] == [0, -1, -2, -3]
    assert most == 2
    lane.close()


def test_closing_cancels_what_waits(gate: Gate) -> None:
    lane: Lane[int, int] = Lane("t", gate, most=5)
    lane.submit(1, 10)
    begun(lane)
    waiting = lane.submit(2, 10)
    closing = threading.Thread(target=lane.close)
    closing.start()
    time.sleep(0.02)
    gate.open.set()
    closing.join(5)
    assert waiting.future.cancelled()


@given(st.lists(st.tuples(st.sampled_from("pgd"), st.integers(0, 6), st.integers(1, 40))))
def test_the_shelf_keeps_within_its_room(steps: list[tuple[str, int, int]]) -> None:
    shelf, kept = Shelf(100), {}
    order: list[int] = []
    for verb, key, size in steps:
        if verb == "p":
            kept[key] = size
            order = [k for k in order if k != key] + [key]
            shelf.put(key, size, size)
            while sum(kept.values()) > 100 and len(kept) > 1:
                del kept[order.pop(0)]
        elif verb == "g":
            assert shelf.get(key) == kept.get(key)
            if key in kept:
                order = [k for k in order if k != key] + [key]
        else:
            assert shelf.drop(key) == (kept.pop(key, None) is not None)
            order = [k for k in order if k != key]
        assert shelf.taken == sum(kept.values())
        assert len(shelf) == len(kept)


def test_a_single_thing_may_be_larger_than_the_room() -> None:
    shelf = Shelf(10)
    shelf.put("a", 1, 50)
    assert shelf.get("a") == 1
    shelf.put("b", 2, 5)
    assert (shelf.get("a"), shelf.get("b"), shelf.evicted) == (None, 2, 1)


def test_handles_belong_to_an_owner_and_a_model() -> None:
    handles = Handles(("nano", "other"))
    digest = Handles.digest(b"x")
    handle = handles.issue("me", digest, "other")
    assert handle.startswith(digest)
    assert handles.model("me", handle) == "other"
    assert Handles(("other",)).model("me", handle) == "other", "another server with the same token knows it"
    for owner, name in (("you", handle), ("me", digest), ("me", handle[:-1]), ("me", ""), ("me", "ä-ß")):
        with pytest.raises(Problem) as caught:
            handles.model(owner, name)
        assert caught.value.code == "no_such_image"


def test_budget() -> None:
    budget = Budget(100)
    with budget.share(60) as share:
        with pytest.raises(Problem), budget.share(50):
            pass
        assert budget.taken == 60
        share.grow(40)
        with pytest.raises(Problem):
            share.grow(1)
        assert budget.taken == 100
    assert budget.taken == 0
    with budget.share(500):  # alone, a large one passes
        assert budget.taken == 500


def test_bytes_are_counted() -> None:
    tensor, array = torch.zeros(10, dtype=torch.float32), np.zeros(5, np.uint8)
    assert bytes_of((tensor, [array, None], "text")) == 45


def test_a_picture_that_is_kept_does_not_keep_its_batch(nano: pointcut.Segmenter, noise: np.ndarray) -> None:
    one, _ = nano.encoder.encode([noise, noise[::-1].copy()])
    for tensor in (one.features.embedding, *one.features.high_res):
        assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
