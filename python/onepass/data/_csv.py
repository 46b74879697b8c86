"""Tables with a header. Features are numbers; the target is numbers or text.

Each error names the column and the row, counted from 1 below the header.
"""

from __future__ import annotations

import csv
import difflib
import io
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SEPARATORS = (",", ";", "\t", "|")
MOST_NAMES = 32
LOOKED_AT = 50  # lines that tell the separator
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)  # float() takes 12_3
# Numbers as people write them: 1.200,50  0,5  10%  $5  1 000 EUR
_MONEY = re.compile(r"[+-]?[$€£]?\s*\d[\d.,_' ]*\s*(%|[$€£]|EUR|USD|GBP)?")
ENCODE = "features must be numbers (encode the column, e.g. one-hot, or remove it)"
MISSING = frozenset({"", "?", "na", "n/a", "nan", "null", "none"})


@dataclass(frozen=True)
class Table:
    """The columns of a file, the target apart; text targets stay text."""

    features: NDArray[np.float64]
    feature_names: tuple[str, ...]
    target: str
    target_values: NDArray[Any]


def read_csv(path: Path, target: str | None, task: str | None = None) -> Table:
    """Read a table; the target is the last column if None.

    The separator of a .tsv is the tab. In other files it is the one of comma, semicolon, tab and
    bar that gives all lines the same number of cells, quoted ones left aside.

    A target of numbers and text mixed is refused as an odd cell, unless ``task`` is
    "classification", or the numbers are whole and each word comes at least twice: names of classes.
    """
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
    named = task == "classification"
    return Table(
        np.stack(features, axis=1), tuple(columns), target, _target(path, target, values, named)
    )


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8"
        ) from error
    lines = _lines(path, text, "\t" if path.suffix.lower() == ".tsv" else _separator(text))
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
    for place, name in enumerate(header):
        if _is_number(name) and any(_is_number(row[place]) for row in rows):
            raise ValueError(
                f"{path}: column {place + 1} is called {name!r} and holds numbers; is the first "
                "line data? Add a line with column names, or rename the column"
            )
    return header, rows


def _lines(path: Path, text: str, separator: str) -> list[list[str]]:
    """The cells of all lines that are not blank; a cell may not go over a line's end."""
    found = []
    reader = _reader(text, separator)
    try:
        for line in reader:
            for cell in line:
                if "\n" in cell or "\r" in cell:
                    start = reader.line_num - cell.count("\n")
                    raise ValueError(
                        f"{path}: a quoted cell begins in line {start} and ends in line "
                        f"{reader.line_num}, expected cells of one line; is a quote not closed?"
                    )
            if any(map(str.strip, line)):
                found.append([cell.strip() for cell in line])
    except csv.Error as error:
        raise ValueError(
            f"{path}: line {reader.line_num}: {error}; is a quote not closed?"
        ) from error
    return found


def _separator(text: str) -> str:
    """The separator that gives the first lines the same number of cells, the more the better."""
    best, most = None, 1
    for separator in SEPARATORS:
        counts = []
        try:
            for line in _reader(text, separator):
                if any(map(str.strip, line)):
                    counts.append(len(line))
                if len(counts) == LOOKED_AT:
                    break
        except csv.Error:
            continue
        if counts and counts[0] > most and len(set(counts)) == 1:
            best, most = separator, counts[0]
    if best is not None:
        return best
    first = re.sub(r'"[^"]*"', "", text.split("\n", 1)[0])
    return max(SEPARATORS, key=first.count)


def _reader(text: str, separator: str) -> Any:
    lines = io.StringIO(text, newline="")
    return csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)


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
                f"{_cure(cell)}"
            )
    return np.array([float(cell) for cell in cells])


def _target(path: Path, name: str, cells: tuple[str, ...], named: bool) -> NDArray[Any]:
    """Numbers where all cells are, text where none is, or where the cells are names of classes.

    Codes with leading zeros are names: 0123 and 123 differ.
    """
    if any(re.fullmatch(r"0\d+", cell, re.ASCII) for cell in cells):
        return np.array(cells)
    count = sum(map(_is_number, cells))
    if count == len(cells):
        different = {cell for cell in cells if re.fullmatch(r"[+-]?\d+", cell, re.ASCII)}
        if len({int(cell) for cell in different}) > len({float(cell) for cell in different}):
            raise ValueError(
                f"{path}: column {name!r} has whole numbers that float64 cannot tell apart, such "
                f"as {max(different, key=len)}; number the classes from 0, or write them as words"
            )
        return np.array([float(cell) for cell in cells])
    if not named:
        for row, cell in enumerate(cells, 1):
            if not _is_number(cell) and _MONEY.fullmatch(cell):
                raise ValueError(
                    f"{path}: column {name!r}, row {row}: {cell!r} is not a finite number; "
                    f"{_cure(cell, 'write digits and a decimal point alone')}, or pass "
                    "task='classification' (--task classification) if it names a class"
                )
    if count and not named and not _are_names(cells):
        odd_is_number = 2 * count < len(cells)
        odd = Counter(cell for cell in cells if _is_number(cell) == odd_is_number)
        cell = min(odd, key=odd.__getitem__)  # the rarest
        row, others = 1 + cells.index(cell), "text" if odd_is_number else "numbers"
        raise ValueError(
            f"{path}: column {name!r}, row {row}: {cell!r} among {others}; mend the cell, or pass "
            "task='classification' (--task classification) if the cells are names of classes"
        )
    return np.array(cells)


def _are_names(cells: tuple[str, ...]) -> bool:
    """Whether numbers and text are names of classes: whole numbers, and words that come again."""
    counts = Counter(cells)
    return len(counts) <= MOST_NAMES and all(
        re.fullmatch(r"\d+", cell, re.ASCII)
        if _is_number(cell)
        else count > 1 and any(map(str.isalpha, cell))
        for cell, count in counts.items()
    )


def _is_number(cell: str) -> bool:
    return _NUMBER.fullmatch(cell) is not None and bool(np.isfinite(float(cell)))


def _cure(cell: str, other: str = ENCODE) -> str:
    if re.fullmatch(r"[+-]?\d{1,3}(,\d{3})+", cell):
        return "write it without the comma, or with a decimal point where the comma is one"
    if re.fullmatch(r"[+-]?\d+,\d+", cell):
        return f"write a decimal point instead of the comma, {cell.replace(',', '.')}"
    if _is_number(cell.replace("_", "")):
        return f"write it without underscores, {cell.replace('_', '')}"
    return other


def read_columns(source: Any, **reading: Any) -> Any:
    """The columns of a file of numbers."""
    from onepass.data._columns import Columns, Numbers

    header, rows = _read(Path(source))
    cells = zip(*rows, strict=True)
    by_name: dict[str, Any] = {
        name: Numbers(_numbers(Path(source), name, column))
        for name, column in zip(header, cells, strict=True)
    }
    return Columns(str(source), by_name, len(rows))
