"""The limit that memory sets to a row of the benchmark: onepass._streams, in copies of its arrays
where the row finds nothing in a cache."""

from __future__ import annotations

from onepass._streams import Function, Streams, arrays_moved, fastest, nearest, size_of, ways
from onepass.bench import _machine
from onepass.bench._timing import in_rotation


def limit(streams: Streams, count_bytes: float, threads: int, rotates: bool = False) -> Function:
    """A function that moves these bytes and computes nothing, in the fastest way.

    Which way that is is tried on `threads`. The function itself runs on as many as onepass's pool
    has when it is called: the caller sets them (`config.set_num_threads`).

    Args:
        streams: the arrays. Of a number of arrays that no loop has, the nearest is taken: the one
            with the most similar shares of bytes read, written, and changed in place.
        count_bytes: bytes in all; those of an array that is changed in place count twice.
        threads: for which the way is chosen.
        rotates: whether the row finds nothing in a cache (`Workload.rotates`): then the limit does
            not either.
    """
    shape = nearest(streams)
    size = size_of(shape, count_bytes)
    cache = _machine.last_cache() if rotates else 0
    functions = in_rotation(lambda: ways(shape, size, threads), count_bytes, cache)
    return fastest(functions, threads)


def memory(streams: Streams, count_bytes: float) -> float:
    """Bytes of the arrays of `limit`."""
    shape = nearest(streams)
    return count_bytes * sum(shape) / arrays_moved(shape)
