"""Ranks that are threads of this process, for tests of what they compute together."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np


class Rank:
    """One of several: the verbs of a communicator."""

    def __init__(self, rank: int, places: list[Any], barrier: threading.Barrier) -> None:
        self.rank, self.size = rank, len(places)
        self._places, self._barrier = places, barrier

    def sum_(self, array: np.ndarray) -> None:
        self._places[self.rank] = array.copy()
        self._barrier.wait()
        total = sum(self._places[1:], self._places[0])
        self._barrier.wait()
        array[...] = total


def on_ranks(function: Callable[[Rank], Any], size: int) -> list[Any]:
    """What function(rank) gives on each rank. Where one fails all end, and its error is raised."""
    places: list[Any] = [None] * size
    barrier, errors = threading.Barrier(size, timeout=60), []
    results: list[Any] = [None] * size

    def run(rank: int) -> None:
        try:
            results[rank] = function(Rank(rank, places, barrier))
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
    return [slice(a, b) for a, b in zip(bounds, bounds[1:], strict=False)]
