"""The work in processes of this machine, a core and a model each: for searches of everything, in which Python itself works so
much that threads wait for one another.

Processes are begun anew (spawned), so a script that asks for this must keep its own doing under `if __name__ == "__main__"`.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache, partial
from pathlib import Path

from ..ahead import in_order
from ..errors import PointcutError
from ..segment.devices import choose_device
from .inputs import Task
from .run import cores, locally
from .work import BatchJob, Done, Worker

AHEAD = 3
"""Pictures that each process may be ahead of the one that is waited for."""

FEW = 4
"""Pictures for each process below which beginning processes is not worth it."""


def engine_for(
    job: BatchJob, device: str, workers: int | None
) -> Callable[[Sequence[Task], BatchJob, Path], Iterator[Done]] | None:
    """Processes where they are the faster ones on this machine; None: threads are (`run.locally`)."""
    count = workers or cores()
    alone = job.pointed is None and job.detector is None and job.describe is None and device in ("auto", "cpu") and count > 1
    return process_engine("cpu", count) if alone and choose_device(device).type == "cpu" else None


def process_engine(device: str, workers: int) -> Callable[[Sequence[Task], BatchJob, Path], Iterator[Done]]:
    """An engine for `run_batch`: so many processes."""

    def engine(tasks: Sequence[Task], job: BatchJob, folder: Path) -> Iterator[Done]:
        if len(tasks) < FEW * workers:
            yield from locally(tasks, job, folder, device, workers)
            return
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin, (os.getpid(),)) as pool:
            try:
                yield from in_order(pool, partial(_do, job, device, folder), tasks, AHEAD * workers)
            except BrokenProcessPool:
                raise PointcutError(
                    "a process that was doing pictures died (out of memory?); what was done is kept: run it again, with fewer "
                    "--workers"
                ) from None

    return engine


def _begin(parent: int) -> None:
    """Makes a process ready."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """Ends this process when the one that began it is gone: a killed run leaves nobody behind."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


_opened = cache(Worker.open)
"""Once in a process, with its first picture: what cannot be had comes back as that picture's error."""


def _do(job: BatchJob, device: str, folder: Path, task: Task) -> Done:
    return _opened(job, device)(task, folder)
