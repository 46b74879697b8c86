"""Unusual marks of a missing cell: ---, unknown, -9999."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from onepass.data._cells import figures, is_code, is_missing, shown
from onepass.data._columns import Column, Numbers, Words

SIGNS = (".", ",")
Readings = Mapping[str, float]  # what is read with a decimal point, and with a decimal comma


def check(owner: str, given: Any) -> list[str | float] | None:
    """The ``na_values`` that were given: words, and numbers; None for none.

    Raises:
        TypeError: no list of words and numbers.
    """
    if given is None:
        return None
    single = isinstance(given, (str, int, float, np.number))
    values = [given] if single else list(given) if hasattr(given, "__iter__") else [None]
    if not all(isinstance(value, (str, int, float, np.number)) for value in values):
        raise TypeError(f"{owner}: 'na_values' is {given!r}, expected a list of words or numbers")
    return [_checked(value) for value in values] or None


def _checked(value: Any) -> str | float:
    if isinstance(value, (str, bool)):
        return str(value).strip()
    number: float = value.item() if isinstance(value, np.number) else value
    return number


def emptied(
    source: str,
    columns: Mapping[str, Column],
    na_values: Sequence[str | float],
    signs: Mapping[str, str | None],
) -> dict[str, Column]:
    """The columns with every such cell missing.

    A number is itself, in whatever way a cell writes it; a word is its text, without regard to
    capitals, or the number that it says with the decimal sign of the column. The arrays of numbers
    are changed, not copied: a matrix may hold them side by side.

    Args:
        signs: the decimal sign of each column, as far as it is known.

    Raises:
        ValueError: a decimal point would make a cell a gap, a decimal comma would not, or the other
            way about.
    """
    found: dict[str, Column] = {}
    for name, column in columns.items():
        found[name] = column
        if isinstance(column, Numbers):
            numbers = [_both(_readings(value), signs[name]) for value in na_values]
            by_sign = [np.isin(column.values, [n[sign] for n in numbers if n]) for sign in SIGNS]
            if (odd := by_sign[0] != by_sign[1]).any():
                row = int(np.argmax(odd))
                word = next(v for v, n in zip(na_values, numbers, strict=True)
                            if n and column.values[row] in n.values())  # fmt: skip
                _refuse(source, name, row, f"{column.values[row]:.15g}", str(word))
            column.values[by_sign[0]] = np.nan
        else:
            gaps = _gaps_of(source, name, column, na_values, signs[name])
            if any(gaps):
                found[name] = _without(column, gaps)
    return found


def _gaps_of(
    source: str, name: str, column: Words, na_values: Sequence[str | float], sign: str | None
) -> list[bool]:
    """Which words of the column are gaps."""
    folded = {value.casefold() for value in na_values if isinstance(value, str)}
    gaps = [word.casefold() in folded for word in column.words]
    rest = [w for w, gap in zip(column.words, gaps, strict=True) if not (gap or is_missing(w))]
    if column.numeric:
        sign = "."
    elif rest and (shows := figures(rest).shows):
        sign = shows
    numbers = [found for value in na_values if (found := _both(_readings(value), sign))]
    for place, word in enumerate(column.words):
        cell = _both(_readings(word), sign)
        if gaps[place] or not cell:
            continue
        point, comma = (any(cell[s] == number[s] for number in numbers) for s in SIGNS)
        if point != comma:
            row = int(np.flatnonzero(column.codes == place)[0])
            texts = [word, *(value for value in na_values if isinstance(value, str))]
            _refuse(source, name, row, word, next(filter(_is_ambiguous, texts)))
        gaps[place] = point
    return gaps


def _refuse(source: str, name: str, row: int, cell: str, word: str) -> None:
    point, comma = (_readings(word)[sign] for sign in SIGNS)
    raise ValueError(
        f"{source}: column {name!r}, row {row + 1}: {shown(cell)} may be a gap of 'na_values', as "
        f"{shown(word)} is {point:.15g} or {comma:.15g}; pass decimal='.' (--decimal .) or "
        "decimal=',' (--decimal ,)"
    )


def _readings(value: str | float) -> Readings:
    """Its value as a number: -9999, −9999,0, -9,999 kg; nothing where it is none, or a code:
    007."""
    if not isinstance(value, str):
        return dict.fromkeys(SIGNS, value)
    if is_code(value):
        return {}
    return {sign: numbers[0] for sign, numbers in figures([value]).readings.items()}


def _is_ambiguous(word: str) -> bool:
    return len(set(_readings(word).values())) == 2


def _both(readings: Readings, sign: str | None) -> Readings:
    """A number for either sign: with the one that is known, or that can be read."""
    if sign in readings:
        return dict.fromkeys(SIGNS, readings[str(sign)])
    if len(readings) == 1:
        return dict.fromkeys(SIGNS, *readings.values())
    return readings


def _without(column: Words, gaps: Sequence[bool]) -> Words:
    index: dict[str, int] = {}
    words = ["" if gap else word for word, gap in zip(column.words, gaps, strict=True)]
    codes = np.array([index.setdefault(word, len(index)) for word in words], np.int32)
    return replace(column, codes=codes[column.codes], words=tuple(index))
