"""What a CPU is quick at, and products of matrices by whichever of PyTorch's libraries is quicker at them.

Letters: M, K, N rows and columns of matrices.
"""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor


def infers_on_cpu(x: Tensor) -> bool:
    """Whether steps on x may work in place and piece by piece, so that what lies between them stays in a processor's cache.

    Not where PyTorch's compiler does that itself.
    """
    return x.device.type == "cpu" and not torch.is_grad_enabled() and not torch.compiler.is_compiling()


@cache
def cpu_has(feature: Literal["amx_tile", "avx512_bf16", "vnni"]) -> bool:
    """Whether this CPU has such instructions, and this PyTorch knows."""
    test = getattr(torch.cpu, f"_is_{feature}_supported", None)
    return test is not None and test()


def has_amx() -> bool:
    """Whether this CPU multiplies tiles of bfloat16."""
    return cpu_has("amx_tile")


def multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for products of bfloat16; others imitate it slowly."""
    return cpu_has("avx512_bf16") or has_amx()


def has_onednn(*operations: str) -> bool:
    """Whether this build of PyTorch has oneDNN's layers by these names."""
    return torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in operations)


@cache
def mkl_is_slow() -> bool:
    """Whether oneDNN multiplies float32 matrices faster than MKL, which PyTorch asks for products.

    MKL keeps AVX-512 for Intel's processors; on others that have it oneDNN is up to twice as fast (AMD EPYC of the fifth
    generation, PyTorch 2.13: 440 GFLOP/s instead of 200).
    """
    if not torch.backends.mkl.is_available() or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    return has_onednn("_linear_pointwise") and not made_by_intel()


def made_by_intel() -> bool:
    """Whether Intel made this CPU."""
    try:
        told = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        told = platform.processor()
    return "GenuineIntel" in told


LEAST = 10_000_000
"""Multiplications that are worth the other library's longer way in."""


def product(x: Tensor, y: Tensor) -> Tensor:
    """(..., M, K) @ (K, N), or whatever else `@` multiplies, as it does."""
    return by_onednn(x, y) if _onednn_pays(x, y) else x @ y


def by_onednn(x: Tensor, y: Tensor) -> Tensor:
    """The same, by oneDNN whatever the processor."""
    return torch.ops.mkldnn._linear_pointwise(x, _dense(y).mT, None, "none", [], "")


def added(more: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """more (M, N) + (M, K) @ (K, N)."""
    return _added_by_onednn(more, x, y) if _onednn_pays(x, y) else torch.addmm(more, x, y)


def accumulated(total: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The same, and `total` is used up: the sum may take its place."""
    return _added_by_onednn(total, x, y) if _onednn_pays(x, y) else total.addmm_(x, y)


def _added_by_onednn(more: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise.binary(x, more, _dense(y).mT, None, "add")


def _onednn_pays(x: Tensor, y: Tensor) -> bool:
    if y.ndim != 2 or x.dtype != torch.float32 or not infers_on_cpu(x):
        return False
    return x.numel() * y.shape[1] >= LEAST and mkl_is_slow()


def _dense(x: Tensor) -> Tensor:
    """Without gaps between its rows or columns: oneDNN takes a thousand times as long where the second matrix has them."""
    if x.is_contiguous() or x.mT.is_contiguous():
        return x
    return x.mT.contiguous().mT if x.stride(0) == 1 else x.contiguous()
