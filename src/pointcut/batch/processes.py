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
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from ..errors import PointcutError
from ..segment.devices import choose_device
from .inputs import Task
from .run import cores, locally
from .work import BatchJob, Done, Worker

AHEAD = 3
"""Pictures that each process may be ahead of the one that is waited for."""

FEW = 4
"""Pictures for each process below which beginning processes is not worth it."""

_worker: Worker | None = None
"""Of a process that was begun here."""


def engine_for(
    job: BatchJob, device: str, workers: int | None
) -> Callable[[Sequence[Task], BatchJob, Path], Iterator[Done]] | None:
    """Processes where they are the faster ones on this machine; None: threads are (`run.locally`)."""
    count = workers or cores()
    alone = job.pointed is None and job.detector is None and device in ("auto", "cpu") and count > 1
    return process_engine("cpu", count) if alone and choose_device(device).type == "cpu" else None


def process_engine(device: str, workers: int) -> Callable[[Sequence[Task], BatchJob, Path], Iterator[Done]]:
    """An engine for `run_batch`: so many processes."""

    def engine(tasks: Sequence[Task], job: BatchJob, folder: Path) -> Iterator[Done]:
        if len(tasks) < FEW * workers:
            yield from locally(tasks, job, folder, device, workers)
            return
        Worker.open(job, device)  # what cannot be had is said here, once, by its own error
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin, (job, device, os.getpid())) as pool:
            running: deque[Future[Done]] = deque()
            try:
                for task in tasks:
                    running.append(pool.submit(_do, task, folder))
                    if len(running) >= AHEAD * workers:
                        yield running.popleft().result()
                while running:
                    yield running.popleft().result()
            except BrokenProcessPool:
                raise PointcutError(
                    "a process that was doing pictures died (out of memory?); what was done is kept: run it again, with fewer "
                    "--workers"
                ) from None
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    return engine


def _begin(job: BatchJob, device: str, parent: int) -> None:
    """Makes a process ready."""
    global _worker  # noqa: PLW0603  # what a process of the pool is for
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _worker = Worker.open(job, device)


def _end_with(parent: int) -> None:
    """Ends this process when the one that began it is gone: a killed run leaves nobody behind."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _do(task: Task, folder: Path) -> Done:
    assert _worker is not None
    return _worker(task, folder)
