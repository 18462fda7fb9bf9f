"""The recipe of the built-in model's memory: clips are drawn as meant, a step learns, memories are compared."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch

import pointcut
from clips import ClipBatches
from compare_memories import main as compare_memories
from pointcut.weights import specs
from tracking import Beginning, boxed, follow
from train_memory import TAUGHT, MemoryTrainer


def test_clips_move_and_keep_their_object(training_sets: Path) -> None:
    clips = next(iter(ClipBatches(training_sets, 64, clips=3, frames=4, seed=5)))
    assert clips.images.shape == (3, 4, 3, 64, 64)
    assert clips.masks.shape == (3, 4, 64, 64)
    assert set(clips.masks.unique().tolist()) <= {0, 1, 255}
    assert ((clips.masks == 1).flatten(2).sum(2)[:, 0] > 0).all()
    for mask, (x, y) in zip(clips.masks[:, 0], clips.clicks.long().tolist(), strict=True):
        assert mask[y, x] == 1
    assert (clips.masks[:, 0] != clips.masks[:, -1]).any()


def test_objects_leave_and_scenes_are_cut(training_sets: Path) -> None:
    """Nothing is ever away: every frame has its object. Always: many have none, but the first does."""
    seen = {}
    for share in (0.0, 1.0):
        clips = next(iter(ClipBatches(training_sets, 64, clips=12, frames=4, seed=5, away=share, cut=share)))
        seen[share] = (clips.masks == 1).flatten(2).any(2)
        assert seen[share][:, 0].all()
    assert seen[0.0].all()
    assert (~seen[1.0]).float().mean() > 0.2


def test_boxes_of_masks() -> None:
    masks = torch.zeros(2, 1, 16, 16)
    masks[0, 0, 3:7, 5:12] = 1
    masks[1, 0, :, 0] = 1
    boxes = boxed(masks).boxes
    assert boxes is not None
    assert boxes.tolist() == [[5, 3, 12, 7], [0, 0, 1, 16]]


def test_a_clip_s_beginning_may_be_long_ago() -> None:
    rng = np.random.default_rng(0)
    drawn = [Beginning.drawn(rng) for _ in range(400)]
    assert 0.4 < sum(one.since == 0 for one in drawn) / 400 < 0.6
    assert 45 < max(one.since for one in drawn) < 60
    assert {one.apart for one in drawn} == {1, 2}
    assert {one.by for one in drawn} == {"mask", "click", "box"}


def test_memory_is_taught_over_a_frozen_network(training_sets: Path, tmp_path: Path) -> None:
    args = argparse.Namespace(
        data=training_sets, out=tmp_path, start_from=specs.BUILT_IN, memory_from=None, minutes=0.02, side=64, clips=2, frames=3,
        lr=1e-3, seed=1, device="cpu", workers=0,
    )  # fmt: skip
    trainer = MemoryTrainer(args)
    before = {name: value.clone() for name, value in trainer.net.state_dict().items()}
    clips = next(iter(ClipBatches(training_sets, 64, 2, 3, seed=1)))
    first = follow(trainer.net, clips, Beginning("click")).loss
    for _ in range(6):
        trainer.train_step(clips)
    after = follow(trainer.net, clips, Beginning("click")).loss
    assert after < first
    changed = {name for name, value in trainer.net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.startswith(TAUGHT) for name in changed)
    assert any(name.startswith("mask_decoder.pred_obj_score_head.") for name in changed)
    trainer.save()
    assert MemoryTrainer(args).step == 6
    model = pointcut.load(tmp_path / "nano.safetensors", device="cpu")
    tracker = model.track([np.zeros((30, 40, 3), np.uint8)] * 2)
    tracker.prompt(0, 1, points=[(3, 3)])
    assert len(list(tracker.run())) == 2


def test_memories_are_compared_on_the_same_clips(
    training_sets: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = ["--data", str(training_sets), "--side", "64", "--clips", "6", "--frames", "4"]
    monkeypatch.setattr("sys.argv", ["compare_memories.py", *told, str(specs.BUILT_IN), str(specs.BUILT_IN)])
    compare_memories()
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[1] for row in rows] == ["mask", "click"] * 2
    assert rows[:2] == rows[2:]
    loss, likeness, denied, _ = (float(figure.strip(" |")) for figure in rows[0][2:])
    assert loss > 0
    assert 0 < likeness < 1
    assert 0 <= denied <= 1
