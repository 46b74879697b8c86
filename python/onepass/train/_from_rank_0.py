"""Values and errors that all ranks get from rank 0."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from onepass.parallel import Communicator
from onepass.parallel._collectives import broadcast_object, dtype_of, name_of
from onepass.parallel._errors import of_all
from onepass.train._store import CheckpointError
from onepass.train._tree import pack, unpack

T = TypeVar("T")
ERRORS = {
    kind.__name__: kind
    for kind in (
        *(CheckpointError, FileNotFoundError, NotADirectoryError, IsADirectoryError),
        *(FileExistsError, PermissionError, FloatingPointError, ModuleNotFoundError, ImportError),
        *(TypeError, KeyError, IndexError, ValueError, OSError, RuntimeError),
    )
}


def sent(comm: Communicator, value: Any) -> Any:
    """``value`` of rank 0, a state of numbers, text, arrays, lists and dicts, on every rank."""
    if comm.size == 1:
        return value
    arrays: dict[str, NDArray[Any]] = {}
    tree = pack(value, arrays, "sent") if comm.rank == 0 else None
    table = {name: [name_of(array.dtype), array.shape] for name, array in arrays.items()}
    tree, table = broadcast_object(comm, [tree, table])
    joined = io.BytesIO()
    for array in arrays.values():
        joined.write(np.ascontiguousarray(array).tobytes())
    received = broadcast_object(comm, joined.getvalue())
    if comm.rank == 0:
        return value
    place, found = 0, {}
    for name, (dtype, shape) in table.items():
        array = np.empty(shape, dtype_of(dtype))
        part = np.frombuffer(received[place : place + array.nbytes], array.dtype)
        found[f"sent/{name}"] = array
        array[...] = part.reshape(shape)
        place += array.nbytes
    return unpack(tree, found, "sent")


def by_rank_0(comm: Communicator, call: Callable[[], T]) -> T:
    """What ``call()`` gives on rank 0, which alone makes it; its error is raised on all ranks."""
    if comm.size == 1:
        return call()
    outcome: list[Any] = [None, None]
    error: Exception | None = None
    if comm.rank == 0:
        try:
            outcome[1] = call()
        except Exception as raised:
            error = raised
            kinds = [kind.__name__ for kind in type(raised).__mro__]
            known = [kind for kind in kinds if kind in ERRORS]
            # That of a KeyError is quoted in its text.
            told = [text for text in raised.args if isinstance(text, str)]
            text = told[0] if len(told) == len(raised.args) == 1 else str(raised)
            outcome[0] = [*known, "RuntimeError"][0], text
    failed = broadcast_object(comm, outcome[0])
    if error is not None:
        raise of_all(error)
    if failed is not None:
        raise of_all(ERRORS[failed[0]](failed[1]))
    result: T = sent(comm, outcome[1])
    return result
