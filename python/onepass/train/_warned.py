"""Warnings of a fit, of which several ranks would each give the same: rank 0 alone gives them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from onepass._caller import stacklevel
from onepass.parallel import Communicator
from onepass.parallel._collectives import first_other

_rank: ContextVar[int] = ContextVar("rank", default=0)


@contextmanager
def by_rank(comm: Communicator) -> Iterator[None]:
    """Inside, ``warn`` gives the warnings of rank 0 alone."""
    before = _rank.set(comm.rank)
    try:
        yield
    finally:
        _rank.reset(before)


def warn(text: str) -> None:
    """Give a RuntimeWarning that all ranks of a fit have."""
    if _rank.get() == 0:
        warnings.warn(text, RuntimeWarning, stacklevel=stacklevel())


def warn_of_rank(comm: Communicator, text: str | None) -> None:
    """Give the RuntimeWarning of this rank, if it has one; rank 0 alone does if all have the same.

    Every rank calls it.
    """
    if comm.size > 1 and first_other(comm, text or "") is not None:
        text = text and f"rank {comm.rank} of {comm.size}: {text}"
    elif comm.rank:
        return
    if text:
        warnings.warn(text, RuntimeWarning, stacklevel=stacklevel())
