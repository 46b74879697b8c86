"""The threads of NumPy's BLAS while a model trains: one where its products are small.

Several threads share a small product only by waiting for each other, which takes longer than the
product as soon as another process wants a core. The number of threads belongs to the process, so
trainings at the same time agree: one with large products keeps the threads for all.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from functools import cache
from threading import get_ident
from typing import Any

from onepass import _environment, config
from onepass._one_thread import Lock, freed_by_fork, keep_only

# What launchers call the number of processes on a machine: MPICH, Open MPI, torchrun.
LOCAL_SIZE = ("MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE", "LOCAL_WORLD_SIZE")
LARGE = 1 << 24  # multiply-adds of a product: about a millisecond of one core


class _Users:
    """The trainings in progress, and the threads there were before the first."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.small: dict[object, int] = {}  # a training whose products are small, and its thread
        self.large: dict[object, int] = {}
        self.before: list[tuple[Any, int]] = []
        freed_by_fork(self)

    def forget_others(self, thread: int) -> None:
        """In a forked child; the next training follows."""
        keep_only(thread, self.small)
        keep_only(thread, self.large)

    def begin(self, training: object, *, small: bool) -> None:
        with self.lock:
            (self.small if small else self.large)[training] = get_ident()
            self._follow()

    def end(self, training: object) -> None:
        with self.lock:
            self.small.pop(training, None)
            self.large.pop(training, None)
            self._follow()

    def _follow(self) -> None:
        limit = bool(self.small) and not self.large
        if limit and not self.before:
            self.before = [(library, library.get_num_threads()) for library in libraries()]
            for library, _ in self.before:
                library.set_num_threads(1)
        elif not limit and self.before:
            for library, count in self.before:
                if library.get_num_threads() == 1:  # else someone has chosen in between
                    library.set_num_threads(count)
            self.before = []


_users = _Users()


@cache
def libraries() -> list[Any]:
    """NumPy's BLAS as threadpoolctl sees it; empty where that is not installed."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return []
    found = ThreadpoolController().select(user_api="blas").lib_controllers
    return [library for library in found if "numpy" in library.filepath] or list(found)


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
    _users.begin(training, small=work < LARGE)
    try:
        yield
    finally:
        _users.end(training)


@contextlib.contextmanager
def cores_of_rank() -> Iterator[None]:
    """No more threads inside, of our kernels and of BLAS, than there are cores for each of the
    processes that a launcher has started on this machine."""
    ranks = next((int(n) for name in LOCAL_SIZE if (n := os.environ.get(name, "")).isdigit()), 1)
    most = max((os.cpu_count() or 1) // max(ranks, 1), 1)
    owners: list[Any] = [] if _environment.sets_threads() else [config]
    owners += [] if _environment.keeps_blas_threads() else libraries()
    before = [(owner, owner.get_num_threads()) for owner in owners]
    try:
        for owner, count in before:
            owner.set_num_threads(min(count, most))
        yield
    finally:
        for owner, count in before:
            owner.set_num_threads(count)


def state() -> dict[str, Any]:
    """The line of ``onepass info``."""
    found = libraries()
    return {
        "libraries": [f"{item.internal_api} {item.version}" for item in found],
        "threads": max((item.get_num_threads() for item in found), default=None),
        "set_by_training": bool(found) and not _environment.keeps_blas_threads(),
    }
