"""Which device and which arithmetic."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from functools import cache
from pathlib import Path
from typing import get_args

import torch

from ..errors import DeviceUnavailable, InputError, MissingExtra, first_line
from ..nets.processor import cpu_has, multiplies_bfloat16
from ..weights.specs import Precision


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


def require_compiler(device: torch.device) -> None:
    """Compiles next to nothing with PyTorch's compiler. Raises MissingExtra where it cannot."""
    try:
        torch.compile(torch.neg)(torch.zeros(8, device=device))
    except RuntimeError as error:  # or a kind of it: which one depends on what is missing
        raise MissingExtra(
            f"PyTorch's compiler cannot work here ({first_line(error)}); install a C++ compiler, on CUDA Triton as well, "
            "or load without compiled=True"
        ) from None


def wait_for(device: torch.device) -> None:
    """Returns when the device has done what it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def gpu_name(device: torch.device) -> str | None:
    """What a CUDA device is called; None for others."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else None


def arithmetic(device: torch.device, precision: Precision, auto_is_fast: bool) -> torch.dtype:
    """How images are encoded, as `Promptable.settle` takes it; prompts are always answered in float32.

    `exact` is float32. `fast` is the narrower kind that the device computes with at speed: on a CPU bfloat16 where it has
    AVX512_BF16 or AMX instructions, else int8 where it has those of VNNI (elsewhere nothing is faster than float32); on CUDA
    bfloat16 or float16; on MPS float16. `auto` is `fast` if `auto_is_fast`, else `exact`. Raises InputError.
    """
    if precision not in get_args(Precision):
        raise InputError(f"precision must be exact, fast or auto, got {precision!r}")
    if precision == "exact" or (precision == "auto" and not auto_is_fast):
        return torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if device.type == "mps":
        return torch.float16
    if multiplies_bfloat16():
        return torch.bfloat16
    return torch.int8 if cpu_has("vnni") else torch.float32


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""Of glibc's <malloc.h>."""


def keep_freed_memory() -> None:
    """Tells glibc to keep freed memory for the next tensor instead of handing it back to the kernel each time.

    PyTorch asks for tens of megabytes a layer on a CPU; by default each of them is mapped, zeroed page by page and unmapped
    again, which took a third of SAM 2.1 tiny's encoding. What one thread frees serves the others. Large tensors ask for large
    pages besides, unless PyTorch has given out a tensor before: it reads that wish once. Applies to the whole process; memory
    stays what its peak was. Set POINTCUT_MALLOC=default to leave it alone. Does nothing where the C library is another.
    """
    if not sys.platform.startswith("linux") or os.environ.get("POINTCUT_MALLOC") == "default":
        return
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 1 << 30)
        mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
        mallopt(M_ARENA_MAX, 1)


@cache
def keep_forks_going() -> None:
    """Lets forked processes compute, on one core each: `multiprocessing` forks on Linux before Python 3.14, and so do web
    servers that load first. They have none of OpenMP's threads, and their first product would wait for these for ever.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


MADV_DONTNEED = 4
"""Of Linux' <sys/mman.h>."""

PAGE = mmap.PAGESIZE


class MappedWeights:
    """The weight files that this process has mapped into its memory (Linux; elsewhere nothing is done).

    A weight that was packed is not read again, but its file's pages stay with the process, and count as its memory, until they
    are given back. Nothing is lost by that: a mapped page that is read later comes from the file again.
    """

    def __init__(self) -> None:
        self.ranges: list[tuple[int, int]] = []
        if sys.platform.startswith("linux"):
            for line in Path("/proc/self/maps").read_text().splitlines():
                addresses, access, _, _, file, *_ = line.split()
                if file != "0" and access.startswith("r"):  # an inode: a file's own pages
                    first, _, last = addresses.partition("-")
                    self.ranges.append((int(first, 16), int(last, 16)))

    def release(self, weight: torch.Tensor) -> None:
        """Gives back the pages that lie wholly within a weight, if it is a file's."""
        begin, size = weight.data_ptr(), weight.numel() * weight.element_size()
        first, last = -(-begin // PAGE) * PAGE, (begin + size) // PAGE * PAGE
        if last > first and any(low <= begin and begin + size <= high for low, high in self.ranges):
            ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), MADV_DONTNEED)
