"""One-line notes about a table, for things worth a look."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass.data._cells import shown
from onepass.data._columns import Columns, Floats, Numbers, Words
from onepass.data._cures import leave_out, names_of
from onepass.data._reader import FrameTable, TextTable
from onepass.data._units import is_unit

FEW_ROWS = 20  # in fewer, numbers may all differ by chance
FILLERS = {sign * float("9" * digits) for sign in (-1, 1) for digits in (3, 4, 5, 6)}
MOST_SHOWN = 5
LEAST_TOTALLED = 3  # rows with a total among them
LARGEST_ADDED = 1e290  # sums of larger ones may be beyond float64
TOTAL_ROUNDING = 1e-9  # of the sum of absolute numbers


def notes_on(
    table: TextTable | FrameTable,
    columns: Columns,
    y_gaps: NDArray[np.bool_],
    target: str,
    classes: Mapping[str, int] | None,
    numeric_target: Floats | None = None,
) -> tuple[str, ...]:
    """One line each on what was left out, encoded or filled, and on what is worth a look.

    Args:
        y_gaps: rows that were left out, as they have no target.
        target: its name.
        classes: how many samples each class has; None for a regression.
        numeric_target: of a regression, in the rows of the columns.
    """
    notes = list(table.notes)
    if table.blank:
        rows = "1 row" if table.blank == 1 else f"{table.blank} rows"
        notes.append(f"left out {rows} in which every cell is empty")
    words = {n: c for n, c in columns.by_name.items() if isinstance(c, Words)}
    if words:
        listed = ", ".join(f"{n!r} ({len(c.words)} words)" for n, c in words.items())
        notes.append(f"one-hot encoded: {listed}")
    codes = [name for name, column in words.items() if column.are_codes()]
    if codes:
        notes.append(f"codes, as they have leading zeros, and no numbers: {names_of(codes)}")
    units = [
        f"{n!r} ({c.unit})"
        for n, c in columns.by_name.items()
        if isinstance(c, Numbers) and is_unit(c.unit)
    ]
    if units:
        notes.append(f"numbers of one unit each: {', '.join(units)}")
    gaps = {n: int(np.count_nonzero(c.missing())) for n, c in columns.by_name.items()}
    numbers = [f"{n!r} ({gaps[n]})" for n in gaps if gaps[n] and n not in words]
    if numbers:
        notes.append(f"filled with the training part's median: {', '.join(numbers)}")
    holed = [f"{n!r} ({gaps[n]})" for n in words if gaps[n]]
    if holed:
        notes.append(f"a missing cell counts as a word: {', '.join(holed)}")
    if y_gaps.any():
        count = int(np.count_nonzero(y_gaps))
        notes.append(f"left out {count} of {len(y_gaps)} rows, which have no target")
    constant = [n for n, c in columns.by_name.items() if _is_constant(c)]
    if constant:
        notes.append(f"the same in every row: {names_of(constant)}")
    if (
        numeric_target is not None
        and len(numeric_target) > 1
        and (numeric_target == numeric_target[0]).all()
    ):
        notes.append(
            f"the same in every row: the target {target!r}, of which nothing can be learnt"
        )
    ids = [n for n, c in columns.by_name.items() if isinstance(c, Numbers) and _is_id(n, c)]
    if ids:
        notes.append(f"different in every row: {names_of(ids)}; if that is an id, {leave_out(ids)}")
    dates = [n for n, c in columns.by_name.items() if isinstance(c, Numbers) and _are_dates(c)]
    if dates:
        notes.append(f"dates as numbers, perhaps: {names_of(dates)}; {leave_out(dates)}")
    for name, column in columns.by_name.items():
        number = _filler(column) if isinstance(column, Numbers) else None
        if number is not None:
            notes.append(
                f"{name!r} has {number:g} in several rows, far from its other numbers; if that "
                f"means a missing value, pass na_values=[{number:g}] (--na-values={number:g})"
            )
    if total := _total(columns, numeric_target):
        notes.append(f"the last row is {total}; if it is not a sample, delete the line")
    long = [n for n, c in columns.by_name.items() if isinstance(c, Numbers) and c.rounded]
    if long:
        notes.append(
            f"whole numbers beyond 2**53, which are rounded: {names_of(long)}; if that is an id, "
            f"{leave_out(long)}"
        )
    for what, of in _spelt_twice(words, classes or {}, target):
        notes.append(f"{what} differ in capitals alone, and count as different: {of}")
    rare = [name for name, count in (classes or {}).items() if count == 1]
    if rare:
        notes.append(f"classes of one sample: {', '.join(map(shown, rare[:10]))}")
    return tuple(notes)


def _spelt_twice(
    words: Mapping[str, Words], classes: Collection[str], target: str
) -> Iterator[tuple[str, str]]:
    """Spellings such as Yes and yes, which differ in capitals alone: of features, then classes."""
    features = {name: column.words for name, column in words.items()}
    for what, of in (("words", features), ("classes", {target: classes})):
        found = []
        for name, spelt in of.items():
            same: dict[str, list[str]] = {}
            for word in sorted(spelt):
                same.setdefault(word.casefold(), []).append(word)
            found += [f"{names_of(s)} of {name!r}" for s in same.values() if len(s) > 1]
        if found:
            more = f" and {len(found) - MOST_SHOWN} more" if len(found) > MOST_SHOWN else ""
            yield what, "; ".join(found[:MOST_SHOWN]) + more


def _is_constant(column: Any) -> bool:
    if isinstance(column, Words):
        return len(np.unique(column.codes)) == 1
    if len(set(column.values[:FEW_ROWS].tolist())) > 2:
        return False  # most columns
    values = column.values[~column.missing()]
    return len(values) > 1 and len(values) == len(column) and bool((values == values[0]).all())


def _is_id(name: str, column: Numbers) -> bool:
    """Whole numbers, all different, in more rows than chance would have, or called an id."""
    values = column.values
    called = re.search(r"(^|[\W_])id$", name, re.IGNORECASE) is not None
    if len(values) < (2 if called else FEW_ROWS) or not (values[:FEW_ROWS] % 1 == 0).all():
        return False
    return bool((values % 1 == 0).all()) and len(np.unique(values)) == len(values)


def _are_dates(column: Numbers) -> bool:
    """Whether numbers are such as 20240131."""
    if not 19e6 <= np.nan_to_num(column.values[0], nan=19e6) < 21e6:
        return False  # most columns
    values = column.values[~column.missing()]
    if not len(values) or values.min() < 19e6 or values.max() >= 21e6:
        return False
    month, day = values // 100 % 100, values % 100
    valid = (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)
    return bool(((values % 1 == 0) & valid).all()) and len(np.unique(values)) > 2


def _filler(column: Numbers) -> float | None:
    """A number such as -9999 that stands apart and comes again: perhaps it means a gap."""
    ends = np.fmin.reduce(column.values), np.fmax.reduce(column.values)  # NaN where all are
    values = column.values[~column.missing()] if FILLERS.intersection(ends) else column.values[:0]
    for number in FILLERS.intersection(ends):
        others = values[values != number]
        if len(values) - len(others) > 1 and len(others) and np.abs(others).max() * 5 < abs(number):
            return float(number)
    return None


def _total(columns: Columns, target: Floats | None) -> str:
    """What the last row is of those above, "" for nothing: a sum or mean in all its numbers."""
    features = [c.values for c in columns.by_name.values() if isinstance(c, Numbers)]
    if columns.rows <= LEAST_TOTALLED:
        return ""
    values = [v for v in (*features, *([] if target is None else [target])) if v[-1] == v[-1]]
    for word, of in (("sum", np.nansum), ("mean", np.nanmean)):
        found = 0
        for column in values:
            constant = bool((column == column[0]).all())
            if not constant and not _is(of, column):
                break
            found += not constant
        else:
            if found > 1:
                return f"the {word} of those above, in all {found} columns of numbers"
    return ""


def _is(of: Callable[[Floats], Any], values: Floats) -> bool:
    above = values[:-1]
    if np.isnan(above).all():
        return False
    if np.nanmax(np.abs(values)) > LARGEST_ADDED:
        return False
    room = TOTAL_ROUNDING * float(np.nansum(np.abs(above)))
    return abs(float(of(above)) - float(values[-1])) <= room
