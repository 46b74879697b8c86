"""The threads of NumPy's BLAS while a model trains or predicts. There are three rules:

`threads_for`    one where its products are small: several threads share such a product only by
                 waiting for each other, which takes longer than the product as soon as another
                 process wants a core
`one_thread`     one where the bits must not depend on their number
`cores_of_rank`  no more than this rank's share of the machine

The number belongs to the process, so trainings at the same time agree: one whose bits must not
depend on it has its way, then one with large products keeps the threads for all.
"""

from __future__ import annotations

import contextlib
import math
import os
import warnings
from collections.abc import Iterator, Mapping
from threading import get_ident
from typing import Any

from onepass import _environment, config
from onepass._caller import stacklevel
from onepass._one_thread import Lock, freed_by_fork, keep_only
from onepass.train._blas_library import Usual, let_go, libraries, set_threads

# What launchers call the number of processes on a machine: MPICH, Open MPI, torchrun.
LOCAL_SIZE = ("MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE", "LOCAL_WORLD_SIZE")
SLURM_SIZES = "SLURM_STEP_TASKS_PER_NODE"
LARGE = 1 << 24  # multiply-adds of a product: about a millisecond of one core


class _Users:
    """The trainings in progress, and the threads there were before the first."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.lock.stay_out_of_forks()  # threadpoolctl has a lock
        self.small: dict[object, int] = {}  # a training whose products are small, and its thread
        self.large: dict[object, int] = {}
        self.single: dict[object, int] = {}  # one whose bits must not depend on threads
        self.disturbed: dict[object, int] = {}  # of single: it was not alone with its one thread
        self.before: dict[Any, int] = {}  # a library whose threads are limited, and their number
        self.usual = Usual()
        freed_by_fork(self)

    def forget_others(self, thread: int) -> None:
        """In a forked child; the next training follows."""
        for those in (self.small, self.large, self.single, self.disturbed):
            keep_only(thread, those)

    def begin(self, training: object, those: dict[object, int]) -> None:
        """Count a training among ``those``."""
        with self.lock:
            self._look()
            if not (self.small or self.large or self.single):
                for library in libraries():
                    self.usual.recover(library)
            those[training] = get_ident()
            self._follow()

    def check(self) -> None:
        """Between steps: see a number that another thread has set; make it 1 again if it can."""
        with self.lock:
            self._look()
            self._follow()

    def end(self, training: object) -> bool:
        """Whether it had one thread of BLAS all the time, as far as `check` has seen."""
        with self.lock:
            self._look()
            held = training in self.single
            alone = self.disturbed.pop(training, None) is None
            for those in (self.small, self.large, self.single):
                those.pop(training, None)
            self._follow(held)
            return alone

    def _look(self) -> None:
        if self.single and any(library.get_num_threads() != 1 for library in libraries()):
            self.disturbed.update(self.single)

    def _follow(self, held: bool = False) -> None:
        """Set the number of threads. ``held``: this thread has kept other threads from that."""
        limit = bool(self.single) or (bool(self.small) and not self.large)
        for library in libraries():
            count = library.get_num_threads()
            if limit and (count != 1 or self.single):
                library.set_num_threads(1)
                held = True
                if count != 1 and library.get_num_threads() == 1:  # else a limit of another thread
                    self.before[library] = count
            elif not limit and library in self.before and count == 1:  # else someone has chosen
                library.set_num_threads(self.before[library])
                held = True
        if not limit:
            self.before = {}
        if held and get_ident() not in self.single.values():
            let_go()


_users = _Users()


def product(model: Any, loader: Any) -> int | None:
    """Multiply-adds of the largest product of a batch, or more; None for batches of unknown size.

    Args:
        model: an ``nn.Module``.
        loader: gives its batches.
    """
    if loader.X is None or loader.batch_size is None:
        return None
    sizes = [p.size for p in model.parameters() if p.ndim > 1]
    places = math.prod(tuple(loader.X.shape)[1:-1])  # positions in a sequence or an image
    return int(loader.batch_size * places * max(sizes, default=0))


@contextlib.contextmanager
def threads_for(model: Any, loader: Any) -> Iterator[None]:
    """One BLAS thread inside the block if the products of the model are known to be small."""
    work = None if _environment.keeps_blas_threads() else product(model, loader)
    if work is None:
        yield
        return
    training = object()
    try:
        _users.begin(training, _users.small if work < LARGE else _users.large)
        yield
    finally:
        _users.end(training)


@contextlib.contextmanager
def cores_of_rank() -> Iterator[None]:
    """No more threads inside, of our kernels and of BLAS, than there are cores for each of the
    processes that a launcher has started on this machine."""
    most = max((os.cpu_count() or 1) // _processes_here(os.environ), 1)
    owners: list[Any] = [] if _environment.sets_threads() else [config]
    owners += [] if _environment.keeps_blas_threads() else libraries()
    counts = [(owner, owner.get_num_threads()) for owner in owners]
    before = [(owner, count) for owner, count in counts if count > most]
    try:
        with _users.lock:  # which forks stay out of
            for owner, _ in before:
                set_threads(owner, most)
        yield
    finally:
        with _users.lock:
            for owner, count in before:
                set_threads(owner, count)


@contextlib.contextmanager
def one_thread(needed_by: str) -> Iterator[str | None]:
    """One thread of BLAS inside, on whose number the bits of a product depend.

    Gives a sentence for the user where that cannot be set: without threadpoolctl, or while another
    thread limits OpenBLAS by it. Limits of other threads that begin inside have no effect from
    threadpoolctl 3.7 on; one that was there before, or has, is found by `check` while it lasts, and
    warned of at the end (RuntimeWarning).

    Args:
        needed_by: the call and its argument, for the sentence: "Trainer: 'reproducible'".
    """
    unset = None
    training, keeps = object(), _environment.keeps_blas_threads()
    alone = True
    try:
        if not keeps:
            _users.begin(training, _users.single)
        counts = [library.get_num_threads() for library in libraries()]
        if any(count != 1 for count in counts) if counts else not _has_one_thread(os.environ):
            more = "" if keeps or counts else ", or pip install threadpoolctl"
            unset = (
                f"{needed_by} needs one thread of NumPy's BLAS, whose products have other bits "
                "with another number, and it cannot be set here: set "
                f"OPENBLAS_NUM_THREADS=1 before the start{more}"
            )
        yield unset
    finally:
        alone = _users.end(training)
    if not (alone or unset):
        warnings.warn(
            f"{needed_by} needs one thread of NumPy's BLAS, whose products have other bits with "
            "another number, and another thread has set one meanwhile: repeat this without it, or "
            "set OPENBLAS_NUM_THREADS=1 before the start",
            RuntimeWarning,
            stacklevel=stacklevel(),
        )


def check(*, takes_over: bool = False) -> None:
    """Between steps: see a number of BLAS threads that another thread has set inside `one_thread`.

    Args:
        takes_over: set it too where it is 1, which keeps others from it where a limit has ended.
    """
    if _users.single and (takes_over or any(lib.get_num_threads() != 1 for lib in libraries())):
        _users.check()


def _processes_here(environment: Mapping[str, str]) -> int:
    """How many processes the launcher has started on this machine."""
    for name in LOCAL_SIZE:
        if (count := environment.get(name, "")).isdigit():
            return max(int(count), 1)
    # Slurm lists the machines: "4(x2),3" is 4, 4, 3.
    counts: list[int] = []
    for part in environment.get(SLURM_SIZES, "").split(","):
        count, _, times = part.partition("(x")
        if count.isdigit():
            counts += [int(count)] * int(times.rstrip(")") or 1)
    at = environment.get("SLURM_NODEID", "")
    return max(counts[int(at)], 1) if at.isdigit() and int(at) < len(counts) else 1


def _has_one_thread(environment: Mapping[str, str]) -> bool:
    """Whether the variables of the usual BLAS say so."""
    names = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
    return "1" in [environment.get(name) for name in names]


def state() -> dict[str, Any]:
    """The line of ``onepass info``."""
    found = libraries()
    return {
        "libraries": [f"{item.internal_api} {item.version}" for item in found],
        "threads": max((item.get_num_threads() for item in found), default=None),
        "set_by_training": bool(found) and not _environment.keeps_blas_threads(),
    }
