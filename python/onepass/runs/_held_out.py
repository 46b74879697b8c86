"""The predictions of the held-out part, which a run keeps beside its model.

A CSV file: ``row`` (from 1, among those of the data that have a target), ``true``, ``predicted``.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onepass._files import replacing
from onepass.runs._names import HELD_OUT
from onepass.train._confusion import ClassificationReport, classification_report
from onepass.train._residuals import RegressionReport, reported

Report: TypeAlias = ClassificationReport | RegressionReport
HEAD = ["row", "true", "predicted"]


@dataclass(frozen=True)
class HeldOut:
    """Rows of the data, what is true of them and what was predicted: class indices or numbers."""

    rows: NDArray[np.int64]
    true: NDArray[Any]
    predicted: NDArray[Any]

    def report(self, classes: Sequence[str] | None, target: str) -> Report:
        """Of these predictions."""
        return report_of(self.true, self.predicted, classes, target)


def report_of(
    true: NDArray[Any], predicted: NDArray[Any], classes: Sequence[str] | None, target: str = "y"
) -> Report:
    """Of class indices, or of numbers."""
    if classes is None:
        return reported(true, predicted, [target])
    return classification_report(true, predicted, target_names=classes)


def write(folder: Path, held_out: HeldOut, classes: Sequence[str] | None) -> None:
    """Write the file."""
    columns = [held_out.true.tolist(), held_out.predicted.tolist()]
    if classes is not None:
        columns = [[classes[i] for i in column] for column in columns]
    with replacing(folder / HELD_OUT, "table of predictions") as file:
        text = io.TextIOWrapper(file, "utf-8", "surrogatepass", newline="")
        writer = csv.writer(text, lineterminator="\n")
        if "\r" in "".join(classes or ()):  # which csv quotes by its line terminator alone
            writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow(HEAD)
        writer.writerows(zip((held_out.rows + 1).tolist(), *columns, strict=True))
        text.detach()


def read(folder: Path, classes: Sequence[str] | None) -> HeldOut | None:
    """What `write` has written; None where it has not.

    Raises:
        ValueError: the file holds something else.
    """
    path = folder / HELD_OUT
    if not path.is_file():
        return None
    try:
        with open(path, newline="", encoding="utf-8", errors="surrogatepass") as file:
            found = [*csv.reader(file)]
        if not found:
            raise ValueError("it is empty")
        head, *lines = found
        if head != HEAD or not lines:
            raise ValueError(f"the first line is {','.join(head)[:40]}")
        rows, true, predicted = zip(*lines, strict=True)
        of = {name: i for i, name in enumerate(classes)} if classes is not None else None
        columns = [
            np.array([float(cell) if of is None else of[cell] for cell in column])
            for column in (true, predicted)
        ]
        return HeldOut(np.array([int(row) for row in rows]) - 1, *columns)
    except (ValueError, KeyError, csv.Error) as error:
        raise ValueError(f"{path} is damaged ({error}); --resume writes it anew") from error
