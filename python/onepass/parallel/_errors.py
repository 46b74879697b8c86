"""Errors of ranks: which all have, which one has had and the others are to learn of.

An error that nobody else has must end the others, who would wait for this rank for ever.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from onepass.parallel._protocol import Communicator, fail

E = TypeVar("E", bound=BaseException)


class OtherRankError(RuntimeError):
    """Another rank has failed; the message says which and why.

    Args:
        what: has happened, for `announce`.
        is_announced: whether that rank has told the reader of the output.
    """

    def __init__(self, text: str, what: str = "", is_announced: bool = False) -> None:
        super().__init__(text)
        self.what, self.is_announced = what, is_announced


def of_all(error: E) -> E:
    """Mark an error that all ranks raise at the same place: nobody waits for them, and where
    nobody catches it rank 0 alone shows it."""
    error._is_of_all_ranks = True  # type: ignore[attr-defined]
    return error


@contextmanager
def told(comm: Communicator) -> Iterator[None]:
    """Around a fit: the others learn of an error that they may not have."""
    try:
        yield
    except BaseException as error:
        tell(comm, error)
        raise


def tell(comm: Communicator, error: BaseException) -> None:
    """Let the others know of an error of a fit, unless all ranks have it."""
    if not is_of_all(error) and not hasattr(error, "_is_told"):
        error._is_told = True  # type: ignore[attr-defined]
        fail(comm, reason(error))


def is_of_all(error: BaseException) -> bool:
    """Whether `of_all` has marked it."""
    return getattr(error, "_is_of_all_ranks", False)


def reason(error: BaseException, kind: Any = None) -> str:
    """Kind and text of an error, in one line."""
    shown = traceback.format_exception_only(kind or type(error), error)
    return "".join(shown).strip().partition("\n")[0]
