"""A progress bar for tables that take more than a second to read."""

from __future__ import annotations

import sys
import time
from typing import Any

from onepass import _bar, _console
from onepass.data._source import Source

SECONDS = 1.0  # before the bar appears


class Loading:
    """Shows how much of ``source`` has been read, on standard error or in a notebook."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.started = time.perf_counter()
        self.bar: Any = None

    def update(self) -> None:
        """Call now and then."""
        if time.perf_counter() - self.started < SECONDS:
            return
        if self.bar is None:
            file = sys.stdout if _console.is_notebook(sys.stdout) else sys.stderr
            title = f"reading {self.source.stem}"
            self.bar = _bar.of(self.source.size, 0, title, file, "B")
            if self.bar is None:
                self.started = float("inf")  # there is nowhere to show it
                return
        self.bar.update(self.source.done() - self.bar.n)

    def __enter__(self) -> Loading:
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.close()
