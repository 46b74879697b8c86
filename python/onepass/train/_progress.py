"""A progress bar during each epoch, and a table with one line an epoch."""

from __future__ import annotations

import shutil
import sys
import time
from typing import Any, TextIO

from onepass import _bar, _console
from onepass._keywords import suggest_keywords
from onepass.train._callbacks import Callback
from onepass.train._run import Run

FRAME = 9 + 7  # columns for the epoch and the seconds


class ProgressBar(Callback):
    """Print a table, one line an epoch; on a terminal and in a notebook progress within it too.

    On a terminal that is a bar of tqdm if that is installed, else a plain count. Where there is no
    console, or it is closed, or its reader has gone, training goes on without.

    Args:
        file: the output stream, standard output by default. A pickle leaves it out.

    Raises:
        TypeError: ``file`` has no ``write``.

    Example:
        >>> from onepass.train import ProgressBar
        >>> ProgressBar()
        ProgressBar(file=None)
    """

    rank_0_only = True

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
        self._bar = _bar.of(run.batches, run.position, title, self._stream)

    def on_step_end(self, run: Run) -> None:
        if self._bar is not None:
            self._bar.update(run.position - self._bar.n)

    def on_epoch_end(self, run: Run) -> None:
        self._close()
        row = _fitting({name: values[-1] for name, values in run.history.items()}, self._stream)
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


def _fitting(row: dict[str, float], file: Any) -> dict[str, float]:
    """The parts that fit a line of the terminal; both losses stay."""
    if not _console.is_terminal(file):
        return row
    room = shutil.get_terminal_size().columns - FRAME
    metrics = [name for name in reversed(row) if name not in ("loss", "val_loss", "lr")]
    for name in ("grad_norm", "lr", *metrics):
        if sum(map(_width, row)) > room:
            row.pop(name, None)
    return row


def _width(name: str) -> int:
    return max(10, len(name) + 2)
