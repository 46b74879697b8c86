"""Text and gaps in the columns of a table that are refused, and what is worth a note."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass.data._cells import are_codes, is_code, shown
from onepass.data._columns import Columns, Numbers, Words
from onepass.data._decide import MOST_CATEGORIES, Decided, dates_among, keep_words, leave_out
from onepass.data._reader import FrameTable, TextTable
from onepass.data._units import is_unit

FEW_ROWS = 20  # in fewer, numbers may all differ by chance
FILLERS = {sign * float("9" * digits) for sign in (-1, 1) for digits in (3, 4, 5, 6)}
EXACT = 2.0**53  # whole numbers above are rounded


def left_out_empty(
    table: TextTable | FrameTable, found: Decided, asked: Sequence[Any] | None
) -> tuple[str, ...]:
    """Leaves out the columns in which every cell is missing; gives a note on them.

    Args:
        asked: the features that were named, which are refused instead.

    Raises:
        ValueError: no other column is left.
    """
    empty = [
        name
        for name, column in found.features.items()
        if column.at(slice(1)).missing().all() and column.missing().all()
    ]
    if empty and (asked is not None or len(empty) == len(found.features)):
        cure = leave_out(empty) if asked is None else f"name others than {_them(empty)}"
        raise ValueError(
            f"{table.name}: column {empty[0]!r} is empty, every cell is missing; {cure}"
        )
    for name in empty:
        del found.features[name]
    return (f"left out the empty columns {_them(empty)}",) if empty else ()


def check_features(columns: Columns, categorical: str, words: Collection[str] = ()) -> None:
    """Refuses text that is not to be encoded, or has too many words for that.

    Args:
        words: columns that are to be encoded whatever their words look like.

    Raises:
        ValueError: one message for all such columns, with the first cell.
    """
    told = {n: c for n, c in columns.by_name.items() if n in words and isinstance(c, Words)}
    if crowded := [name for name, c in told.items() if not _are_few(c)]:
        _refuse(columns, crowded, told, [])
    texts = {n: c for n, c in columns.by_name.items() if isinstance(c, Words) and n not in told}
    dates = [name for name, c in texts.items() if dates_among([w for w in c.words if w])]
    many = [name for name, c in texts.items() if name not in dates and not _are_few(c)]
    if dates or (many and categorical == "auto"):
        _refuse(columns, [*dates, *many], texts, dates)
    if texts and categorical == "refuse":
        name, others = next(iter(texts)), list(texts)[1:]
        few = [n for n in texts if n not in many]
        cures = [leave_out(many or list(texts))]
        if few:
            cures.insert(0, f"one-hot encode {_them(few)}: categorical='auto' (--categorical auto)")
        if _are_codes(texts[name]):
            raise ValueError(
                f"{columns.source}: column {name!r}, {_code(texts[name])} has a leading zero, so "
                "the column holds codes and no numbers; write it without the zeros if they are "
                f"numbers; {', or '.join(cures)}"
            )
        also = f" (nor are the cells of {', '.join(map(repr, others))})" if others else ""
        raise ValueError(
            f"{columns.source}: column {name!r}, {_first(texts[name])} is not a finite number{also}"
            f"; {', or '.join(cures)}"
        )


def _refuse(
    columns: Columns, names: Sequence[str], texts: Mapping[str, Words], dates: Sequence[str]
) -> None:
    name = names[0]
    what = "is a date or time, expected a number" if name in dates else "is text"
    first = _first(texts[name])
    if _are_codes(texts[name]):
        first, what = _code(texts[name]), "has a leading zero, so the column holds codes"
    counts = [f"{n!r} ({len(texts[n].words)} words)" for n in names if n not in dates]
    many = f"; too many words to encode: {', '.join(counts)}, at most {MOST_CATEGORIES}, each twice"
    keep = f", or pass {keep_words(dates)}" if dates else ""
    raise ValueError(
        f"{columns.source}: column {name!r}, {first} {what}{many if counts else ''}; "
        f"{leave_out(list(names))}{keep}"
    )


def _them(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))


def _are_few(column: Words) -> bool:
    """Whether the words of a column can be encoded."""
    words = sum(word != "" for word in column.words)
    return words <= MOST_CATEGORIES and 2 * words <= max(len(column), 2)


def _first(column: Words) -> str:
    row = int(np.flatnonzero(~column.missing())[0])
    return f"row {row + 1}: {shown(column.words[column.codes[row]])}"


def _are_codes(column: Words) -> bool:
    return are_codes([word for word in column.words if word])


def _code(column: Words) -> str:
    """The first row with a leading zero."""
    row = int(np.argmax(np.array([is_code(word) for word in column.words])[column.codes]))
    return f"row {row + 1}: {shown(column.words[column.codes[row]])}"


def refuse_gaps(
    table: TextTable | FrameTable,
    columns: Columns,
    others: Mapping[str, NDArray[np.bool_]],
    cure: str = "fill them in, or pass missing='impute' (--missing impute)",
) -> None:
    """One error that counts all missing cells.

    Args:
        others: which cells of further columns are missing, such as the target's.

    Raises:
        ValueError: there are missing cells.
    """
    gaps = {name: column.missing() for name, column in columns.by_name.items()}
    gaps.update(others)
    counts = {name: int(np.count_nonzero(gap)) for name, gap in gaps.items()}
    holed = {name: count for name, count in counts.items() if count}
    if not holed:
        return
    rows = int(np.count_nonzero(np.any([gaps[name] for name in holed], axis=0)))
    name = min(holed, key=lambda n: int(np.argmax(gaps[n])))
    row = int(np.argmax(gaps[name]))
    again = table.read([name], [name]).columns[name]  # for how the cell is written
    word = again.words[again.codes[row]] if isinstance(again, Words) else ""
    listed = ", ".join(f"{n!r} ({count})" for n, count in holed.items())
    size = len(gaps[name])
    raise ValueError(
        f"{columns.source}: column {name!r}, row {row + 1}: missing value {word!r}; {rows} of "
        f"{size} rows have missing cells: {listed}; {cure}"
    )


def notes_on(
    table: TextTable | FrameTable,
    columns: Columns,
    y_gaps: NDArray[np.bool_],
    classes: Mapping[str, int] | None,
) -> tuple[str, ...]:
    """One line each on what was left out, encoded or filled, and on what is worth a look.

    Args:
        y_gaps: rows that were left out, as they have no target.
        classes: how many samples each class has; None for a regression.
    """
    notes = list(table.notes)
    if table.blank:
        rows = "1 row" if table.blank == 1 else f"{table.blank} rows"
        notes.append(f"left out {rows} in which every cell is empty")
    words = {n: c for n, c in columns.by_name.items() if isinstance(c, Words)}
    if words:
        listed = ", ".join(f"{n!r} ({len(c.words)} words)" for n, c in words.items())
        notes.append(f"one-hot encoded: {listed}")
    codes = [name for name, column in words.items() if _are_codes(column)]
    if codes:
        notes.append(f"codes, as they have leading zeros, and no numbers: {_them(codes)}")
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
        notes.append(f"the same in every row: {_them(constant)}")
    ids = [n for n, c in columns.by_name.items() if isinstance(c, Numbers) and _is_id(n, c)]
    if ids:
        notes.append(f"different in every row: {_them(ids)}; if that is an id, {leave_out(ids)}")
    dates = [n for n, c in columns.by_name.items() if isinstance(c, Numbers) and _are_dates(c)]
    if dates:
        notes.append(f"dates as numbers, perhaps: {_them(dates)}; {leave_out(dates)}")
    for name, column in columns.by_name.items():
        number = _filler(column) if isinstance(column, Numbers) else None
        if number is not None:
            notes.append(
                f"{name!r} has {number:g} in several rows, far from its other numbers; if that "
                f"means a missing value, pass na_values=[{number:g}] (--na-values={number:g})"
            )
    long = [n for n, c in columns.by_name.items() if isinstance(c, Numbers) and _is_rounded(c)]
    if long:
        notes.append(f"whole numbers beyond 2**53, which are rounded: {_them(long)}")
    rare = [name for name, count in (classes or {}).items() if count == 1]
    if rare:
        notes.append(f"classes of one sample: {', '.join(map(shown, rare[:10]))}")
    return tuple(notes)


def _is_constant(column: Any) -> bool:
    if isinstance(column, Words):
        return len(np.unique(column.codes)) == 1
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
    values = column.values[~column.missing()]
    if not len(values) or values[0] < 19e6 or values.min() < 19e6 or values.max() >= 21e6:
        return False
    month, day = values // 100 % 100, values % 100
    valid = (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)
    return bool(((values % 1 == 0) & valid).all()) and len(np.unique(values)) > 2


def _filler(column: Numbers) -> float | None:
    """A number such as -9999 that stands apart and comes again: perhaps it means a gap."""
    values = column.values[~column.missing()]
    for number in {values.min(), values.max()} & FILLERS if len(values) else ():
        others = values[values != number]
        if len(values) - len(others) > 1 and len(others) and np.abs(others).max() * 5 < abs(number):
            return float(number)
    return None


def _is_rounded(column: Numbers) -> bool:
    big = np.abs(column.values[np.abs(column.values) > EXACT])
    return bool(big.size) and bool((big < 1e22).all()) and bool((big % 1 == 0).all())
