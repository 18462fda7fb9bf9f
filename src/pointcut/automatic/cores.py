"""Independent work on a CPU's cores, a core for each piece.

What one point needs of the decoder are many small steps. With all cores on each of them, they wait for one another at the end
of every step; with a core to itself each piece runs through, and what it needs stays in that core's cache.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch

from ..ahead import ahead

Source = TypeVar("Source")
Result = TypeVar("Result")

MOST = 8
"""Pieces at a time: beyond that they wait for Python's lock. Where there are more cores, each piece gets several."""


def on_all_cores(work: Callable[[Source], Result], sources: Iterable[Source]) -> Iterator[Result]:
    """`map` in order, a piece on each core that PyTorch may use (`torch.get_num_threads()`)."""
    cores = torch.get_num_threads()
    together = min(cores, MOST)
    if together == 1 or torch_library() is None:
        yield from map(work, sources)
    else:
        yield from ahead(work, sources, together, together, lambda: take_cores(cores // together))


def take_cores(count: int) -> None:
    """How many cores PyTorch uses for what this thread asks of it. `torch.set_num_threads` would tell all threads."""
    library = torch_library()
    assert library is not None
    torch.get_num_threads()  # a thread is set up at its first call, which would undo what follows
    library.omp_set_num_threads(count)
    if hasattr(library, "MKL_Set_Num_Threads_Local"):
        library.MKL_Set_Num_Threads_Local(count)


@cache
def torch_library() -> ctypes.CDLL | None:
    """PyTorch's own library, where its threads are OpenMP's (Linux, macOS)."""
    name = {"linux": "libtorch_cpu.so", "darwin": "libtorch_cpu.dylib"}.get(sys.platform)
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / str(name)))
    except OSError:
        return None
    return library if hasattr(library, "omp_set_num_threads") else None
