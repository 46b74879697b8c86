"""Settings of the whole process, changed for a while by any number of threads at once."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["ProcessSetting", "ignored"]


class ProcessSetting:
    """What the whole process has once, such as the filters of warnings.

    Of the threads inside, the first keeps it and the last puts it back. If each did both, the last
    to leave would put back what another thread had changed, and it would stay so.

    Args:
        keep: returns a function that puts back what there is now.
    """

    def __init__(self, keep: Callable[[], Callable[[], object]]) -> None:
        self._keep = keep
        self._lock = threading.Lock()
        self._inside = 0

    @contextmanager
    def changed(self, change: Callable[[], object]) -> Iterator[None]:
        """Changed inside, by calling ``change``."""
        with self._lock:
            if self._inside == 0:
                self._put_back = self._keep()
            self._inside += 1
            change()
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    self._put_back()


def _kept_filters() -> Callable[[], object]:
    kept = warnings.catch_warnings()
    kept.__enter__()
    return lambda: kept.__exit__(None, None, None)


_filters = ProcessSetting(_kept_filters)


@contextmanager
def ignored(message: str = "", category: type[Warning] = Warning) -> Iterator[None]:
    """Ignore warnings inside that begin with ``message`` and are of ``category``."""
    with _filters.changed(lambda: warnings.filterwarnings("ignore", message, category)):
        yield
