"""The command line: ``onepass train``, ``predict``, ``evaluate``, ``search``, ``lab``, ``bench``,
``info``.

Exit status: 2 for wrong use, with one line on standard error; 1 for a run that fails; 130 for
Ctrl-C; 141 if the reader of the output has gone.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from onepass._interruptions import end_by_status

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    with _interruptible():
        from onepass.cli._main import run  # NumPy and all else, which takes long
    try:
        return run(argv)
    finally:
        end_by_status()


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
