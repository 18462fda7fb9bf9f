"""Steps compiled and padded answer as they did; on a CPU, where nothing is recorded."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import pointcut
from pointcut.automatic.config import AutomaticConfig
from pointcut.cli.main import app
from pointcut.nets.compiled import PROMPTS, Compiled, filled, room
from pointcut.nets.packing import PackedLinear
from pointcut.segment.segmenter import Segmenter
from pointcut.segment.session import Encoder

from conftest import PHOTOS
from films import ball
from small import SMALL, small_net


def both(name: str, backend: str) -> tuple[Segmenter, Segmenter]:
    """A small network with random weights, as it is and compiled."""
    net = small_net(name)
    nets = net, copy.deepcopy(net)
    nets[0].settle(torch.float32)
    nets[1].settle(torch.float32, compiler=backend)
    return Segmenter(Encoder(nets[0], name)), Segmenter(Encoder(nets[1], name))


PROMPTED: tuple[dict[str, Any], ...] = (
    {"points": [200, 150]},
    {"points": [200, 150], "multimask": False},
    {"points": [[200, 150], [260, 170], [20, 30]], "labels": [1, 1, 0]},
    {"boxes": [[20, 10, 215, 180], [10, 10, 100, 100], [90, 90, 200, 200]]},
    {"boxes": [20, 10, 215, 180], "points": np.stack([np.linspace(30, 200, 12), np.linspace(20, 170, 12)], 1)},
)


def alike(one: pointcut.Segments, other: pointcut.Segments) -> None:
    np.testing.assert_allclose(other.scores, one.scores, atol=1e-5)
    np.testing.assert_allclose(other.logits, one.logits, atol=1e-3)
    assert len(one) == len(other)
    assert (one.masks != other.masks).mean() < 1e-4


@pytest.mark.parametrize("name", SMALL)
def test_the_same_answers(name: str) -> None:
    plain, compiled = both(name, "eager")
    pictures = [np.array(pointcut.images.open_image(PHOTOS / f"{x}.jpg"))[:300, :400] for x in ("cat", "coffee", "rocket")]
    # Three pictures: a fourth is filled up.
    for one, other in zip(plain.encode_batch(pictures), compiled.encode_batch(pictures), strict=True):
        torch.testing.assert_close(other.features.embedding, one.features.embedding, rtol=1e-4, atol=1e-5)
        for prompts in PROMPTED:
            alike(one.segment(**prompts), other.segment(**prompts))
    assert not any(isinstance(layer, PackedLinear) for layer in compiled.net.modules()), "PyTorch's compiler refuses them"
    first = one.segment(points=[200, 150])
    corrected = {"points": [[200, 150], [20, 30]], "labels": [1, 0], "previous": first}
    alike(one.segment(**corrected), other.segment(**corrected))
    assert (other.preview(points=[200, 150]).mask != one.preview(points=[200, 150]).mask).mean() < 1e-3


@pytest.mark.slow
def test_the_same_automatic_masks() -> None:
    plain, compiled = both("sam2", "eager")
    limit = float(np.median(plain.encode(PHOTOS / "cat.jpg").segment(points=[200, 150]).scores))
    config = AutomaticConfig(
        points_per_side=9, points_per_batch=40, pred_iou_thresh=limit, stability_score_thresh=0, box_nms_thresh=1
    )
    found = []
    for model in (plain, compiled):
        cut = model.encode(PHOTOS / "cat.jpg").segment_everything(config)
        order = sorted(range(len(cut)), key=lambda i: (*cut.prompts[i].points[0], round(float(cut.scores[i]), 4)))
        found.append((cut.scores[order], cut.masks[order]))
    (scores, masks), (their_scores, their_masks) = found
    assert len(scores) > 81, "one a point and more"
    np.testing.assert_allclose(their_scores, scores, atol=1e-5)
    assert (masks != their_masks).mean() < 1e-4


@pytest.mark.slow
def test_the_same_film() -> None:
    plain, compiled = both("sam2", "eager")
    found, graphs = [], []
    for model in (plain, compiled):
        tracker = model.track([ball(i) for i in range(6)])
        tracker.prompt(0, 1, points=[(30, 48)])
        tracker.prompt(0, 2, boxes=(90, 10, 120, 40))
        frames = []
        for frame in tracker.run():
            frames.append(frame.segments)
            graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
        found.append(frames)
    assert graphs[5] == graphs[0], "nothing of a plain model is compiled"
    assert graphs[7] > graphs[6], "the step that follows"
    assert graphs[11] == graphs[7], "once, however much is remembered"
    assert np.stack([cut.masks for cut in found[0]]).any()
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(other.logits, one.logits, atol=1e-3)
        np.testing.assert_allclose(other.scores, one.scores, atol=1e-4)
        np.testing.assert_allclose(other.object_scores, one.object_scores, atol=1e-3)
        assert (other.masks != one.masks).mean() < 1e-3


@pytest.mark.slow
def test_many_prompts_go_in_groups() -> None:
    plain, compiled = both("sam2", "eager")
    rng = np.random.default_rng(0)
    points = list(rng.uniform(20, 250, (PROMPTS + 6, 1, 2)))
    alike(*(model.encode(PHOTOS / "cat.jpg").segment(points=points) for model in (plain, compiled)))
    assert plain.net.mask_decoder.compiled is None


WITHOUT = """
import sys

import pointcut
from pointcut.cli.main import main

try:
    pointcut.load("nano", device="cpu", compiled=True)
except pointcut.MissingExtra as error:
    print(error, file=sys.stderr)
for call in (["auto", "cat.jpg"], ["track", ".", "--box", "0:1,2,30,40"]):
    sys.argv = ["pointcut", *call, "--compiled", "--device", "cpu", "--out", sys.argv[-1]]
    try:
        main()
    except SystemExit as end:
        print(end.code)
"""


@pytest.mark.slow
def test_without_a_compiler(tmp_path: Path) -> None:
    """One process for all: PyTorch's compiler takes seconds to be there, even to say that it is not."""
    alone = os.environ | {"CXX": str(tmp_path / "none"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    call = [sys.executable, "-c", WITHOUT, str(tmp_path)]
    answer = subprocess.run(call, cwd=PHOTOS, env=alone, capture_output=True, text=True, check=False)
    said = answer.stderr.splitlines()
    assert len(said) == 3, answer.stderr
    for line in said:
        assert "PyTorch's compiler cannot work here (InvalidCxxCompiler" in line
        assert "load without compiled=True" in line
    assert answer.stdout.split() == ["2", "2"]


def test_many_shapes_in_a_thread_of_its_own() -> None:
    """PyTorch's limit of eight is set thread by thread, and a server has several."""
    step: Compiled[torch.Tensor] = Compiled(lambda x: x + 1, "eager")
    with ThreadPoolExecutor(1) as pool:
        sums = list(pool.map(lambda n: step(torch.zeros(n)).sum().item(), range(1, 21)))
    assert sums == list(range(1, 21))


@given(st.integers(1, 70), st.integers(1, 3))
@settings(max_examples=30)
def test_filled(count: int, width: int) -> None:
    x = torch.randn(count, width, 2)
    wide = filled(x, room(count))
    assert count <= len(wide) < 2 * count
    assert torch.equal(wide[:count], x)
    assert not wide[count:].any()


@pytest.mark.slow
def test_with_a_compiler() -> None:
    """`load(..., compiled=True)` as it is: PyTorch's own compiler, here for the CPU."""
    plain, compiled = pointcut.load("nano", device="cpu"), pointcut.load("nano", device="cpu", compiled=True)
    one, other = (model.encode(PHOTOS / "cat.jpg") for model in (plain, compiled))
    for prompts in PROMPTED[:1]:  # each shape takes it a while
        alike(one.segment(**prompts), other.segment(**prompts))
    masks = []
    for model in (plain, compiled):
        tracker = model.track([ball(i) for i in range(3)])
        tracker.prompt(0, 1, boxes=(11, 29, 49, 67))
        masks.append(np.stack([frame.segments.masks for frame in tracker.run()]))
    assert masks[0][-1].any()
    assert (masks[0] != masks[1]).mean() < 1e-3
    answer = CliRunner().invoke(app, ["bench", str(PHOTOS / "cat.jpg"), "--rounds", "1", "--compiled", "--json"])
    assert answer.exit_code == 0, answer.output
    rows = json.loads(answer.stdout)["rows"]
    assert [(row["precision"], row["compiled"]) for row in rows] == [(p, c) for c in (False, True) for p in ("exact", "fast")]
    assert all(row["click"] < row["first"] for row in rows[2:]), "compiled once"
