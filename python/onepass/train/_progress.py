"""A progress bar during each epoch, and a table with one line an epoch."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from onepass import _console
from onepass.train._callbacks import Callback
from onepass.train._keywords import suggest_keywords
from onepass.train._run import Run

TERMINAL_SECONDS, NOTEBOOK_SECONDS = 0.1, 0.5  # between two counts


class ProgressBar(Callback):
    """Print a table, one line an epoch; on a terminal and in a notebook progress within it too.

    On a terminal that is a bar of tqdm if that is installed, else a plain count. Where there is no
    console, or it is closed, or its reader has gone, training goes on without.

    Args:
        file: the output stream, standard output by default. A pickle leaves it out.
    """

    @suggest_keywords
    def __init__(self, file: TextIO | None = None) -> None:
        if file is not None and not callable(getattr(file, "write", None)):
            raise TypeError(f"ProgressBar: 'file' is {file!r}, expected a stream with write()")
        self.file = file
        self._columns: list[str] = []
        self._bar: Any = None
        self._started = 0.0

    def reset(self) -> None:
        self._columns = []

    def on_fit_begin(self, run: Run) -> None:
        self._columns = []

    def on_epoch_begin(self, run: Run) -> None:
        self._started = time.perf_counter()
        title = f"epoch {run.epoch + 1}/{run.max_epochs}"
        self._bar = _bar(run.batches, run.position, title, self._stream)

    def on_step_end(self, run: Run) -> None:
        if self._bar is not None:
            self._bar.update(run.position - self._bar.n)

    def on_epoch_end(self, run: Run) -> None:
        self._close()
        row = {name: values[-1] for name, values in run.history.items()}
        if self._columns != list(row):
            self._columns = list(row)
            names = "".join(f"{name:>{_width(name)}}" for name in row)
            self._print(f"{'epoch':>9}{names}{'s':>7}\n")
        cells = "".join(f"{value:>{_width(name)}.4g}" for name, value in row.items())
        seconds = time.perf_counter() - self._started
        count = f"{run.epoch}/{run.max_epochs}"
        self._print(f"{count:>9}{cells}{seconds:>7.2f}\n")

    def on_fit_end(self, run: Run) -> None:
        self._close()

    def on_abort(self, run: Run, error: BaseException) -> None:
        self._close()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "file": None, "_bar": None}  # neither can be copied

    @property
    def _stream(self) -> Any:
        return self.file or sys.stdout

    def _print(self, text: str) -> None:
        _console.write(text, self._stream)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class _Count:
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

    def close(self) -> None:
        if self._width:
            _console.write(f"\r{'':{self._width}}\r", self.file)


class _Tqdm:
    """A bar of tqdm that ends in silence where the terminal is closed."""

    def __init__(self, bar: Any) -> None:
        self.bar, self.n = bar, bar.n

    def update(self, count: int) -> None:
        self.n += count
        self._try(lambda: self.bar.update(count))

    def close(self) -> None:
        self._try(self.bar.close)

    def _try(self, call: Callable[[], object]) -> None:
        try:
            call()
        except (OSError, ValueError, AttributeError):
            self.bar.disable = True


def _bar(total: int, initial: int, title: str, file: Any) -> _Count | _Tqdm | None:
    if _console.is_notebook(file):
        return _Count(total, initial, title, file, NOTEBOOK_SECONDS)
    if not _console.is_terminal(file):
        return None
    try:
        from tqdm import tqdm

        whole = total or None  # not known
        bar = tqdm(total=whole, initial=initial, desc=title, file=file, leave=False, unit="batch")
    except (ImportError, OSError, ValueError, AttributeError):
        return _Count(total, initial, title, file, TERMINAL_SECONDS)
    return _Tqdm(bar)


def _width(name: str) -> int:
    return max(10, len(name) + 2)
