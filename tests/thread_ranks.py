"""Ranks as threads of this process, with a communicator that has the verbs and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class _Meeting:
    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size, timeout=60)
        self.places: list[Any] = [None] * size


class ThreadRank:
    """One of ``size`` threads; counts its calls of ``sum_``."""

    def __init__(self, rank: int, size: int, meeting: _Meeting) -> None:
        self.rank, self.size, self._meeting = rank, size, meeting
        self.sums = 0

    def _others(self, array: Any) -> list[Any]:
        self._meeting.places[self.rank] = array.copy()
        self._meeting.barrier.wait()
        parts = list(self._meeting.places)
        self._meeting.barrier.wait()
        return parts

    def sum_(self, array: Any) -> None:
        self.sums += 1
        assert array.flags.c_contiguous and array.dtype.name in ("float32", "float64", "int64")
        total, *others = self._others(array)
        total = total.copy()
        for other in others:
            assert other.shape == total.shape, "ranks make calls that do not belong together"
            total += other
        array[...] = total

    def broadcast_(self, array: Any, root: int = 0) -> None:
        part = self._others(array)[root]
        assert part.shape == array.shape, "ranks make calls that do not belong together"
        array[...] = part

    def barrier(self) -> None:
        self._meeting.barrier.wait()


def together(size: int, make: Callable[[ThreadRank], Any], run: Callable[[Any], Any]) -> list[Any]:
    """``run(make(rank))`` of each rank, in a thread each; all are made first, one by one.

    Raises:
        The error of the first rank that has one of its own.
    """
    meeting = _Meeting(size)
    made = [make(ThreadRank(rank, size, meeting)) for rank in range(size)]
    results: list[Any] = [None] * size
    errors: dict[int, BaseException] = {}

    def body(rank: int) -> None:
        try:
            results[rank] = run(made[rank])
        except BaseException as error:
            errors[rank] = error
            meeting.barrier.abort()

    threads = [threading.Thread(target=body, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    own = [e for _, e in sorted(errors.items()) if not isinstance(e, threading.BrokenBarrierError)]
    for error in (*own, *errors.values()):
        raise error
    return results


def errors_of(size: int, make: Callable[[ThreadRank], Any], run: Callable[[Any], Any]) -> list[str]:
    """Kind and message of the error that each rank has."""

    def caught(trainer: Any) -> str:
        try:
            run(trainer)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "none"

    return together(size, make, caught)
