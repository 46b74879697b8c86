"""Progress on a terminal or in a notebook: a bar of tqdm, or a plain count."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from onepass import _console

TERMINAL_SECONDS, NOTEBOOK_SECONDS = 0.1, 0.5  # between two counts


class Count:
    """``title 12/40``, written over itself."""

    def __init__(self, total: int, initial: int, title: str, file: Any, seconds: float) -> None:
        self.total, self.n, self.title = total, initial, title
        self.file, self.seconds = file, seconds
        self._shown = -math.inf
        self._width = 0

    def update(self, count: int) -> None:
        self.n += count
        now = time.perf_counter()
        if now - self._shown > self.seconds:
            self._shown = now
            line = f"{self.title} {self.n}" + (f"/{self.total}" if self.total else "")
            self._width = len(line)
            _console.write(f"\r{line}", self.file)

    def clear(self) -> None:
        """Leave the line to another text; the next update shows the count again."""
        if self._width:
            _console.write(f"\r{'':{self._width}}\r", self.file)
            self._shown = -math.inf

    def close(self) -> None:
        self.clear()


class Tqdm:
    """A bar of tqdm that ends in silence where the terminal is closed."""

    def __init__(self, bar: Any) -> None:
        self.bar, self.n = bar, bar.n

    def update(self, count: int) -> None:
        self.n += count
        self._try(lambda: self.bar.update(count))

    def clear(self) -> None:
        self._try(self.bar.clear)

    def close(self) -> None:
        self._try(self.bar.close)

    def _try(self, call: Callable[[], object]) -> None:
        try:
            call()
        except (OSError, ValueError, AttributeError):
            self.bar.disable = True


def of(total: int, initial: int, title: str, file: Any, unit: str = "batch") -> Count | Tqdm | None:
    """A bar of tqdm on a terminal, else a count; None where the file shows neither."""
    if _console.is_notebook(file):
        return Count(total, initial, title, file, NOTEBOOK_SECONDS)
    if not _console.is_terminal(file):
        return None
    try:
        from tqdm import tqdm

        whole = total or None  # not known
        scale = unit == "B"  # bytes as kB, MB
        bar = tqdm(
            total=whole, initial=initial, desc=title, file=file, leave=False, unit=unit,
            unit_scale=scale,
        )  # fmt: skip
    except (ImportError, OSError, ValueError, AttributeError):
        return Count(total, initial, title, file, TERMINAL_SECONDS)
    return Tqdm(bar)
