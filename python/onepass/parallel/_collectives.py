"""What training needs over a communicator's verbs, with nothing but them: it works over any."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

import numpy as np

from onepass._array import Array, copy_into, is_torch, library, to_numpy
from onepass.ops._shared_batch_norm import fill_rows
from onepass.parallel._protocol import Communicator, carrier, check, exchanges, room

Host = np.ndarray[Any, Any]
_SMALL = 4096  # elements up to which halving an array costs more messages than it saves bytes


def gather(comm: Communicator, array: Host) -> list[Host]:
    """The arrays of all ranks, in order of rank, on every rank; bit for bit, of any dtype.

    Args:
        array: NumPy array. Ranks may differ in the length of axis 0, also 0: of an array without
            rows the dtype and the other axes do not matter, and become those of the other ranks.

    Raises:
        ValueError: on every rank, if ranks with rows differ in dtype or in the other axes.
    """
    if array.dtype.hasobject:
        raise TypeError(f"gather: 'array' has dtype {array.dtype}, expected numbers")
    if comm.size == 1:
        return [array.copy()]
    kind = [name_of(array.dtype), list(array.shape[1:])]
    table = _table(comm, [len(array), *_digest(json.dumps(kind))])
    filled = np.flatnonzero(table[:, 0]).tolist()
    if not filled:
        return [array.copy() for _ in range(comm.size)]
    for rank in filled:
        if (table[rank, 1:] != table[filled[0], 1:]).any():
            raise ValueError(
                f"gather: the arrays of ranks {filled[0]} and {rank} differ in dtype or shape, "
                f"expected rows of one kind; that of this rank has {array.dtype}{array.shape}"
            )
    name, axes = broadcast_object(comm, kind, filled[0])
    dtype = dtype_of(name)
    rows = table[:, 0].tolist()
    sizes = [n * dtype.itemsize * math.prod(axes) for n in rows]
    ends = np.cumsum([0, *map(_words, sizes)])
    words = np.zeros(ends[-1], np.int64)  # whole numbers: x + 0 is x, bit for bit
    if rows[comm.rank]:
        words[ends[comm.rank] : ends[comm.rank + 1]] = _packed(array.tobytes())
    comm.sum_(words)
    shares = zip(ends, sizes, rows, strict=False)
    return [
        words[begin:].view(np.uint8)[:size].view(dtype).reshape(n, *axes).copy()
        for begin, size, n in shares
    ]


def broadcast_object(comm: Communicator, obj: Any, root: int = 0) -> Any:
    """The object of rank ``root``, on every rank: bytes, or what JSON has (tuples become lists).

    No pickles: nothing that a rank sends can run code on another.
    """
    if comm.size == 1:
        return obj if isinstance(obj, bytes) else json.loads(json.dumps(obj))
    head, payload = np.zeros(2, np.int64), b""
    if comm.rank == root:
        payload = obj if isinstance(obj, bytes) else json.dumps(obj).encode()
        head[:] = len(payload), isinstance(obj, bytes)
    comm.broadcast_(head, root)
    count, is_bytes = map(int, head)
    words = np.zeros(_words(count), np.int64)
    if comm.rank == root:
        words[:] = _packed(payload)
    comm.broadcast_(words, root)
    received = words.tobytes()[:count]
    return received if is_bytes else json.loads(received)


def first_other(comm: Communicator, text: str) -> int | None:
    """The first rank whose text is not that of rank 0, None if there is none; alike on all ranks.

    Digests are compared, SHA-256.
    """
    table = _table(comm, _digest(text))
    others = np.flatnonzero((table != table[0]).any(axis=1))
    return int(others[0]) if others.size else None


def first_text(comm: Communicator, text: str | None) -> tuple[int, str] | None:
    """The first rank that has a text, and its text, on every rank; None if there is none."""
    having = np.flatnonzero(_table(comm, [text is not None]))
    if not having.size:
        return None
    rank = int(having[0])
    return rank, broadcast_object(comm, text, rank)


def tree_sum_(comm: Communicator, array: Array) -> None:
    """Leaves Σ over ranks of ``array`` in it, added up in a fixed order: ((0+1)+(2+3))+(…)…

    The bits are those of the balanced binary tree over the ranks, whatever carries the messages:
    the sum of two ranks' sums of two shares each has the bits of a sum over four ranks.

    Source: recursive halving and doubling, with the nearest partner first: R. Thakur,
    R. Rabenseifner, W. Gropp, "Optimization of Collective Communication Operations in MPICH", 2005.

    Args:
        array: as in `Communicator.sum_`.

    Raises:
        ValueError: the number of ranks is not a power of two.
    """
    check("tree_sum_", array)
    if comm.size & (comm.size - 1):
        raise ValueError(
            f"tree_sum_: there are {comm.size} ranks, expected a power of two: 1, 2, 4, 8, …"
        )
    flat = array.reshape(-1)
    comm = carrier(comm, flat)
    if exchanges(comm):
        tree_of_pairs(comm, flat)
    elif comm.size > 1:
        host = to_numpy(flat)
        words = np.zeros((comm.size, _words(host.nbytes)), np.int64)
        words[comm.rank] = _packed(host.tobytes())
        fill_rows(comm, words)
        parts = [row.view(host.dtype)[: host.size] for row in words]
        while len(parts) > 1:
            parts = [a + b for a, b in zip(parts[::2], parts[1::2], strict=True)]
        copy_into(flat, parts[0])


def tree_of_pairs(comm: Any, flat: Array) -> None:
    """`tree_sum_` over an engine that exchanges messages between two ranks."""
    _tree(comm, flat, 1, len(flat))


def _tree(comm: Any, array: Array, distance: int, size: int) -> None:
    """Adds the arrays of the ranks that differ in bits from ``distance`` on, parts of ``size``."""
    if distance >= comm.size or not size:
        return
    partner, is_low = comm.rank ^ distance, not comm.rank & distance
    halves = size // distance > _SMALL  # the same on all ranks, however unequal their parts are
    middle = len(array) // 2 if halves else 0
    first, second = array[:middle], array[middle:]
    own, other = (first, second) if is_low and halves else (second, first)
    received = room(comm, own)
    # Without halves each has the whole; with them, each adds one half up and gets the other.
    comm._exchange(other if halves else own, received, partner)
    _add(own, *((own, received) if is_low else (received, own)))
    _tree(comm, own, 2 * distance, size)
    if halves:
        comm._exchange(own, other, partner)


def _add(to: Array, low: Array, high: Array) -> None:
    lib = library(to)
    if is_torch(lib):
        with lib.no_grad():
            lib.add(low, high, out=to)
    else:
        lib.add(low, high, out=to)


def _table(comm: Communicator, row: list[int]) -> Host:
    """A row of whole numbers from each rank."""
    table = np.zeros((comm.size, len(row)), np.int64)
    table[comm.rank] = row
    comm.sum_(table)
    return table


def _digest(text: str) -> list[int]:
    words: list[int] = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.int64).tolist()
    return words


def _words(count: int) -> int:
    """How many whole numbers of 64 bits have room for ``count`` bytes."""
    return -(-count // 8)


def _packed(payload: bytes) -> Host:
    return np.frombuffer(payload.ljust(8 * _words(len(payload)), b"\0"), np.int64)


def name_of(dtype: np.dtype[Any]) -> str:
    """The name by which another rank finds a dtype: `dtype_of`."""
    name: str = dtype.name if dtype.kind == "V" else dtype.str  # bfloat16 is "<V2"
    return name


def dtype_of(name: str) -> np.dtype[Any]:
    """The dtype of a name of `name_of`."""
    if name == "bfloat16":
        import ml_dtypes

        name = ml_dtypes.bfloat16
    return np.dtype(name)
