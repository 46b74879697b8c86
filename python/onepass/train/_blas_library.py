"""NumPy's BLAS as threadpoolctl sees it: how many threads it has, and who may set that.

From 3.7 on threadpoolctl takes numbers for OpenBLAS from one thread alone, the first that sets one,
until that thread leaves a limit which is in no other of its own.
"""

from __future__ import annotations

from functools import cache
from threading import Thread
from typing import Any


@cache
def libraries() -> list[Any]:
    """NumPy's BLAS as threadpoolctl sees it; empty where that is not installed."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return []
    found = ThreadpoolController().select(user_api="blas").lib_controllers
    return [library for library in found if "numpy" in library.filepath] or list(found)


def set_threads(library: Any, count: int) -> None:
    """Whichever thread calls, and whichever will."""
    library.set_num_threads(count)
    let_go()


def let_go() -> None:
    """Let other threads set numbers again."""
    if (limits := _no_limits()) is not None:
        with limits.limit(limits=None):
            pass


@cache
def _no_limits() -> Any:
    """A controller of no library at all; None without threadpoolctl."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController().select(user_api=[])


def _counts_from_anew(library: Any, count: int) -> bool:
    """Whether a number of threads that a new thread sets is taken, and then stays."""
    thread = Thread(target=set_threads, args=(library, count))
    try:
        thread.start()
    except RuntimeError:  # while Python ends
        return False
    thread.join()
    return bool(library.get_num_threads() == count)


class Usual:
    """The number of threads that each library has while no limit is in force."""

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}  # 1: unknown

    def recover(self, library: Any) -> None:
        """Undo what a limit of another thread has left that began during a training and ended after
        it: it has put back the 1 that it found.

        Only where no limit is in force, which shows in that a number from a new thread counts.
        """
        if not hasattr(library, "clear_controlling_thread"):  # threadpoolctl 3.7 has it
            return
        count, usual = library.get_num_threads(), self._numbers.get(library)
        if usual is None and count != 1:
            self._numbers[library] = count if _counts_from_anew(library, 1) else 1
            set_threads(library, count)
        elif usual is not None and usual != 1 == count:
            if _counts_from_anew(library, usual):
                return
            library.set_num_threads(usual)
            if library.get_num_threads() == usual:  # then the limit is one of this very thread
                library.set_num_threads(1)
                self._numbers[library] = 1  # chosen, and no longer told from a number left behind
