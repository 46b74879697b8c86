"""MPI: processes that mpiexec has started, on one machine or many, with arrays on the CPU."""

from __future__ import annotations

import time
from threading import get_ident
from typing import Any

import numpy as np

from onepass._array import Array, empty_like
from onepass.parallel._collectives import tree_of_pairs
from onepass.parallel._failures import announce, watch
from onepass.parallel._protocol import Alone, check, check_root, is_interactive

_LARGE = 1 << 16  # bytes from which two ranks exchange halves: MPICH's own sum copies more
_FORWARDING = 0.5  # seconds: mpiexec may lose what a rank has written right before it ends all


class MPI:
    """The processes of a communicator of mpi4py, with NumPy arrays or tensors on the CPU.

    A rank that fails ends all of them within seconds, with one line that says which and why; so
    does one whose program ends while others wait for it in a call of this class. (Not where
    somebody types, as in a notebook.)

    All its ranks make one, which waits for the others. Copies and pickles are of one process,
    `Alone`.

    Args:
        comm: mpi4py's; None is ``mpi4py.MPI.COMM_WORLD``.

    Attributes:
        rank, size: of this process; how many there are.

    Raises:
        ModuleNotFoundError: mpi4py, or an MPI for it, is not installed.
        TypeError: ``comm`` is not an intracommunicator of mpi4py.

    Example:
        >>> import numpy as np
        >>> from onepass import parallel
        >>> comm = parallel.find("auto")  # parallel.MPI() under mpiexec
        >>> x = np.full(2, comm.rank + 1.0)
        >>> comm.sum_(x)  # mpiexec -n 3 python …: [6. 6.]
        >>> x
        array([1., 1.])
    """

    def __init__(self, comm: Any = None) -> None:
        mpi = _mpi4py()
        comm = mpi.COMM_WORLD if comm is None else comm
        if not isinstance(comm, mpi.Intracomm) or comm == mpi.COMM_NULL:
            raise TypeError(
                f"MPI: 'comm' is {comm!r}, expected an intracommunicator of mpi4py, such as "
                "mpi4py.MPI.COMM_WORLD"
            )
        self._comm, self._in_place = comm, mpi.IN_PLACE
        self._rooms: dict[Any, np.ndarray[Any, Any]] = {}
        self.rank: int = comm.Get_rank()
        self.size: int = comm.Get_size()
        watched = self.size > 1 and not is_interactive()
        self._member = _member_of(mpi, comm) if watched else None

    def __reduce__(self) -> Any:
        return Alone, ()  # a copy or a pickle is of one process

    def sum_(self, array: Array) -> None:
        """Leaves Σ over ranks of ``array`` in it. Raises: as `Communicator.sum_`."""
        check("MPI", array, on="cpu")
        host = _host(array)
        if self.size == 2 and host.nbytes >= _LARGE:
            tree_of_pairs(self, host.reshape(-1))
            return
        self._enter()
        self._comm.Allreduce(self._in_place, host)

    def broadcast_(self, array: Array, root: int = 0) -> None:
        """Overwrites ``array`` with that of rank ``root``."""
        check("MPI", array, on="cpu")
        check_root("MPI", root, self.size)
        self._enter()
        self._comm.Bcast(_host(array), root)

    def barrier(self) -> None:
        """Returns when every rank has called it."""
        self._enter()
        self._comm.Barrier()

    def _fill_rows(self, table: Array) -> None:
        """As ``sum_`` of a table of which each rank has its own row, and zeros elsewhere."""
        check("MPI", table, on="cpu")
        self._enter()
        self._comm.Allgather(self._in_place, _host(table))

    def _room(self, like: Array) -> Array:
        """Memory for an array like that until the next call: fresh pages take as long as the
        message."""
        if not isinstance(like, np.ndarray):
            return empty_like(like)
        room = self._rooms.get(like.dtype)
        if room is None or room.size < like.size:
            room = self._rooms[like.dtype] = np.empty(like.size, like.dtype)
        return room[: like.size]

    def _exchange(self, send: Array, receive: Array, partner: int) -> None:
        self._enter()
        self._comm.Sendrecv(_host(send), partner, recvbuf=_host(receive), source=partner)

    def _enter(self) -> None:
        """Before each call that others wait for."""
        if self._member is not None:
            self._member.enter()


class _Member:
    """This process among those of a communicator.

    Each process counts its calls in memory that the others can read. One that leaves looks there
    until all have left: a higher count than its own is of a rank that waits for it in vain.
    """

    def __init__(self, mpi: Any, comm: Any) -> None:
        self._mpi, self._comm = mpi, comm.Dup()
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        self._window = mpi.Win.Allocate(8, 8, comm=self._comm)
        self._count = np.frombuffer(self._window.tomemory(), np.int64)
        self._threads: set[int] = set()
        self._all_left: Any = None
        self._ends = False
        self._count[0] = 0
        self._comm.Barrier()
        self._window.Lock_all()
        watch(self)

    def enter(self) -> None:
        self._threads.add(get_ident())
        self._count[0] += 1

    def speaks_in(self, thread: int) -> bool:
        return thread in self._threads

    def end(self, why: str) -> None:
        self._ends = True  # Abort may return before mpiexec has ended this process
        time.sleep(_FORWARDING)
        self._mpi.COMM_WORLD.Abort(1)

    def leave(self) -> None:
        if not (self._ends or self._mpi.Is_finalized()):  # the latter by the program itself
            self._all_left = self._comm.Ibarrier()

    def may_go(self) -> bool:
        if self._all_left is None or self._all_left.Test():
            return True
        count, others = np.zeros(1, np.int64), [r for r in range(self.size) if r != self.rank]
        for rank in others:
            self._window.Get(count, rank)
            self._window.Flush(rank)
            if count[0] > self._count[0]:
                announce(self, f"has left while rank {rank} waits for it")
                self.end("")
        return False

    def close(self) -> None:
        if self._all_left is not None:
            self._window.Unlock_all()
            self._window.Free()
            self._comm.Free()


_keys: list[int] = []  # of the attribute of a communicator that is its _Member


def _member_of(mpi: Any, comm: Any) -> _Member:
    """The same for every MPI over one communicator."""
    if not _keys:
        _keys.append(mpi.Comm.Create_keyval())
    member: _Member | None = comm.Get_attr(_keys[0])
    if member is None:
        member = _Member(mpi, comm)
        comm.Set_attr(_keys[0], member)
    return member


def _host(array: Array) -> np.ndarray[Any, Any]:
    """The memory of an array on the CPU; a tensor's too."""
    return array if isinstance(array, np.ndarray) else array.detach().numpy()


def _mpi4py() -> Any:
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # it lacks itself, or an MPI
        raise ModuleNotFoundError(
            f"MPI: mpi4py cannot be used: {error}; pip install onepass[mpi], which brings an MPI"
        ) from error
    return MPI
