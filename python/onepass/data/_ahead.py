"""Batches made ahead by a few threads, in their order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from itertools import islice
from typing import Any

AHEAD = 2  # batches for each thread: one that it makes, and one that waits


def ahead(
    make: Callable[[int], Any], numbers: Iterable[int], threads: int
) -> Generator[Any, None, None]:
    """``make(number)`` of each number, in their order.

    At most `AHEAD` batches a thread are under way or wait. An error of ``make`` is raised where its
    batch would come. When the iterator ends, is closed or fails, its threads end too.

    Args:
        threads: 0 makes each batch when it is asked for.
    """
    if threads == 0:
        for number in numbers:
            yield make(number)
        return
    process = os.getpid()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="onepass-data")
    waiting: deque[tuple[int, Future[Any]]] = deque()
    left = iter(numbers)

    def fill(count: int) -> None:
        for number in islice(left, count):
            # Each in the caller's context, which holds such as np.errstate.
            waiting.append((number, pool.submit(copy_context().run, make, number)))

    try:
        fill(AHEAD * threads)
        while waiting and os.getpid() == process:
            number, future = waiting.popleft()
            batch = future.result()
            fill(1)
            yield batch
        # In a forked child, which has no such threads.
        for number in (*(number for number, _ in waiting), *left):
            yield make(number)
    finally:
        if os.getpid() == process:
            pool.shutdown(wait=True, cancel_futures=True)
