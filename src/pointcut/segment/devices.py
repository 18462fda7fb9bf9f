"""Which device and which arithmetic."""

from __future__ import annotations

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
