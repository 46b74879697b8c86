"""NCCL: one process for each GPU, with arrays of CuPy."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from onepass._array import Array
from onepass.parallel._collectives import broadcast_object
from onepass.parallel._find import find
from onepass.parallel._mpi import MPI
from onepass.parallel._protocol import Alone, Communicator, check, check_root, enter, fail


class NCCL:
    """One process for each GPU: arrays of CuPy go by NCCL, those of NumPy by another communicator.

    A rank uses CuPy's current device: say which by ``cupy.cuda.Device(…).use()`` before. What the
    calls do follows on the current stream and is not waited for.

    Our tests run it against a stand-in for NCCL, and ``scripts/gpu`` with a single GPU; nobody has
    run it on several yet.

    Args:
        comm: the communicator that brings the ranks together, carries NumPy arrays and ends all if
            a rank fails; None is `MPI`.

    Attributes:
        rank, size: of this process; how many there are.

    Raises:
        ModuleNotFoundError: CuPy or NCCL is not installed.

    Example:
        >>> from onepass import parallel
        >>> comm = parallel.find("auto")
        >>> if comm.size > 1:  # mpiexec -n 2 python …, on a machine with two GPUs
        ...     comm = parallel.NCCL(comm)
    """

    def __init__(self, comm: Communicator | None = None) -> None:
        self._nccl, self._cupy = _imported()
        self._host: Communicator = MPI() if comm is None else find(comm)
        self.rank, self.size = self._host.rank, self._host.size
        # CuPy has it as a tuple of signed numbers, or as bytes.
        own: Any = self._nccl.get_unique_id() if self.rank == 0 else ()
        shown = broadcast_object(self._host, [isinstance(own, bytes), list(own)])
        ident = bytes(shown[1]) if shown[0] else tuple(shown[1])
        self._comm = self._nccl.NcclCommunicator(self.size, ident, self.rank)
        self._device = self._cupy.cuda.Device()
        self._enter, self._fail = enter(self._host), partial(fail, self._host)
        self._dtypes = {
            np.dtype("float32"): self._nccl.NCCL_FLOAT32,
            np.dtype("float64"): self._nccl.NCCL_FLOAT64,
            np.dtype("int64"): self._nccl.NCCL_INT64,
        }

    def __reduce__(self) -> Any:
        return Alone, ()  # a copy or a pickle is of one process

    def sum_(self, array: Array) -> None:
        """Leaves Σ over ranks of ``array`` in it. Raises: as `Communicator.sum_`."""
        if (carrier := self._carrier(array)) is not self:
            return carrier.sum_(array)
        at, count, dtype, stream = self._place(array)
        self._comm.allReduce(at, at, count, dtype, self._nccl.NCCL_SUM, stream)
        return None

    def broadcast_(self, array: Array, root: int = 0) -> None:
        """Overwrites ``array`` with that of rank ``root``."""
        if (carrier := self._carrier(array)) is not self:
            return carrier.broadcast_(array, root)
        check_root("NCCL", root, self.size)
        at, count, dtype, stream = self._place(array)
        self._comm.broadcast(at, at, count, dtype, root, stream)
        return None

    def barrier(self) -> None:
        """Returns when every rank has called it and its stream has done all before."""
        self._cupy.cuda.get_current_stream().synchronize()
        self._host.barrier()

    def _exchange(self, send: Array, receive: Array, partner: int) -> None:
        at, count, dtype, stream = self._place(send)
        to, room, _, _ = self._place(receive)
        self._nccl.groupStart()  # or each would wait for the other to receive
        self._comm.send(at, count, dtype, partner, stream)
        self._comm.recv(to, room, dtype, partner, stream)
        self._nccl.groupEnd()

    def _carrier(self, array: Array) -> Communicator:
        """The communicator that an array goes by."""
        return self._host if isinstance(array, np.ndarray) else self

    def _place(self, array: Array) -> tuple[int, int, int, int]:
        """Address, number of elements and dtype of an array, and the stream, as NCCL wants them."""
        check("NCCL", array)
        if not isinstance(array, self._cupy.ndarray) or array.device != self._device:
            where = f" on {array.device}" if hasattr(array, "device") else ""
            raise TypeError(
                f"NCCL: 'array' is a {type(array).__name__}{where}, expected an array of CuPy on "
                f"{self._device}, the current device when the communicator was made"
            )
        self._enter()
        stream = self._cupy.cuda.get_current_stream().ptr
        return array.data.ptr, array.size, self._dtypes[array.dtype], stream


def _imported() -> Any:
    try:
        import cupy
        from cupy.cuda import nccl

        nccl.get_version()
    except (ImportError, AttributeError, RuntimeError) as error:  # CuPy, or NCCL, is missing
        raise ModuleNotFoundError(
            f"NCCL: CuPy with NCCL cannot be used: {error}; pip install onepass[nccl]"
        ) from error
    return nccl, cupy
