"""Doing the next thing while this one is looked at."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TypeVar

Source = TypeVar("Source")
Result = TypeVar("Result")


def ahead(
    function: Callable[[Source], Result],
    sources: Iterable[Source],
    most: int = 2,
    threads: int = 1,
    prepare: Callable[[], None] | None = None,
) -> Iterator[Result]:
    """`map` that works in threads on up to `most` results beyond the one that was asked for, in order.

    prepare: called in each thread before its first work. What `function` raises is raised where its result would have come.
    `sources` is read as far as needed, and no further.
    """
    with ThreadPoolExecutor(threads, "pointcut-ahead", prepare) as pool:
        yield from in_order(pool, function, sources, most)


def in_order(pool: Executor, function: Callable[[Source], Result], sources: Iterable[Source], most: int) -> Iterator[Result]:
    """The same with a pool of the caller's, of threads or processes."""
    waiting: deque[Future[Result]] = deque()
    sources = iter(sources)
    try:
        while True:
            while len(waiting) <= most:
                try:
                    source = next(sources)
                except StopIteration:
                    break
                waiting.append(pool.submit(function, source))
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
