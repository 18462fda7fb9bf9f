"""Lanes: a thread for each kind of work, or several where it waits for others, so that a click never waits behind an encoding.

A lane takes tasks from a bounded queue, in order. Tasks of the same kind that wait together may be done together. A task whose
deadline has passed or whose asker has left is not begun.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Task = TypeVar("Task")
Answer = TypeVar("Answer")


class Busy(Exception):
    """The queue is full."""


class Late(Exception):
    """The deadline passed before the work was begun."""


@dataclass(eq=False)
class Job(Generic[Task, Answer]):
    """One task in a lane."""

    task: Task
    deadline: float
    """By `time.monotonic`."""
    future: Future[Answer] = field(default_factory=Future)
    stop: threading.Event = field(default_factory=threading.Event)
    """Set when nobody wants the answer any more; long work looks at it."""

    def cancel(self) -> None:
        self.stop.set()
        self.future.cancel()


class Lane(Generic[Task, Answer]):
    """A queue and its threads.

    work: answers tasks of one kind, in order. most: how many may wait. together: how many are done at once, in one call.
    kind: tasks of equal kinds may be done together. threads: how many such calls run beside one another.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[Sequence[Task]], Sequence[Answer]],
        *,
        most: int,
        together: int = 1,
        threads: int = 1,
        kind: Callable[[Task], Hashable] = lambda _: None,
        report: Callable[[int, float], None] = lambda _count, _seconds: None,
    ) -> None:
        self.name, self.most, self.together = name, most, together
        self._work, self._kind, self._report = work, kind, report
        self._jobs: deque[Job[Task, Answer]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [threading.Thread(target=self._run, name=f"pointcut-{name}", daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        return len(self._jobs)

    def submit(self, task: Task, seconds: float) -> Job[Task, Answer]:
        """Puts a task at the end of the queue; it is dropped if it is not begun within so many seconds. Raises Busy."""
        job: Job[Task, Answer] = Job(task, time.monotonic() + seconds)
        with self._changed:
            if self._closed or len(self._jobs) >= self.most:
                raise Busy(self.name)
            self._jobs.append(job)
            self._changed.notify()
        return job

    def close(self) -> None:
        """Ends the threads; what waits is cancelled."""
        with self._changed:
            self._closed = True
            for job in self._jobs:
                job.cancel()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._jobs and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                jobs = self._next()
            jobs = [job for job in jobs if self._wanted(job)]
            if jobs:
                started = time.perf_counter()
                self._do(jobs)
                self._report(len(jobs), time.perf_counter() - started)

    def _next(self) -> list[Job[Task, Answer]]:
        """The first job, and those behind it that may be done with it."""
        first = self._jobs.popleft()
        jobs, kind = [first], self._kind(first.task)
        while self._jobs and len(jobs) < self.together and self._kind(self._jobs[0].task) == kind:
            jobs.append(self._jobs.popleft())
        return jobs

    @staticmethod
    def _wanted(job: Job[Task, Answer]) -> bool:
        if not job.future.set_running_or_notify_cancel():
            return False
        if time.monotonic() > job.deadline:
            job.future.set_exception(Late())
            return False
        return True

    def _do(self, jobs: list[Job[Task, Answer]]) -> None:
        try:
            answers = self._work([job.task for job in jobs])
        except BaseException as error:  # whatever it is, it belongs to the one who asked, and the lane goes on
            if len(jobs) == 1:
                jobs[0].future.set_exception(error)
                return
            for job in jobs:  # one of them spoils it for the others
                self._do([job])
            return
        for job, answer in zip(jobs, answers, strict=True):
            job.future.set_result(answer)
