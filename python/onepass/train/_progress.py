"""A progress bar during each epoch, and a table with one line an epoch."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

from onepass.train._callbacks import Callback
from onepass.train._run import Run


class ProgressBar(Callback):
    """Print a table, one line an epoch; on a terminal a bar as well.

    The bar comes from tqdm if that is installed, else it is a plain count.

    Args:
        file: the output stream, standard output by default.
    """

    def __init__(self, file: TextIO | None = None) -> None:
        self.file = file
        self._columns: list[str] = []
        self._bar: Any = None

    def on_fit_begin(self, run: Run) -> None:
        self._columns = []

    def on_epoch_begin(self, run: Run) -> None:
        self._started = time.perf_counter()
        if self._stream.isatty():
            title = f"epoch {run.epoch + 1}/{run.max_epochs}"
            self._bar = _bar(run.batches, run.position, title, self._stream)

    def on_step_end(self, run: Run) -> None:
        if self._bar is not None:
            self._bar.update(run.position - self._bar.n)

    def on_epoch_end(self, run: Run) -> None:
        self._close()
        row = {name: values[-1] for name, values in run.history.items()}
        if not self._columns:
            self._columns = list(row)
            names = "".join(f"{name:>{_width(name)}}" for name in row)
            print(f"{'epoch':>9}{names}{'s':>7}", file=self._stream, flush=True)
        cells = "".join(f"{value:>{_width(name)}.4g}" for name, value in row.items())
        seconds = time.perf_counter() - self._started
        count = f"{run.epoch}/{run.max_epochs}"
        print(f"{count:>9}{cells}{seconds:>7.2f}", file=self._stream, flush=True)

    def on_fit_end(self, run: Run) -> None:
        self._close()

    def on_abort(self, run: Run, error: BaseException) -> None:
        self._close()

    @property
    def _stream(self) -> TextIO:
        return self.file or sys.stdout

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class _PlainBar:
    """A stand-in for tqdm: ``title 12/40`` in place, at most ten times a second."""

    def __init__(self, total: int, initial: int, title: str, file: TextIO) -> None:
        self.total, self.n, self.title, self.file = total, initial, title, file
        self._shown = 0.0

    def update(self, count: int) -> None:
        self.n += count
        now = time.perf_counter()
        if now - self._shown > 0.1:
            self._shown = now
            print(f"\r{self.title} {self.n}/{self.total}", end="", file=self.file, flush=True)

    def close(self) -> None:
        print("\r\x1b[K", end="", file=self.file, flush=True)


def _bar(total: int, initial: int, title: str, file: TextIO) -> Any:
    try:
        from tqdm import tqdm
    except ImportError:
        return _PlainBar(total, initial, title, file)
    return tqdm(total=total, initial=initial, desc=title, file=file, leave=False, unit="batch")


def _width(name: str) -> int:
    return max(10, len(name) + 2)
