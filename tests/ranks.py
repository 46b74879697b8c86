"""Runs a function of a test file on several ranks: as processes, or as threads of this one.

``run_ranks(function, n)`` starts real processes, by mpiexec or with what torchrun sets, and gives
what each printed. ``run_threads(function, n)`` calls ``function(comm)`` in threads, with a stand-in
communicator that has the verbs alone, and gives what each returned.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from onepass.train import _blas

TESTS = Path(__file__).resolve().parent


class Ended(NamedTuple):
    """How the processes ended: standard output of each rank, the rest of all, status, and when, by
    ``time.time()``."""

    outputs: list[str]
    errors: str
    status: int
    at: float


def run_ranks(
    function: Callable[..., None], n: int, *args: Any, launcher: str = "mpi", timeout: float = 120
) -> list[str]:
    """What each rank prints in ``function(*args)``, of the top level of a test file.

    Args:
        args: what JSON has.
        launcher: "mpi", "torch" (the variables that torchrun sets) or "torchrun" itself.
    """
    ended = end_ranks(function, n, *args, launcher=launcher, timeout=timeout)
    assert ended.status == 0, f"{ended.errors}\n{ended.outputs}"
    return ended.outputs


def end_ranks(
    function: Callable[..., None], n: int, *args: Any, launcher: str = "mpi", timeout: float = 120
) -> Ended:
    """As `run_ranks`, for those that may fail."""
    with tempfile.TemporaryDirectory() as folder:
        program = [str(TESTS / "ranks.py"), folder, function.__module__, function.__name__,
                   json.dumps(args)]  # fmt: skip
        commands = _commands(launcher, n, program)
        begun = time.monotonic()
        with open(f"{folder}/errors", "w+") as errors:
            started = [
                subprocess.Popen(
                    command,
                    cwd=folder,
                    env={**_environment(), **variables},
                    stdin=subprocess.DEVNULL,
                    stdout=errors,
                    stderr=errors,
                    start_new_session=True,
                )
                for command, variables in commands
            ]
            try:
                statuses = [
                    process.wait(max(0.0, begun + timeout - time.monotonic()))
                    for process in started
                ]
            finally:
                for process in started:
                    _end(process)
            at = time.time()
            outputs = [_text(Path(folder, f"{rank}.out")) for rank in range(n)]
            errors.seek(0)
            return Ended(outputs, errors.read(), max(map(abs, statuses)), at)


def _commands(launcher: str, n: int, program: list[str]) -> list[tuple[list[str], dict[str, str]]]:
    """The processes to start, each with its variables."""
    python = [sys.executable, *program]
    if launcher == "mpi":
        return [([needs_mpiexec(), "-launcher", "fork", "-n", str(n), *python], {})]
    pytest.importorskip("torch")
    if launcher == "torchrun":
        options = ["--standalone", "--nproc-per-node", str(n)]
        return [([sys.executable, "-m", "torch.distributed.run", *options, *program], {})]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(n)}
    return [(python, {**shared, "RANK": str(rank)}) for rank in range(n)]


def needs_mpiexec() -> str:
    """Where mpiexec is; skips the test where it or mpi4py is missing."""
    beside = shutil.which("mpiexec", path=str(Path(sys.executable).parent))
    mpiexec = beside or shutil.which("mpiexec")
    if mpiexec is None or find_spec("mpi4py") is None:
        pytest.skip("mpi4py or mpiexec is not installed: pip install '.[test]'")
    return mpiexec


def _environment() -> dict[str, str]:
    """One thread for each rank, and none of the variables of a launcher around the tests."""
    launchers = ("PMI", "PMIX", "OMPI", "HYDRA", "MPI", "TORCHELASTIC")
    own = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(launchers) and k not in own}
    one = dict.fromkeys(("OMP_NUM_THREADS", "ONEPASS_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    source = str(Path(import_module("onepass").__file__ or "").parent.parent)
    return {**kept, **one, "PYTHONPATH": os.pathsep.join([source, str(TESTS)])}


def _end(process: subprocess.Popen[bytes]) -> None:
    """mpiexec ends what it has started if it is asked to, not if it is killed."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, number)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                continue


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _main(folder: str, module: str, function: str, args: str) -> None:
    """One rank: its standard output goes to a file of its own."""
    rank = os.environ.get("PMI_RANK") or os.environ["RANK"]
    out = os.open(f"{folder}/{rank}.out", os.O_WRONLY | os.O_CREAT)
    os.dup2(out, 1)
    getattr(import_module(module), function)(*json.loads(args))


# -------------------------------------------------------------------------------------- threads


class Meeting:
    """What threads that stand for ranks share: a barrier, and a place for what each brings."""

    def __init__(self, size: int, *, in_turn: bool = False) -> None:
        self.size, self.places = size, [None] * size
        self.barrier = threading.Barrier(size, timeout=60)
        self.turn = threading.Lock() if in_turn else None

    def exchange(self, rank: int, value: Any) -> list[Any]:
        """What every rank has brought."""
        self.places[rank] = value
        self._wait()
        found = [*self.places]
        self._wait()
        return found

    def _wait(self) -> None:
        if self.turn is None:
            self.barrier.wait()
            return
        self.turn.release()
        try:
            self.barrier.wait()
        finally:
            self.turn.acquire()


class Verbs:
    """A communicator with the verbs alone, as a user may write one. It counts its calls."""

    def __init__(self, meeting: Meeting, rank: int) -> None:
        self.meeting, self.rank, self.size = meeting, rank, meeting.size
        self.calls: list[tuple[str, int]] = []

    def sum_(self, array: np.ndarray) -> None:
        self.calls.append(("sum_", _address(array)))
        every = self.meeting.exchange(self.rank, array.copy())
        array[...] = sum(every[1:], every[0])

    def broadcast_(self, array: np.ndarray, root: int = 0) -> None:
        self.calls.append(("broadcast_", _address(array)))
        array[...] = self.meeting.exchange(self.rank, array.copy())[root]

    def barrier(self) -> None:
        self.meeting.exchange(self.rank, None)


def _address(array: Any) -> int:
    return array.ctypes.data if isinstance(array, np.ndarray) else 0


class Exchanging(Verbs):
    """And with messages between two ranks, as our engines have them."""

    def _exchange(self, send: np.ndarray, receive: np.ndarray, partner: int) -> None:
        assert not np.may_share_memory(send, receive)
        self.calls.append(("_exchange", send.size))
        receive[...] = self.meeting.exchange(self.rank, send.copy())[partner]


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """OpenBLAS takes no number of threads from other threads than the first."""
    libraries = [(library, library.get_num_threads()) for library in _blas.libraries()]
    try:
        for library, _ in libraries:
            library.set_num_threads(1)
        yield
    finally:
        for library, count in libraries:
            library.set_num_threads(count)


def run_threads(
    function: Callable[[Any], Any],
    n: int,
    kind: Callable[[Meeting, int], Any] = Verbs,
    *,
    in_turn: bool = False,
) -> list[Any]:
    """What ``function(comm)`` returns on each rank; its first exception ends all.

    Args:
        in_turn: one runs at a time, until it waits for the others, or ends.
    """
    meeting = Meeting(n, in_turn=in_turn)

    def call(rank: int) -> Any:
        try:
            with meeting.turn or nullcontext():
                return function(kind(meeting, rank))
        except BaseException:
            meeting.barrier.abort()
            raise

    with one_blas_thread(), ThreadPoolExecutor(n) as pool:
        futures = [pool.submit(call, rank) for rank in range(n)]
    errors = [future.exception() for future in futures]
    first = [e for e in errors if e is not None and not isinstance(e, threading.BrokenBarrierError)]
    for error in first or [e for e in errors if e is not None]:
        raise error
    return [future.result() for future in futures]


if __name__ == "__main__":
    _main(*sys.argv[1:])
