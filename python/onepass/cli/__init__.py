"""The command line: ``onepass train``, ``predict``, ``evaluate``, ``bench``, ``info``.

Wrong use is one line on standard error and exit status 2; a run that fails, 1; Ctrl-C, 130; an
output whose reader has gone, 141.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    with _interruptible():
        from onepass.cli._main import run  # NumPy and all else, which takes long
    return run(argv)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C ends the process at once: an import that is interrupted may raise anything."""
    default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not default or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, _quit)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _quit(*_: Any) -> NoReturn:
    os.write(2, b"onepass: interrupted\n")
    os._exit(130)
