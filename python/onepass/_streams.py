"""Loops that move arrays and compute nothing: the limit that memory sets to a kernel.

The loops are in C++ (csrc/cpu/streams.h). They run on the pool's threads in the pieces that kernels
take, and what is only written goes through the caches or past them. Which is faster, and whether
waking the workers pays, depends on the size: the limit is the fastest of these ways.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onepass import _C

Function = Callable[[], object]

ITEM = 4  # bytes of an element
PAGE, LINE = 4096, 64
SMALL = 1 << 20  # bytes for which waking a worker may not pay
TRIALS = 5
TRIAL_SECONDS = 1e-3

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Streams:
    """What a perfect kernel touches, in arrays of equal size."""

    reads: int = 1  # read only
    writes: int = 1  # written only
    updates: int = 0  # read and written in place


class Way(NamedTuple):
    """How the bytes are moved."""

    past_caches: bool
    alone: bool  # on the caller's thread


def size_of(shape: Shape, count_bytes: float) -> int:
    """Elements of each array, where all together move so many bytes."""
    return max(1, round(count_bytes / (ITEM * arrays_moved(shape))))


def arrays_moved(shape: Shape) -> int:
    """How many arrays' bytes pass in all."""
    reads, writes, updates = shape
    return reads + writes + 2 * updates


def nearest(streams: Streams) -> Shape:
    """The loop for these arrays."""
    wanted: Shape = (streams.reads, streams.writes, streams.updates)
    if min(wanted) < 0 or max(wanted) < 1:
        raise ValueError(f"limit: {streams}, expected at least one array, and no negative number")
    return wanted if wanted in _C.stream_shapes() else min(
        _C.stream_shapes(), key=lambda shape: _distance(wanted, shape)
    )  # fmt: skip


def _distance(a: Shape, b: Shape) -> tuple[float, int]:
    """Of the shares of bytes, then of the numbers of arrays."""
    apart = max(abs(x - y) for x, y in zip(_shares(a), _shares(b), strict=True))
    return round(apart, 6), abs(sum(a) - sum(b))


def _shares(shape: Shape) -> tuple[float, float, float]:
    reads, writes, updates = shape
    moved = arrays_moved(shape)
    return reads / moved, writes / moved, 2 * updates / moved


def ways(shape: Shape, size: int, threads: int) -> dict[str, Function]:
    """Every way to move arrays of `size` elements, over the same memory."""
    arrays = _arrays(sum(shape), size)
    reads, writes, updates = (list(_take(arrays, count)) for count in shape)
    found: dict[str, Function] = {}
    for way in _ways(shape, size, threads):
        found[str(way)] = functools.partial(_C.move_streams, reads, writes, updates, *way)
    return found


def _ways(shape: Shape, size: int, threads: int) -> Iterator[Way]:
    small = size * ITEM * arrays_moved(shape) <= SMALL
    for past_caches in (False, True) if shape[1] else (False,):
        for alone in (False, True) if small and threads > 1 else (False,):
            yield Way(past_caches, alone)


def _take(arrays: Iterator[NDArray[np.float32]], count: int) -> Iterator[NDArray[np.float32]]:
    for _ in range(count):
        yield next(arrays)


def _arrays(count: int, size: int) -> Iterator[NDArray[np.float32]]:
    """Arrays in one block of memory. Their addresses differ modulo a page: loads and stores at
    equal offsets wait for each other."""
    step = PAGE // max(1, count) // LINE * LINE
    stride = -(-size * ITEM // PAGE) * PAGE + step
    block = np.zeros(count * stride + LINE, np.uint8)
    block[:] = 0  # now the pages are there
    begin = -block.ctypes.data % LINE
    for at in range(begin, begin + count * stride, stride):
        yield block[at : at + size * ITEM].view(np.float32)


def fastest(functions: dict[str, Function], threads: int) -> Function:
    """The one with the least time, of several samples of each in turn."""
    if len(functions) == 1:
        return next(iter(functions.values()))
    before = _C.get_num_threads()
    _C.set_num_threads(threads)
    try:
        least = dict.fromkeys(functions, float("inf"))
        calls = {label: _calls(function) for label, function in functions.items()}
        for _ in range(TRIALS):
            for label, function in functions.items():
                least[label] = min(least[label], _seconds(function, calls[label]))
    finally:
        _C.set_num_threads(before)
    return functions[min(least, key=lambda label: least[label])]


def least_seconds(function: Function) -> float:
    """Of a call, the least of several samples."""
    calls = _calls(function)
    return min(_seconds(function, calls) for _ in range(TRIALS))


def _calls(function: Function) -> int:
    function()
    return max(1, min(1000, round(TRIAL_SECONDS / max(_seconds(function, 1), 1e-7))))


def _seconds(function: Function, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls
