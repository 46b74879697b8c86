"""What means a missing cell in a table beside the usual words: ---, unknown, -9999."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from onepass.data._cells import figures, is_code
from onepass.data._columns import Column, Numbers, Words


def check(owner: str, given: Any) -> list[str] | None:
    """The ``na_values`` that were given, as text; None for none.

    Raises:
        TypeError: no list of words and numbers.
    """
    if given is None:
        return None
    single = isinstance(given, (str, int, float, np.number))
    values = [given] if single else list(given) if hasattr(given, "__iter__") else [None]
    if not all(isinstance(value, (str, int, float, np.number)) for value in values):
        raise TypeError(f"{owner}: 'na_values' is {given!r}, expected a list of words or numbers")
    return [str(value).strip() for value in values] or None


def emptied(columns: dict[str, Column], na_values: Sequence[str]) -> dict[str, Column]:
    """The columns with every such cell missing.

    A number matches whatever way it is written in, a word without regard to capitals. The arrays of
    numbers are changed, not copied: a matrix may hold them side by side.
    """
    numbers = np.array([number for value in na_values for number in _numbers(value)])
    folded = {value.casefold() for value in na_values}

    def is_gap(word: str) -> bool:
        return word.casefold() in folded or any(n in numbers for n in _numbers(word))

    found: dict[str, Column] = {}
    for name, column in columns.items():
        found[name] = column
        if isinstance(column, Numbers):
            if len(numbers):
                column.values[np.isin(column.values, numbers)] = np.nan
        elif any(map(is_gap, column.words)):
            found[name] = _without(column, [is_gap(word) for word in column.words])
    return found


def _numbers(word: str) -> list[float]:
    """What the word says as a number: -9999, −9999,0, -9,999 kg; nothing where it is none, or a
    code: 007."""
    if is_code(word):
        return []
    return [number for reading in figures([word]).readings.values() for number in reading]


def _without(column: Words, gaps: Sequence[bool]) -> Words:
    index: dict[str, int] = {}
    words = ["" if gap else word for word, gap in zip(column.words, gaps, strict=True)]
    codes = np.array([index.setdefault(word, len(index)) for word in words], np.int32)
    return replace(column, codes=codes[column.codes], words=tuple(index))
