"""What a search returns: its trials, the best of them, a table and a picture."""

from __future__ import annotations

import copy
import csv
import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onepass._files import path_of, replacing
from onepass.nn._random import seeded
from onepass.train._search_plot import draw
from onepass.train._search_space import Distribution, shown
from onepass.train._search_trial import COMPLETE, STATES, Trial

MOST_ROWS = 30  # of a table that is printed


@dataclass
class SearchResult:
    """What `search` returns.

    ``print`` shows a table, best first.

    Attributes:
        trials: in the order of their numbers.
        metric, mode: by which the best is chosen, and whether "min" or "max" of it.
        seed: of the search.
        space: of the parameters: the axes of the picture.

    Example:
        >>> from onepass.train import SearchResult, Trial
        >>> trials = [Trial(n, {"lr": 0.1**n}, "complete", s) for n, s in enumerate([0.5, 0.2])]
        >>> result = SearchResult(trials, metric="val_loss", mode="min")
        >>> result.best.params
        {'lr': 0.1}
        >>> print(result)
        2 trials: 2 complete; best val_loss 0.2, trial 1
         trial   lr  val_loss  epochs
             1  0.1       0.2       0
             0    1       0.5       0
    """

    trials: list[Trial]
    metric: str
    mode: str
    seed: int = 0
    space: Mapping[str, Distribution] = field(default_factory=dict, repr=False, compare=False)
    _build: Callable[[dict[str, Any]], Any] | None = field(
        default=None, init=False, repr=False, compare=False
    )

    @property
    def ranked(self) -> list[Trial]:
        """Best first: complete trials by their score, then pruned and failed ones."""
        sign = 1 if self.mode == "min" else -1

        def rank(trial: Trial) -> tuple[int, float]:
            score = math.inf if math.isnan(trial.score) else sign * trial.score
            return STATES.index(trial.state), score

        return sorted(self.trials, key=rank)

    @property
    def best(self) -> Trial:
        """The complete trial with the best score, the first of equals.

        Raises:
            ValueError: no trial is complete.
        """
        first = self.ranked[0] if self.trials else None
        if first is None or first.state != COMPLETE:
            why = "" if first is None else f": trial {first.number} {first.state}: {first.reason}"
            raise ValueError(
                f"search: none of {len(self.trials)} trials is complete{why}, expected one"
            )
        return first

    def count(self, state: str) -> int:
        """How many trials are ``"complete"``, ``"pruned"`` or ``"failed"``."""
        return sum(trial.state == state for trial in self.trials)

    def build(self) -> Any:
        """What the search's ``build`` makes of the best parameters, with the seed of their trial.

        A new Trainer, not yet trained; or the pair of it and the arguments of its fit.

        Raises:
            ValueError: no trial is complete, or the result is not one that `search` returned.
        """
        if self._build is None:
            raise ValueError("SearchResult: 'build' is missing, expected a result of search")
        params = copy.deepcopy(self.best.params)
        with seeded(self.best.seed):
            return self._build(params)

    def table(self, most: int | None = None) -> str:
        """A line for each trial, best first.

        Args:
            most: how many lines; None for all.
        """
        ranked = self.ranked[:most]
        names = [*(self.space or (self.trials[0].params if self.trials else ()))]
        rows = [["trial", *map(shown, names), self.metric, "epochs", ""]]
        for trial in ranked:
            cells = [shown(trial.params[name]) for name in names]
            told = "" if trial.state == COMPLETE else f"{trial.state}: {trial.reason}"
            rows.append([str(trial.number), *cells, f"{trial.score:.4g}", str(trial.epochs), told])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = []
        for row in rows:
            cells = [f"{cell:>{width}}" for cell, width in zip(row[:-1], widths, strict=False)]
            lines.append(f" {'  '.join(cells)}  {row[-1]}".rstrip())
        if len(self.trials) > len(ranked):
            lines.append(f" … and {len(self.trials) - len(ranked)} more")
        return "\n".join(lines)

    def summary(self) -> str:
        """One line: how many trials ended how, and the best."""
        counts = ", ".join(f"{n} {state}" for state in STATES if (n := self.count(state)))
        text = f"{len(self.trials)} trial{'s' * (len(self.trials) != 1)}: {counts or 'none'}"
        if not self.count(COMPLETE):
            return text
        return f"{text}; best {self.metric} {self.best.score:.4g}, trial {self.best.number}"

    def to_csv(self, path: str | Path) -> None:
        """Write all trials, in the order of their numbers, into a CSV file.

        Raises:
            OSError: it cannot be written.
        """
        text = io.StringIO()
        names = [*(self.space or (self.trials[0].params if self.trials else ()))]
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["trial", *names, self.metric, "state", "epochs", "seconds", "reason"])
        for trial in self.trials:
            cells = [_cell(trial.params[name]) for name in names]
            end = [trial.state, trial.epochs, f"{trial.seconds:.3f}", trial.reason]
            writer.writerow([trial.number, *cells, repr(trial.score), *end])
        with replacing(path_of("to_csv", "path", path), "table of trials") as file:
            file.write(text.getvalue().encode())

    def plot(self, path: str | Path) -> None:
        """Draw the trials into an image file: a line each across an axis for every parameter.

        The last axis is the metric, better upwards, which colours the lines too. The best trial is
        on top; pruned ones are dotted, failed ones are grey and end before it.

        Raises:
            ImportError: Matplotlib is not installed. ValueError: there is no trial, or Matplotlib
                has no format of the ending of ``path``.
        """
        draw(self, path_of("plot", "path", path))

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_build": None}  # a function that is not in a module has no pickle

    def __repr__(self) -> str:
        text = f"SearchResult({self.summary()}"
        if self.count(COMPLETE):
            params = (f"{name}={shown(value)}" for name, value in self.best.params.items())
            text += f": {', '.join(params)}"
        return f"{text})"

    def __str__(self) -> str:
        return f"{self.summary()}\n{self.table(MOST_ROWS)}"


def _cell(value: Any) -> Any:
    return value if isinstance(value, (bool, int, float, str)) else shown(value)
