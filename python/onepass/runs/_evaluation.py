"""The evaluation of a saved run on data that has targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass.runs import _held_out, _scores
from onepass.runs._held_out import HeldOut, Report
from onepass.runs._parts import Parts
from onepass.runs._saved_run import SavedRun
from onepass.runs._source import digest, rows_with_targets
from onepass.train._confusion import ClassificationReport


@dataclass(frozen=True)
class Evaluated:
    """Scores, and what is needed to print them.

    Attributes:
        what: the rows. scores: of these. report: what is behind them. predicted: class indices or
            numbers. notes: sentences for the user.
    """

    what: str
    scores: _scores.Scores
    report: Report
    predicted: NDArray[Any]
    notes: tuple[str, ...] = ()

    @property
    def imbalanced(self) -> bool:
        """Whether accuracy alone misleads."""
        report = self.report
        return isinstance(report, ClassificationReport) and _scores.is_imbalanced(report.support)

    def __str__(self) -> str:
        return f"{self.what}: {_scores.line(self.scores, imbalanced=self.imbalanced)}"


def of_rows(
    run: SavedRun, what: str, X: NDArray[np.float64], y: NDArray[Any], notes: tuple[str, ...] = ()
) -> Evaluated:
    """Of encoded rows, and their class indices or numbers."""
    return Evaluated(what, *run.judged(X, y), notes)


def of_held_out(
    run: SavedRun, parts: Parts, classes: Sequence[str] | None, folder: Path
) -> Evaluated:
    """Of the part that no training has seen; writes its predictions into the folder."""
    X, y = parts.X[parts.test], parts.y[parts.test]
    result = of_rows(run, "held-out part", X, y)
    _held_out.write(folder, HeldOut(parts.test, y, result.predicted), classes)
    return result


def of_data(run: SavedRun, data: Any, *, held_out: bool, **reading: Any) -> Evaluated:
    """Of a table, or of the part of the training's data that no training has seen.

    Args:
        reading: how the file is read, where it differs from that of the training.

    Raises:
        ValueError: ``held_out`` with other data than those of the training.
    """
    rows = rows_with_targets(data, run.encoding, **reading)
    X, y = rows.x, rows.y
    assert y is not None
    same = digest(run.encoding.classes, X, y) == run.about["contents"]
    if held_out and not same:
        raise ValueError(
            f"evaluate: '--held-out' is given, expected it with the data of the training, "
            f"{run.about['data']}; the contents of {data} are others"
        )
    notes = rows.notes
    if held_out:
        return of_rows(run, "held-out part", X[run.held_out], y[run.held_out], notes)
    if same:
        notes = (*notes, "the run was trained on most of these rows; --held-out takes the others")
    return of_rows(run, f"{len(y)} row{'s' * (len(y) != 1)}", X, y, notes)
