"""Ranks that are threads of this process, for tests of what they compute together.

One runs at a time: until it waits for the others, or ends.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any


class Rank:
    """One of several: the verbs of a communicator."""

    def __init__(
        self, rank: int, places: list[Any], barrier: threading.Barrier, turn: threading.Lock
    ) -> None:
        self.rank, self.size = rank, len(places)
        self._places, self._barrier, self._turn = places, barrier, turn

    def sum_(self, array: Any) -> None:
        self._places[self.rank] = array.copy()
        self._wait()
        total = sum(self._places[1:], self._places[0])
        self._wait()
        array[...] = total

    def _wait(self) -> None:
        self._turn.release()
        try:
            self._barrier.wait()
        finally:
            self._turn.acquire()


def on_ranks(function: Callable[[Rank], Any], size: int) -> list[Any]:
    """What function(rank) gives on each rank. Where one fails all end, and its error is raised."""
    places: list[Any] = [None] * size
    barrier, turn, errors = threading.Barrier(size, timeout=60), threading.Lock(), []
    results: list[Any] = [None] * size

    def run(rank: int) -> None:
        try:
            with turn:
                results[rank] = function(Rank(rank, places, barrier, turn))
        except threading.BrokenBarrierError:
            pass
        except BaseException as error:
            errors.append(error)
            barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


def shares_of(n: int, ends: list[float]) -> list[slice]:
    """n rows cut where they are complete to these parts."""
    bounds = [0, *(round(end * n) for end in ends), n]
    return [slice(a, b) for a, b in pairwise(bounds)]
