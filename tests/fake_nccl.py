"""A stand-in for NCCL and ``cupy.cuda.nccl``, over the memory of fake_cupy.py: ranks are threads.

It shows that our calls have the right addresses, counts, types, roots and partners, and that a send
and a receive are in one group; it shows nothing of NCCL itself.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import types
from typing import Any

import fake_cupy
import numpy as np
from ranks import Meeting

DTYPES = {7: np.float32, 8: np.float64, 4: np.int64}  # as nccl.h numbers them
IDENT = tuple(range(-64, 64))  # CuPy's are tuples of signed numbers up to version 14, then bytes
_local = threading.local()


def install(monkeypatch: Any, size: int, ident: Any = IDENT) -> None:
    """CuPy with an NCCL for so many ranks, for the rest of the test."""
    cupy = fake_cupy.install(monkeypatch)
    meeting = Meeting(size)

    def make(ndev: int, given: Any, rank: int) -> Communicator:
        assert (ndev, given, type(given)) == (size, ident, type(ident))
        return Communicator(meeting, rank)

    module = types.ModuleType("cupy.cuda.nccl")
    module.__dict__.update(
        NCCL_FLOAT32=7, NCCL_FLOAT64=8, NCCL_INT64=4, NCCL_SUM=0, get_version=lambda: 22707,
        get_unique_id=lambda: ident, NcclCommunicator=make, groupStart=group_start,
        groupEnd=group_end,
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "cupy.cuda.nccl", module)
    monkeypatch.setattr(cupy.cuda, "nccl", module, raising=False)


def group_start() -> None:
    _local.group = []


def group_end() -> None:
    """One send and one receive, with the same partner: alone, each would wait for the other."""
    calls = {name: (comm, memory, peer) for name, comm, memory, peer in _local.group}
    del _local.group
    comm, sent, to = calls["send"]
    _, received, source = calls["recv"]
    assert to == source
    every = comm.meeting.exchange(comm.rank, (to, sent.copy()))
    receiver, values = every[source]
    assert receiver == comm.rank
    received[...] = values


class Communicator:
    """The calls of CuPy's NcclCommunicator that we use."""

    def __init__(self, meeting: Meeting, rank: int) -> None:
        self.meeting, self.rank = meeting, rank

    def allReduce(  # noqa: N802
        self, send: int, receive: int, count: int, dtype: int, op: int, stream: int
    ) -> None:
        assert (op, stream) == (0, fake_cupy.get_current_stream().ptr)
        every = self.meeting.exchange(self.rank, at(send, count, dtype).copy())
        at(receive, count, dtype)[...] = sum(every[1:], every[0])

    def broadcast(
        self, send: int, receive: int, count: int, dtype: int, root: int, stream: int
    ) -> None:
        every = self.meeting.exchange(self.rank, at(send, count, dtype).copy())
        at(receive, count, dtype)[...] = every[root]

    def send(self, address: int, count: int, dtype: int, peer: int, stream: int) -> None:
        _local.group.append(("send", self, at(address, count, dtype), peer))

    def recv(self, address: int, count: int, dtype: int, peer: int, stream: int) -> None:
        _local.group.append(("recv", self, at(address, count, dtype), peer))


def at(address: int, count: int, dtype: int) -> np.ndarray:
    """The memory that an address and a count stand for."""
    kind = np.dtype(DTYPES[dtype])
    room = (ctypes.c_char * (count * kind.itemsize)).from_address(address) if count else bytearray()
    return np.frombuffer(room, kind)
