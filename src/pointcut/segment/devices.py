"""Which device and which arithmetic."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

from ..errors import DeviceUnavailable

Precision = Literal["float32", "bfloat16", "float16"]


def choose_device(name: str | torch.device) -> torch.device:
    """`auto` (CUDA, then Apple's MPS, then CPU), or a device by its torch name. Raises DeviceUnavailable."""
    if isinstance(name, torch.device):
        return name
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DeviceUnavailable(f"no device is called {name!r}: use auto, cpu, cuda, cuda:N or mps") from None
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(device.type, False) or (device.index or 0) >= max(1, torch.cuda.device_count()):
        raise DeviceUnavailable(f"{name} is not available on this machine; use --device auto or cpu")
    return device


def encoding_precision(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """The context in which images are encoded; prompts are always decoded in float32."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, precision))


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of glibc's <malloc.h>."""


def keep_freed_memory() -> None:
    """Tells glibc to keep freed memory for the next tensor instead of handing it back to the kernel each time.

    PyTorch asks for tens of megabytes a layer on a CPU; by default each of them is mapped, zeroed page by page and unmapped
    again, which took a third of SAM 2.1 tiny's encoding. Applies to the whole process; memory stays what its peak was. Set
    POINTCUT_MALLOC=default to leave it alone. Does nothing where the C library is another.
    """
    if not sys.platform.startswith("linux") or os.environ.get("POINTCUT_MALLOC") == "default":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 1 << 30)
        mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
