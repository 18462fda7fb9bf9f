"""Doing the next thing while this one is looked at."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Source = TypeVar("Source")
Result = TypeVar("Result")


def ahead(function: Callable[[Source], Result], sources: Iterable[Source], most: int = 2) -> Iterator[Result]:
    """`map` that works in one thread on up to `most` results beyond the one that was asked for, in order.

    What `function` raises is raised where its result would have come. `sources` is read as far as needed, and no further.
    """
    waiting: deque[Future[Result]] = deque()
    sources = iter(sources)
    with ThreadPoolExecutor(1, "pointcut-ahead") as pool:
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
