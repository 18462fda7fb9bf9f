"""How networks are run: without gradients, in their own arithmetic, and without waiting for a GPU where nothing is asked of it.

A GPU works through what it is asked for while the program goes on. A plain copy to it or from it waits until it has done all of
that; what is here does not, or only as far as it must.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

Method = TypeVar("Method", bound=Callable[..., object])


def own_arithmetic(device: torch.device) -> AbstractContextManager[Any]:
    """No `torch.autocast` of the caller's reaches in: how exact a network is, is said when it is loaded."""
    return torch.autocast(device.type, enabled=False)


@contextmanager
def inference(device: torch.device) -> Iterator[None]:
    """The same, without gradients."""
    with torch.inference_mode(), own_arithmetic(device):
        yield


def encoding(device: torch.device) -> AbstractContextManager[Any]:
    """No gradients; and on a GPU a caller's `torch.autocast` holds for encoding, as scripts for Meta's code expect of it."""
    return inference(device) if device.type == "cpu" else torch.inference_mode()


def inferring(method: Method) -> Method:
    """Decorates a method that runs its object's `net`: see `inference`."""

    @wraps(method)
    def run(self: Any, *args: object, **kwargs: object) -> object:
        with inference(self.net.device):
            return method(self, *args, **kwargs)

    return cast("Method", run)


def as_tensor(values: Any, dtype: torch.dtype) -> Tensor:
    """Of whatever holds numbers, on the CPU, whatever a caller's default device is."""
    return torch.as_tensor(values, dtype=dtype, device="cpu")


def upload(x: Tensor | np.ndarray, device: torch.device) -> Tensor:
    """What the CPU has, on the device. CUDA fetches it when its turn has come, from memory that stays in its place for that."""
    x = torch.tensor(x, device="cpu") if isinstance(x, np.ndarray) else x
    if device.type != "cuda":
        return x.to(device)
    return x.pin_memory().to(device, non_blocking=True)


class Download:
    """Tensors on their way to the CPU, begun now: what a GPU is asked for later is not waited for."""

    def __init__(self, *tensors: Tensor) -> None:
        self._tensors = [x.to("cpu", non_blocking=x.device.type == "cuda") for x in tensors]
        device = tensors[0].device
        self._arrived = torch.cuda.current_stream(device).record_event() if device.type == "cuda" else None

    def arrays(self) -> list[np.ndarray]:
        """They are a caller's own: of memory that may be swapped."""
        if self._arrived is None:
            return [x.numpy() for x in self._tensors]
        self._arrived.synchronize()
        return [x.numpy().copy() for x in self._tensors]
