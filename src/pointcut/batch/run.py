"""The local engine: pictures through a few threads, rows into the journal in order, and files that tell of all of them.

Each thread takes a picture from its file to its row, with one of the processor's cores: that gets a little more out of a small
network than all cores on one picture, and decoding, encoding, prompting and writing overlap by themselves.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..ahead import ahead
from ..export import open_writers
from ..files import replacing
from ..segment.segmenter import Segmenter
from .indexing import Indexing
from .inputs import Task
from .journal import Journal
from .places import size_of
from .work import TOGETHER, BatchJob, Done, Worker, record_of

REPORT = "report.json"


@dataclass
class Report:
    """How a run went."""

    pictures: int
    resumed: int = 0
    """Done by earlier runs."""
    failed: list[dict[str, str]] = field(default_factory=list)
    masks: int = 0
    described: int = 0
    """Masks that a model said something of."""
    undescribed: Counter[str] = field(default_factory=Counter)
    """Why it said nothing of others, and how often."""
    seconds: float = 0.0
    where: Counter[str] = field(default_factory=Counter)
    """Seconds of work by step, all threads together."""
    files: list[Path] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Pictures a second, of this run."""
        done = self.pictures - self.resumed
        return done / self.seconds if self.seconds else 0.0

    def document(self) -> dict[str, Any]:
        shares = {name: round(seconds, 3) for name, seconds in self.where.items()}
        about = {"pictures": self.pictures, "resumed": self.resumed, "failed": self.failed, "masks": self.masks}
        if self.described or self.undescribed:
            about |= {"described": self.described, "undescribed": dict(self.undescribed)}
        speed = {"seconds": round(self.seconds, 3), "pictures_per_second": round(self.rate, 3), "work_seconds": shares}
        return {**about, **speed, "files": [str(path) for path in self.files]}


def run_batch(
    tasks: Sequence[Task],
    job: BatchJob,
    folder: Path,
    *,
    device: str = "auto",
    workers: int | None = None,
    fresh: bool = False,
    retry: bool = False,
    progress: Callable[[int, int, int], None] | None = None,
    engine: Callable[[Sequence[Task], BatchJob, Path], Iterator[Done]] | None = None,
) -> Report:
    """Does what is not done yet, writes the formats, and reports.

    workers: threads, by default one a core, and one on a GPU. fresh: begin anew. retry: try again what failed.
    progress: called with pictures done, in all, and failed. engine: who does the work, by default threads here.
    Raises OutputError, ModelError, InputError.
    """
    started = time.perf_counter()
    with Journal(folder, job.told, fresh=fresh, retry=retry) as journal:
        todo = [task for task in tasks if not is_done(task, journal)]
        report = Report(len(tasks), resumed=len(tasks) - len(todo))
        failures = 0
        if todo:
            work = engine(todo, job, folder) if engine else locally(todo, job, folder, device, workers)
            with Indexing(journal, job.index) as indexing:
                for count, done in enumerate(work, start=report.resumed + 1):
                    indexing.take(done)
                    report.where.update(done.seconds)
                    failures += "error" in done.row
                    if progress is not None:
                        progress(count, len(tasks), failures)
        report.files = finish(journal, tasks, job, folder, report)
        report.seconds = time.perf_counter() - started
        with replacing(folder / REPORT) as temporary:
            temporary.write_text(json.dumps(report.document(), indent=1) + "\n", encoding="utf-8")
    return report


def is_done(task: Task, journal: Journal) -> bool:
    """Whether an earlier run did it, and its file has not changed its length since."""
    line = journal.done.get(task.name)
    if line is None:
        return False
    now = size_of(task.path)
    return line.bytes is None or now is None or line.bytes == now  # what is gone by now was done


def locally(tasks: Sequence[Task], job: BatchJob, folder: Path, device: str, workers: int | None) -> Iterator[Done]:
    """The work of this machine, in order."""
    worker = Worker.open(job, device)
    threads = workers or (1 if worker.model.device.type != "cpu" else cores())
    with worker.describer or nullcontext(), cores_each(threads, worker.model) as prepare:
        yield from ahead(lambda task: worker(task, folder), tasks, 2 * threads, threads, prepare)


def cores() -> int:
    """Of this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def cores_each(threads: int, model: Segmenter) -> Iterator[Callable[[], None] | None]:
    """While the block runs, each of so many threads computes with its share of the cores; gives what a thread calls first."""
    if model.device.type != "cpu":
        yield None
        return
    before, share = torch.get_num_threads(), max(1, cores() // threads)
    torch.set_num_threads(share)
    try:
        yield lambda: torch.set_num_threads(share)
    finally:
        torch.set_num_threads(before)


def finish(journal: Journal, tasks: Iterable[Task], job: BatchJob, folder: Path, report: Report) -> list[Path]:
    """Files that tell of all pictures, from the journal; counts masks and failures on the way."""
    together = [name for name in job.formats if name in TOGETHER]
    writers = open_writers(folder, together)
    for row in journal.rows([task.name for task in tasks]):
        if "error" in row:
            report.failed.append({name: row[name] for name in ("name", "error", "message")})
            continue
        report.masks += len(row["masks"])
        report.described += sum("description" in mask for mask in row["masks"])
        report.undescribed.update(mask["description_error"] for mask in row["masks"] if "description_error" in mask)
        if together:
            writers.add(record_of(row))
    writers.close()
    made = {path.name: path for path in writers.files if path.parent == folder}
    return [*made.values(), journal.path]
