"""What a search shows while it runs."""

from __future__ import annotations

import sys
from typing import Any

from onepass import _bar, _console
from onepass.train._callbacks import Callback
from onepass.train._run import Run
from onepass.train._search_result import SearchResult
from onepass.train._search_space import shown
from onepass.train._search_trial import COMPLETE, Trial


class Shows(Callback):
    """A line for each trial, and a bar over the epochs of all."""

    def __init__(self, result: SearchResult, trials: int, epochs: int, progress: bool) -> None:
        self._result, self._trials, self._epochs = result, trials, epochs
        self._progress = progress
        self._bar: Any = None
        self._begun = 0

    def begin(self, number: int) -> None:
        self._begun = number * self._epochs
        if self._progress and self._bar is None:
            total = self._trials * self._epochs
            self._bar = _bar.of(total, self._begun, "search", sys.stdout, unit="epoch")

    def on_epoch_end(self, run: Run) -> None:
        self._move(run.epoch)

    def ended(self, trial: Trial) -> None:
        """A line, and the bar where the next trial begins."""
        if not self._progress:
            return
        if self._bar is not None:
            self._bar.clear()
        params = "  ".join(f"{name} {shown(value)}" for name, value in trial.params.items())
        metric = self._result.metric
        told = f"{metric} {trial.score:.4g}" if trial.state == COMPLETE else trial.state
        best = "  best so far" if self._is_best(trial) else ""
        why = f": {trial.reason}" if trial.reason else ""
        _console.write(f"trial {trial.number}  {params}  {told}{why}{best}\n", sys.stdout)
        self._move(self._epochs)

    def end(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _is_best(self, trial: Trial) -> bool:
        return trial.state == COMPLETE and self._result.best is trial

    def _move(self, epochs: int) -> None:
        if self._bar is not None and (step := self._begun + epochs - self._bar.n) > 0:
            self._bar.update(step)

    def __repr__(self) -> str:
        return "progress of the search"
