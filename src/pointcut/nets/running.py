"""How networks are run: without gradients, in their own arithmetic, and without waiting for a GPU where nothing is asked of it.

A GPU works through what it is asked for while the program goes on. A plain copy to it or from it waits until it has done all of
that; what is here does not, or only as far as it must.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

Given = ParamSpec("Given")
Result = TypeVar("Result")


class Runs(Protocol):
    """Holds a network that knows its device."""

    @property
    def net(self) -> OnDevice: ...


class OnDevice(Protocol):
    @property
    def device(self) -> torch.device: ...


Runner = TypeVar("Runner", bound=Runs)


@contextmanager
def own_arithmetic(device: torch.device) -> Iterator[None]:
    """No `torch.autocast` of the caller's reaches in: how exact a network is, is said when it is loaded."""
    with torch.autocast(device.type, enabled=False):
        yield


@contextmanager
def inference(device: torch.device) -> Iterator[None]:
    """The same, without gradients."""
    with torch.inference_mode(), own_arithmetic(device):
        yield


@contextmanager
def encoding(device: torch.device) -> Iterator[None]:
    """No gradients; and on a GPU a caller's `torch.autocast` holds for encoding, as scripts for Meta's code expect of it."""
    with torch.inference_mode(), nullcontext() if device.type != "cpu" else own_arithmetic(device):
        yield


def inferring(method: Callable[Concatenate[Runner, Given], Result]) -> Callable[Concatenate[Runner, Given], Result]:
    """Decorates a method that runs the network of its object: see `inference`."""

    @wraps(method)
    def run(self: Runner, /, *args: Given.args, **kwargs: Given.kwargs) -> Result:
        with inference(self.net.device):
            return method(self, *args, **kwargs)

    return run


def upload(x: Tensor, device: torch.device) -> Tensor:
    """A CPU's tensor on the device. CUDA fetches it when its turn has come, from memory that stays in its place for that."""
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
