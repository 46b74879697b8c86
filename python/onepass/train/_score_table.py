"""Scores of several trainings as a table, with their mean and standard deviation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

Scores = Mapping[str, "float | None"]  # None, as JSON has it, is NaN


def number(value: float | None) -> str:
    """With four places, or as many digits where it is far from 1; None is NaN."""
    if value is None:
        return "nan"
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e6 or value == 0 else f"{value:.5g}"


def mean_of(rows: Sequence[Scores], name: str) -> float:
    """Of one score over all rows; NaN where one is."""
    return float(np.mean(_values(rows, name)))


def deviation_of(rows: Sequence[Scores], name: str) -> float:
    """The standard deviation of a sample, over N - 1; NaN of one row."""
    return float(np.std(_values(rows, name), ddof=1)) if len(rows) > 1 else math.nan


def spread(rows: Sequence[Scores], name: str) -> str:
    """``0.9533 ± 0.0298``."""
    return f"{number(mean_of(rows, name))} ± {number(deviation_of(rows, name))}"


def table(rows: Sequence[Scores], names: Sequence[str], first: str = "fold") -> str:
    """A line for each row, numbered from 1 under the title ``first``, and one of all."""
    lines = [[first, *(name.replace("_", " ") for name in names)]]
    lines += [
        [str(count), *(number(row[name]) for name in names)] for count, row in enumerate(rows, 1)
    ]
    lines.append(["mean ± sd", *(spread(rows, name) for name in names)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip()
        for line in lines
    )


def _values(rows: Sequence[Scores], name: str) -> list[float]:
    found = [row[name] for row in rows]
    return [math.nan if value is None else value for value in found]
