"""Tables with a header. Features are numbers; the target is numbers or text.

Each error names the column and the row, counted from 1 below the header.
"""

from __future__ import annotations

import csv
import difflib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MISSING = frozenset({"", "?", "na", "n/a", "nan", "null", "none"})


@dataclass(frozen=True)
class Table:
    """The columns of a file, the target apart; text targets stay text."""

    features: NDArray[np.float64]
    feature_names: tuple[str, ...]
    target: str
    target_values: NDArray[Any]


def read_csv(path: Path, target: str | None) -> Table:
    """Read a comma, semicolon or tab separated file; the target is the last column if None."""
    header, rows = _read(path)
    if target is None:
        target = header[-1]
    elif target not in header:
        near = difflib.get_close_matches(target, header, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{path}: no column {target!r}, expected one of {', '.join(header)}{hint}")
    columns = dict(zip(header, zip(*rows, strict=True), strict=True))
    for name, cells in columns.items():
        _refuse_missing(path, name, cells)
    values = columns.pop(target)
    features = [_numbers(path, name, cells) for name, cells in columns.items()]
    return Table(np.stack(features, axis=1), tuple(columns), target, _numbers_or_text(values))


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text (byte {error.start})") from error
    first = text.split("\n", 1)[0]
    delimiter = next((d for d in (",", ";", "\t") if d in first), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    lines = [[cell.strip() for cell in line] for line in reader if any(map(str.strip, line))]
    if len(lines) < 2:
        raise ValueError(f"{path}: expected a header line and at least one row")
    header, rows = lines[0], lines[1:]
    if all(_is_number(cell) for cell in header):
        raise ValueError(f"{path}: the first line is numbers, expected a header with column names")
    if len(header) < 2:
        raise ValueError(f"{path}: one column, {header[0]!r}, expected features and a target")
    if "" in header:
        raise ValueError(f"{path}: column {header.index('') + 1} has no name; name or remove it")
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise ValueError(f"{path}: two columns are called {twice[0]!r}")
    for number, row in enumerate(rows, 1):
        if len(row) != len(header):
            raise ValueError(f"{path}: row {number} has {len(row)} cells, expected {len(header)}")
    return header, rows


def _refuse_missing(path: Path, name: str, cells: tuple[str, ...]) -> None:
    for number, cell in enumerate(cells, 1):
        if cell.lower() in MISSING:
            raise ValueError(
                f"{path}: column {name!r}, row {number}: missing value {cell!r}; "
                "fill it in or remove the row"
            )


def _numbers(path: Path, name: str, cells: tuple[str, ...]) -> NDArray[np.float64]:
    for number, cell in enumerate(cells, 1):
        if not _is_number(cell):
            raise ValueError(
                f"{path}: column {name!r}, row {number}: {cell!r} is not a finite number; "
                "features must be numbers (encode the column, e.g. one-hot, or remove it)"
            )
    return np.array([float(cell) for cell in cells])


def _numbers_or_text(cells: tuple[str, ...]) -> NDArray[Any]:
    if all(_is_number(cell) for cell in cells):
        return np.array([float(cell) for cell in cells])
    return np.array(cells)


def _is_number(cell: str) -> bool:
    try:
        return bool(np.isfinite(float(cell)))
    except ValueError:
        return False
