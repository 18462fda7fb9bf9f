"""The order in which maps are kept, packed layers and the precisions: faster ways to the same features."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn
from typer.testing import CliRunner

import pointcut
from pointcut.ahead import ahead
from pointcut.nets import layers, processor, sam2
from pointcut.nets.cells import from_parts, halve, masks_from_parts, spread, to_parts, windows_of
from pointcut.nets.hiera import HieraConfig
from pointcut.nets.int8 import Int8Linear, to_bytes
from pointcut.nets.layers import MLP, by_rows
from pointcut.nets.packing import PackedLinear, pack
from pointcut.nets.prompts import Prompts
from pointcut.nets.vit import RelativeAttention
from pointcut.segment import devices

from conftest import PHOTOS

SMALL = replace(sam2.TINY_2_1, trunk=HieraConfig(width=16, background=(7, 7)), input_size=256, memory=None)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 3), st.integers(1, 3))
def test_cell_order_and_back(h: int, w: int, halvings: int, batch: int) -> None:
    maps = torch.randn(batch, 5, h << halvings, w << halvings)
    rows = to_parts(maps, halvings)
    assert rows.shape == (batch, h * w * 4**halvings, 5)
    assert torch.equal(from_parts(rows, (h, w), halvings), maps)
    assert torch.equal(spread(rows, (h, w), halvings), maps)
    if halvings == 2:
        assert torch.equal(masks_from_parts(rows.transpose(1, 2).contiguous(), (h, w)), maps)
    if halvings:
        assert torch.equal(from_parts(halve(rows), (h, w), halvings - 1), F.max_pool2d(maps, 2))


@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 2), st.integers(1, 9), st.integers(1, 2))
def test_windows_are_the_maps_squares(h: int, w: int, halvings: int, side: int, batch: int) -> None:
    maps = torch.randn(batch, 3, h << halvings, w << halvings)
    windows = windows_of((h, w), halvings, side, maps.device)
    cut = windows.cut(F.pad(to_parts(maps, halvings), (0, 0, 0, 1)))
    height, width = maps.shape[2:]
    padded = F.pad(maps, (0, -width % side, 0, -height % side))
    expected = padded.unflatten(3, (-1, side)).unflatten(2, (-1, side)).permute(0, 2, 4, 3, 5, 1).reshape(-1, side**2, 3)
    assert torch.equal(cut, expected)
    assert torch.equal(from_parts(windows.join(cut, batch), (h, w), halvings), maps)


def test_a_few_cells_at_a_time_are_all_at_once() -> None:
    """Inference on a CPU takes some cells and rows at a time; with gradients everything passes at once."""
    torch.manual_seed(0)
    trunk = sam2.Sam2(SMALL).image_encoder
    pixels = torch.randn(2, 3, 256, 256)
    together = trunk(pixels)
    assert together[0].requires_grad
    with torch.inference_mode():
        for one, two, both in zip(trunk(pixels[:1]), trunk(pixels[1:]), trunk(pixels), strict=True):
            torch.testing.assert_close(torch.cat([one, two]), both, rtol=1e-4, atol=1e-5)
        for whole, parts in zip(together, trunk(pixels), strict=True):
            torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("side", "cells"), [(320, 16), (256, 13), (192, 10)])
def test_an_encoder_may_see_finer_than_prompts_are_answered(side: int, cells: int) -> None:
    coarse = replace(sam2.NANO, input_size=side, stride=20).build().eval()
    fine = replace(sam2.NANO, input_size=side, stride=16, fuser_depth=0).build().eval()
    fine.load_state_dict(coarse.state_dict(), strict=False)
    pixels, click = torch.rand(1, 3, side, side), Prompts(torch.tensor([[[30.0, 20.0]]]), torch.tensor([[1]]))
    with torch.no_grad():
        maps, finer = coarse.image_encoder(pixels), fine.image_encoder(pixels)
        masks = coarse.predict(coarse.image_side(coarse.encode(pixels)), click, multimask=True).logits
    assert [x.shape[-1] for x in maps] == [4 * cells, 2 * cells, cells]
    assert [x.shape[-1] for x in finer] == [side // 4, side // 8, side // 16]
    for seen, told in zip(finer, maps, strict=True):  # new blocks over the last change nothing
        torch.testing.assert_close(F.interpolate(seen, told.shape[-2:], mode="bilinear"), told)
    assert masks.shape == (1, 3, 4 * cells, 4 * cells)
    assert coarse.mask_size == 16 * cells


def test_settled_is_as_loaded() -> None:
    torch.manual_seed(0)
    net = sam2.Sam2(SMALL)
    net.bake()
    before = net.state_dict()
    pixels = torch.randn(1, 3, 256, 256)
    with torch.inference_mode():
        plain = net.encode(pixels)
        net.settle(torch.float32)
        settled = net.encode(pixels)
    for a, b in zip((plain.embedding, *plain.high_res), (settled.embedding, *settled.high_res), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    after = net.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("activation", [nn.GELU, nn.ReLU])
def test_packed_layers_move_and_change_type(activation: type[nn.Module]) -> None:
    mlp = MLP(8, 32, 8, 2, activation).requires_grad_(False)
    x = torch.randn(5, 8)
    expected = mlp(x)
    holder = nn.Sequential(mlp, nn.Linear(8, 8).requires_grad_(False))
    pack(holder)
    assert all(isinstance(layer, PackedLinear) for layer in mlp.layers)
    torch.testing.assert_close(mlp(x), expected)
    torch.testing.assert_close(mlp.double()(x.double()), expected.double(), rtol=1e-5, atol=1e-6)  # a type that is not packed
    assert mlp.to("meta")(x.to("meta")).shape == (5, 8)


@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40),
    st.floats(-1e6, 1e6, width=32),
)
def test_bytes_are_within_half_a_step(numbers: list[float], shift: float) -> None:
    x = torch.tensor(numbers) + shift
    rounded, scale, zero = to_bytes(x)
    assert rounded.dtype == torch.uint8
    assert 0 <= zero <= 255
    back = scale * (rounded.double() - zero)
    assert (back - x).abs().max() <= 0.5001 * scale + 1e-4 * x.abs().max()


multiplies = pytest.mark.skipif(not processor.cpu_has("vnni"), reason="this CPU does not multiply bytes")


@multiplies
@pytest.mark.parametrize("gelu", [False, True])
def test_layers_in_bytes_are_near_and_move(gelu: bool) -> None:
    torch.manual_seed(0)
    linear, x = nn.Linear(300, 260).requires_grad_(False), torch.randn(2, 70, 300)
    x[..., 7] += 5  # numbers need not lie about zero
    expected = F.gelu(linear(x)) if gelu else linear(x)
    layer = Int8Linear(linear, gelu)
    near = layer(x)
    assert 0 < (near - expected).norm() < 0.02 * expected.norm()
    rounded = layer.state_dict()
    assert rounded.keys() == linear.state_dict().keys()
    assert (rounded["weight"] - linear.weight).abs().max() <= linear.weight.abs().max() / 250
    assert torch.equal(layer.to("cpu")(x), near), "rounding what is rounded changes nothing"
    assert torch.equal(pickle.loads(pickle.dumps(layer))(x), near)
    wide = layer.double()(x.double())  # a type that is not multiplied in bytes
    assert (wide - expected).norm() < 0.02 * expected.norm()
    assert layer.to("meta")(x.double().to("meta")).shape == expected.shape


@multiplies
def test_wide_layers_are_in_bytes_and_others_as_they_were() -> None:
    torch.manual_seed(0)
    exact, near = (sam2.Sam2(replace(SMALL, trunk=HieraConfig(width=64, background=(7, 7)))) for _ in range(2))
    near.load_state_dict(exact.state_dict())
    for net, arithmetic in ((exact, torch.float32), (near, torch.int8)):
        net.bake()
        net.settle(arithmetic)
    assert (near.arithmetic, near.encoding_dtype) == (torch.int8, torch.float32)
    kinds = {name: type(layer) for name, layer in near.named_modules() if isinstance(layer, PackedLinear)}
    assert kinds["image_encoder.trunk.blocks.0.mlp.layers.0"] is PackedLinear
    assert kinds["image_encoder.trunk.blocks.5.mlp.layers.0"] is Int8Linear
    assert near.parameter_count == exact.parameter_count == sum(p.numel() for p in sam2.Sam2(near.config).parameters())
    pixels = torch.randn(1, 3, 256, 256)
    with torch.inference_mode():
        a, b = exact.encode(pixels).embedding, near.encode(pixels).embedding
    assert 0 < (a - b).norm() < 0.05 * a.norm()
    narrow = sam2.Sam2(SMALL)
    narrow.bake()
    narrow.settle(torch.int8)
    assert narrow.arithmetic == torch.float32, "it has no layer that pays"


@pytest.mark.parametrize(
    ("knows", "chosen"),
    [
        ({"avx512_bf16", "vnni"}, torch.bfloat16),
        ({"amx_tile"}, torch.bfloat16),
        ({"vnni"}, torch.int8),
        (set(), torch.float32),
    ],
)
def test_fast_is_what_the_cpu_is_fast_in(knows: set[str], chosen: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (devices, processor):
        monkeypatch.setattr(module, "cpu_has", knows.__contains__)
    cpu = torch.device("cpu")
    assert devices.arithmetic(cpu, "fast", auto_is_fast=False) == chosen
    assert devices.arithmetic(cpu, "auto", auto_is_fast=True) == chosen
    assert devices.arithmetic(cpu, "auto", auto_is_fast=False) == torch.float32
    assert devices.arithmetic(cpu, "exact", auto_is_fast=True) == torch.float32


def test_rows_in_place() -> None:
    x = torch.randn(3, 1500, 4)
    with torch.inference_mode():
        once = x.clone()
        assert torch.equal(by_rows(lambda rows: 2 * rows, once), 2 * x)
        assert torch.equal(once, 2 * x)


def test_first_sines_of_a_process_are_right() -> None:
    """Without care the first sine that two threads share is off by 1e-4 in many processes."""
    code = (
        "import torch, pointcut\n"
        "net = pointcut.load('nano', device='cpu').net\n"
        "with torch.inference_mode():\n"
        "    net.encode(torch.randn(1, 3, 512, 512))\n"
        "    first, second = net.prompt_encoder.dense_positions(), net.prompt_encoder.dense_positions()\n"
        "assert torch.equal(first, second)\n"
    )
    for _ in range(2):
        subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("precision", ["fast", "auto"])
def test_other_precisions_are_near(precision) -> None:
    exact = pointcut.load("nano", device="cpu").encode(PHOTOS / "cat.jpg")
    near = pointcut.load("nano", device="cpu", precision=precision).encode(PHOTOS / "cat.jpg")
    assert near.features.embedding.dtype == torch.float32
    boxes = [(150, 60, 330, 260), (20, 40, 200, 220)]
    a, b = exact.segment(boxes=boxes).masks, near.segment(boxes=boxes).masks
    overlap = (a & b).sum((1, 2)) / (a | b).sum((1, 2))
    assert np.all(overlap > 0.97)


def test_a_preview_is_the_best_mask_at_low_resolution(nano: pointcut.Segmenter) -> None:
    photo = nano.encode(PHOTOS / "cat.jpg")
    preview = photo.preview(points=[(225, 110)])
    best = photo.segment(points=[(225, 110)]).best
    assert preview.mask.shape == (128, 128)
    np.testing.assert_array_equal(preview.mask, best.logits[0] > 0)
    assert preview.score == pytest.approx(float(best.scores[0]), abs=1e-5)
    box = photo.preview(boxes=(150, 60, 330, 260))
    assert 0.05 < box.mask.mean() < 0.6
    with pytest.raises(pointcut.InvalidPrompt, match="one object"):
        photo.preview(boxes=[(0, 0, 9, 9), (5, 5, 20, 20)])


@pytest.mark.slow
def test_bench_prints_times_and_what_fast_costs(tmp_path: Path) -> None:
    from pointcut.cli.main import app

    options = ["--rounds", "1", "--threads", "2", "--json", "--picture", str(tmp_path / "times.png")]
    answer = CliRunner().invoke(app, ["bench", str(PHOTOS / "cat.jpg"), *options])
    assert answer.exit_code == 0, answer.output
    figures = json.loads(answer.stdout)
    assert [row["precision"] for row in figures["rows"]] == ["exact", "fast"]
    for row in figures["rows"]:
        assert 0 < row["preview"] < row["cold_start"]
        assert row["peak_mb"] > 100
    assert figures["fast"]["nano"]["arithmetic"] == pointcut.load("nano", device="cpu", precision="fast").arithmetic
    assert figures["fast"]["nano"]["mean_iou"] >= 0.99  # as `auto` promises (specs.FAST_ENOUGH)
    assert Image.open(tmp_path / "times.png").width > 800
    assert CliRunner().invoke(app, ["bench", str(PHOTOS / "cat.jpg"), "--model", "no-such"]).exception is not None


def test_the_next_is_done_while_this_one_is_looked_at() -> None:
    read: list[int] = []

    def sources() -> Iterator[int]:
        for i in range(20):
            read.append(i)
            yield i

    def half(i: int) -> float:
        if i == 13:
            raise ValueError("thirteen")
        return i / 2

    results = ahead(half, sources(), 2)
    assert next(results) == 0
    assert max(read) <= 3  # bounded: nothing is read for its own sake
    assert [next(results) for _ in range(12)] == [i / 2 for i in range(1, 13)]
    with pytest.raises(ValueError, match="thirteen"):
        next(results)
    assert list(ahead(half, [])) == []


def test_one_picture_after_another_is_each_alone(nano: pointcut.Segmenter) -> None:
    names = ["cat.jpg", "coffee.jpg", "rocket.jpg"]
    each = nano.encode_each(PHOTOS / name for name in [*names, "none.jpg"])
    for name in names:
        photo = next(each)
        assert torch.equal(photo.features.embedding, nano.encode(PHOTOS / name).features.embedding)
    with pytest.raises(pointcut.UnreadableImage):
        next(each)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("precision", ["exact", "fast"])
def test_loading_holds_the_weights_once(precision: str, reproducible, tmp_path: Path) -> None:
    """The file is mapped; what is packed or converted takes its place, and is not held beside it."""
    path = tmp_path / "tiny.pt"
    torch.save({"model": reproducible("sam2.1_hiera_tiny")}, path)
    code = (
        "import sys, torch, pointcut, pointcut.segment.segmenter\n"
        "from pointcut.bench import peak_megabytes\n"
        "torch.zeros(9) @ torch.zeros(9)\n"
        "before = peak_megabytes()\n"
        "model = pointcut.load(sys.argv[1], device='cpu', precision=sys.argv[2])\n"
        "print(peak_megabytes() - before)\n"
    )
    grown = subprocess.run([sys.executable, "-c", code, path, precision], capture_output=True, text=True, check=True).stdout
    assert float(grown) * 2**20 <= 1.3 * path.stat().st_size


@pytest.mark.parametrize("cells", [16, 196, 1023, 1024, 1300])
@pytest.mark.parametrize("amx", [False, True])
def test_attention_in_bfloat16_is_the_fused_kernels(cells: int, amx: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "has_amx", lambda: amx)
    fused = []
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, cells, 32).bfloat16() for _ in range(3))
    expected = F.scaled_dot_product_attention(q, k, v)
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *args, **_: fused.append(args) or expected)
    with torch.inference_mode():
        answer = layers.attend(q, k, v)
    assert len(fused) == amx
    torch.testing.assert_close(answer.float(), expected.float(), atol=0.01, rtol=0.03)


@pytest.mark.parametrize(("windows", "keys"), [(5, 49), (1, 1024)])
def test_plain_attention_adds_a_bias_by_row_and_column(windows: int, keys: int) -> None:
    torch.manual_seed(0)
    side = int(keys**0.5)
    q, k, v = (torch.randn(windows, 2, keys, 16) for _ in range(3))
    rows, columns = (torch.randn(windows, 2, keys, side) for _ in range(2))
    bias = (rows[..., :, None] + columns[..., None, :]).flatten(3)
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    torch.testing.assert_close(layers.plain_attention(q, k, v, bias=(rows, columns)), expected, atol=1e-5, rtol=1e-4)


def test_relative_attention_in_bfloat16_is_that_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    attention, x = RelativeAttention(32, heads=2, side=32), torch.randn(1, 32, 32, 32)
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    with torch.inference_mode():
        exact = attention(x)
        for amx in (True, False):
            monkeypatch.setattr(layers, "has_amx", lambda amx=amx: amx)
            error = attention.bfloat16()(x.bfloat16()).float() - exact
            assert error.norm() < 0.02 * exact.norm(), f"AMX {amx}: {error.norm() / exact.norm():.4f}"
