"""Compares a column of a new table with the one that a model was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onepass.data._cells import is_code, named_number
from onepass.data._columns import TRUTH_UNIT, Column, Numbers, Words
from onepass.data._feature import Feature
from onepass.data._reader import FrameTable, TextTable

AS_TEXT = "read the column as text, such as dtype=str in pandas"


def _lost_zeros(column: Words, names: Sequence[str]) -> dict[str, str]:
    """Numbers of the column that may be codes: 7 may be 007."""
    codes = {str(int(name)): name for name in names if is_code(name)} if column.numeric else {}
    return {word: codes[word] for word in column.words if word in codes}


def refuse_lost_zeros(where: str, column: Words, names: Sequence[str]) -> None:
    """Refuses a number that the training had with and without a leading zero: 7 may be 007."""
    for lost, code in _lost_zeros(column, names).items():
        if lost in names:
            raise ValueError(
                f"{where} holds the number {lost}, which may be {code!r} or {lost!r} of the "
                f"training data; {AS_TEXT}"
            )


def cure_of_zeros(column: Words, names: Sequence[str]) -> str:
    """The cure where numbers that training lacked may be its codes."""
    lost = _lost_zeros(column, names)
    return f"; if {next(iter(lost))} is {next(iter(lost.values()))!r}, {AS_TEXT}" if lost else ""


def renamed(column: Words, categories: Sequence[str]) -> Words:
    """Numbers by the names that categories of the same number have: 1 as 1.0; 7 is not 007."""
    numbers = [(number, word) for word in categories if (number := named_number(word)) is not None]
    names = dict(numbers)
    if len(names) < len(numbers):
        return column  # 1 and 1.0 are two words there
    by_number = (None if w in categories else named_number(w) for w in column.words)
    words = [
        w if n is None else names.get(n, w) for w, n in zip(column.words, by_number, strict=True)
    ]
    return replace(column, words=tuple(words)) if len(set(words)) == len(words) else column


def is_written(table: TextTable | FrameTable, raw: Column) -> bool:
    """Whether the numbers of a column as read stand there in writing, so that units count."""
    typed = isinstance(raw, Numbers) or raw.numeric
    return isinstance(table, TextTable) or not typed


def check_column(
    table: TextTable | FrameTable, feature: Feature, column: Column, raw: Column
) -> None:
    """Refuses a column that holds something else than in training; ``raw`` is it as read."""
    where = f"{table.name}: column {feature.name!r}"
    if feature.kind == "number" and isinstance(column, Words):
        row, word = column.first(bool)
        what = "is not a finite number, which the model was trained on"
        if column.are_codes():
            row, word = column.first(is_code)
            what = "has a leading zero, expected numbers without, as in the training data"
        raise ValueError(f"{where}, row {row}: {word!r} {what}")
    if feature.kind == "number" and isinstance(column, Numbers):
        if feature.unit == TRUTH_UNIT:
            _check_truth(where, column)
            return
        if is_written(table, raw) or column.unit:
            check_unit(where, feature.unit, column)


def _check_truth(where: str, column: Numbers) -> None:
    """Refuses numbers other than 1 and 0 for true and false."""
    odd = ~np.isin(column.values, (0, 1)) & ~column.missing()
    if odd.any():
        row = int(np.argmax(odd))
        raise ValueError(
            f"{where}, row {row + 1}: {column.values[row]:.15g} is neither true nor false, which "
            "the model was trained on"
        )


def check_unit(where: str, unit: str, column: Numbers) -> None:
    """Refuses another unit than in training; all but % may be left out."""
    same = column.unit == unit or (unit != "%" and column.unit == "")
    same = same or (unit == "" and column.unit == TRUTH_UNIT)
    if not same and not column.missing().all():
        raise ValueError(
            f"{where} has {f'the unit {column.unit}' if column.unit else 'no unit'}, expected "
            f"{unit or 'plain numbers'} as in the training data"
        )


def cure_of_utf8(encoding: str | None, texts: Sequence[str]) -> str:
    """The cure where UTF-8 was read as a text of one byte a character: größe as grÃ¶ÃŸe."""
    for text in texts if encoding else ():
        try:
            if text.encode(str(encoding)).decode("utf-8") != text:
                return "; if the file is UTF-8, pass encoding='utf-8' (--encoding utf-8)"
        except UnicodeError:
            continue
    return ""
