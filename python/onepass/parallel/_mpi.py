"""MPI: processes that mpiexec has started, on one machine or many, with arrays on the CPU."""

from __future__ import annotations

import os
import time
from threading import get_ident
from typing import Any

import numpy as np

from onepass._array import Array, empty_like
from onepass.parallel._calls import Calls, State
from onepass.parallel._collectives import tree_of_pairs
from onepass.parallel._exit import announce, watch
from onepass.parallel._protocol import Alone, check, check_root, is_interactive

_LARGE = 1 << 16  # bytes from which two ranks exchange halves: MPICH's own sum copies more
_COUNT, _ALARM, _STATES = range(3)  # places in the memory of a rank; the reason comes last
_REASON = 32  # words of 64 bits for the text of an error
_give_way = getattr(os, "sched_yield", lambda: time.sleep(0))  # ranks may outnumber the cores
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
        self._in_place = mpi.IN_PLACE
        self._rooms: dict[Any, np.ndarray[Any, Any]] = {}
        self.rank: int = comm.Get_rank()
        self.size: int = comm.Get_size()
        watched = self.size > 1 and not is_interactive()
        self._member = _member_of(mpi, comm) if watched else None
        self._comm = comm if self._member is None else self._member.calls

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
        self._wait(self._comm.Iallreduce(self._in_place, host), host)

    def broadcast_(self, array: Array, root: int = 0) -> None:
        """Overwrites ``array`` with that of rank ``root``."""
        check("MPI", array, on="cpu")
        check_root("MPI", root, self.size)
        host = _host(array)
        self._enter()
        self._wait(self._comm.Ibcast(host, root), host)

    def barrier(self) -> None:
        """Returns when every rank has called it."""
        self._enter()
        self._wait(self._comm.Ibarrier())

    def _fill_rows(self, table: Array) -> None:
        """As ``sum_`` of a table of which each rank has its own row, and zeros elsewhere."""
        check("MPI", table, on="cpu")
        host = _host(table)
        self._enter()
        self._wait(self._comm.Iallgather(self._in_place, host), host)

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
        sent, received = _host(send), _host(receive)
        self._enter()
        incoming = self._comm.Irecv(received, partner)
        self._wait(self._comm.Isend(sent, partner), sent, received)
        self._wait(incoming, sent, received)

    def _enter(self) -> None:
        """Before each call that others wait for."""
        if self._member is not None:
            self._member.enter()

    def _wait(self, request: Any, *arrays: Any) -> None:
        """Until a call is done whose memory is that of the arrays."""
        if self._member is None:
            request.Wait()
        elif not request.Test():
            self._member.wait(request, arrays)

    def _fail(self, why: str) -> None:
        if self._member is not None:
            self._member.fail(why)


class _Member(Calls):
    """This process among those of a communicator.

    Each process counts its calls in memory that the others can read. One that leaves looks there
    until all have left: a higher count than its own is of a rank that waits for it in vain. There
    they also write that they have failed, and why.
    """

    def __init__(self, mpi: Any, comm: Any) -> None:
        super().__init__("MPI")
        self._mpi = mpi
        # A receive of the program may take any message of its own communicator, and what is said
        # at the end is not to be taken for a call.
        self.calls, self._comm = comm.Dup(), comm.Dup()
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        self._text = _STATES + self.size * len(State())  # where the reason begins
        bytes_ = 8 * (self._text + _REASON)
        self._window = mpi.Win.Allocate(bytes_, 8, comm=self._comm)
        self._memory = np.frombuffer(self._window.tomemory(), np.int64)
        self._threads: set[int] = set()
        self._pending: list[Any] = []  # calls that others never came to, and their memory
        self._all_left: Any = None
        self._ends = False
        self._memory[:] = 0
        # A lock may wait until the others answer, which they do inside of MPI alone: the barrier
        # holds them there until all have theirs.
        self._window.Lock_all()
        self._comm.Barrier()
        watch(self)

    def enter(self) -> None:
        self._threads.add(get_ident())
        self._memory[_COUNT] += 1
        super().enter()

    def wait(self, request: Any, arrays: tuple[Any, ...]) -> None:
        """Until the call is done.

        Raises:
            RuntimeError: a rank has failed that does not come to it.
        """
        try:
            while not request.Test():
                if self._memory[_ALARM]:
                    self.look_out()
                _give_way()
        except BaseException:
            self._pending.append((request, arrays))
            raise

    def _states(self) -> list[State]:
        table = self._memory[_STATES : self._text].reshape(self.size, -1)
        return [State(*row) for row in table.tolist()]

    def _publish(self, state: State, why: str = "") -> None:
        if why:
            text = why.encode()[: 8 * _REASON].ljust(8 * _REASON, b"\0")
            self._memory[self._text :] = np.frombuffer(text, np.int64)
        row = _STATES + len(state) * self.rank
        for rank in range(self.size):
            for place, values in ((row, state), (_ALARM, [1])):
                self._window.Put(np.array(values), rank, place)
                self._window.Flush(rank)

    def _reason(self, rank: int) -> str:
        words = np.zeros(_REASON, np.int64)
        self._window.Get(words, rank, self._text)
        self._window.Flush(rank)
        return words.tobytes().rstrip(b"\0").decode(errors="replace")

    def _ahead(self) -> list[int]:
        return [rank for rank in range(self.size) if self._count_of(rank) >= self._own.mark]

    def _count_of(self, rank: int) -> int:
        count = np.zeros(1, np.int64)
        self._window.Get(count, rank, _COUNT)
        self._window.Flush(rank)
        return int(count[0])

    def speaks_in(self, thread: int) -> bool:
        return thread in self._threads

    def end(self, why: str) -> None:
        self._ends = True  # Abort may return before mpiexec has ended this process
        time.sleep(_FORWARDING)
        self._mpi.COMM_WORLD.Abort(1)

    def is_announced(self) -> bool:
        return False  # it has ended this one too

    def leave(self) -> None:
        if not (self._ends or self._mpi.Is_finalized()):  # the latter by the program itself
            self._all_left = self._comm.Ibarrier()

    def may_go(self) -> bool:
        if self._all_left is None or self._all_left.Test():
            return True
        if self.knows_of_failure():
            return False  # who waits for this rank has learnt of it
        for rank in range(self.size):
            if self._count_of(rank) > self._memory[_COUNT]:
                here = f"rank {self.rank} of {self.size}"
                announce(f"{here} has left while rank {rank} waits for it")
                self.end("")
        return False

    def close(self) -> None:
        if self._all_left is not None:
            self._window.Unlock_all()
            self._window.Free()
            self._comm.Free()
            self.calls.Free()


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
