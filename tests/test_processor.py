"""Products by either of PyTorch's libraries for a CPU are the same products, alone and within whole networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pointcut.nets import layers, memory, mixtures, processor, vit
from pointcut.segment.segmenter import Segmenter
from pointcut.segment.session import Encoder

from small import small_net

KINDS = ("dense", "rows apart", "turned", "turned, columns apart")
QUICK_AND_SLOW = pytest.mark.parametrize("slow", [False, True], ids=["MKL", "oneDNN"])


def matrix(kind: str, rows: int, columns: int) -> torch.Tensor:
    """Random, and lying in memory in that way."""
    return {
        "dense": lambda: torch.randn(rows, columns),
        "rows apart": lambda: torch.randn(rows, columns + 3)[:, :columns],
        "turned": lambda: torch.randn(columns, rows).T,
        "turned, columns apart": lambda: torch.randn(columns, rows + 5)[:, :rows].T,
    }[kind]()


def choose(monkeypatch: pytest.MonkeyPatch, slow: bool) -> None:
    """oneDNN if MKL is to be slow, for products of any size."""
    for module in (processor, layers, memory, mixtures):
        monkeypatch.setattr(module, "mkl_is_slow", lambda: slow)
    monkeypatch.setattr(processor, "LEAST", 0)


@QUICK_AND_SLOW
@settings(max_examples=40, deadline=None)
@given(sizes=st.tuples(*[st.integers(1, 70)] * 3), kinds=st.tuples(*[st.sampled_from(KINDS)] * 3), seed=st.integers(0, 1000))
def test_products_of_matrices_that_lie_in_any_way(
    slow: bool, sizes: tuple[int, int, int], kinds: tuple[str, str, str], seed: int
) -> None:
    torch.manual_seed(seed)
    m, k, n = sizes
    x, y, more = (matrix(kind, *shape) for kind, shape in zip(kinds, ((m, k), (k, n), (m, n)), strict=True))
    expected = (x.double() @ y.double()).float()
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        choose(patch, slow)
        torch.testing.assert_close(processor.product(x, y), expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(processor.product(x.expand(2, m, k), y), expected.expand(2, m, n), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(processor.added(more, x, y), more + expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(processor.accumulated(more.clone(), x, y), more + expected, atol=1e-4, rtol=1e-4)


@QUICK_AND_SLOW
def test_what_is_added_to_stays_as_it_was(slow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    choose(monkeypatch, slow)
    more = torch.ones(4, 5)
    with torch.inference_mode():
        processor.added(more, torch.randn(4, 3), torch.randn(3, 5))
    assert bool((more == 1).all())


@pytest.mark.parametrize("name", ["sam2", "sam1"])
def test_networks_answer_alike_by_either(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (layers, vit):
        monkeypatch.setattr(module, "MANY_KEYS", 100)  # 256 cells are many, then
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    rough = np.zeros((90, 120), bool)
    rough[20:60, 30:80] = True
    answers = []
    for slow in (False, True):
        choose(monkeypatch, slow)
        photo = Segmenter(Encoder(small_net(name), name)).encode(pixels)
        prompts = ({"points": [(50, 40)]}, {"boxes": (20, 10, 90, 70)}, {"mask": rough, "points": [(50, 40)]})
        answers.append([photo.features.embedding.numpy(), *(photo.segment(**prompt).logits for prompt in prompts)])
    for quick, slow in zip(*answers, strict=True):
        np.testing.assert_allclose(slow, quick, atol=2e-4 * np.abs(quick).max())


def test_films_are_followed_alike_by_either(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = list(np.random.default_rng(1).integers(0, 256, (3, 64, 64, 3), np.uint8))
    answers = []
    for slow in (False, True):
        choose(monkeypatch, slow)
        net = small_net("sam2")
        net.settle(torch.float32)
        tracker = Segmenter(Encoder(net, "small")).track(frames)
        tracker.prompt(0, 1, boxes=(10, 10, 50, 50))
        answers.append([frame.segments.logits for frame in tracker.run()])
    for quick, slow in zip(*answers, strict=True):
        np.testing.assert_allclose(slow, quick, atol=2e-3 * np.abs(quick).max())


def test_only_processors_that_intel_did_not_make_have_a_slow_mkl(monkeypatch: pytest.MonkeyPatch) -> None:
    processor.mkl_is_slow.cache_clear()
    monkeypatch.setattr(processor, "made_by_intel", lambda: True)
    assert not processor.mkl_is_slow()
    processor.mkl_is_slow.cache_clear()
    monkeypatch.setattr(processor, "made_by_intel", lambda: False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert not processor.mkl_is_slow()
    processor.mkl_is_slow.cache_clear()
