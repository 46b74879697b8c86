"""The target column of a table: numbers, or names of classes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass._suggest import suggestion
from onepass.data._cells import (
    PLAIN,
    WHOLE,
    are_codes,
    dates_among,
    is_date,
    is_figure,
    named_number,
)
from onepass.data._columns import Numbers, Words
from onepass.data._cures import NAMES
from onepass.data._frames import cells_of
from onepass.data._likeness import refuse_lost_zeros
from onepass.data._mixtures import MOST_NAMES, refuse_mixture, refuse_scaled
from onepass.data._signs import Cells, Signs
from onepass.data._units import is_unit

TASKS = ("classification", "regression")
FEW = 8  # words: fewer may all differ and name classes; so many amounts may be names, such as 3g


@dataclass(frozen=True)
class Target:
    """The target: class indices or numbers, and which rows have none."""

    y: NDArray[Any]
    classes: tuple[str, ...] | None
    gaps: NDArray[np.bool_]
    unit: str = ""


def target_of(
    cells: Cells | Numbers, task: str | None, signs: Signs, words: bool = False
) -> Target:
    """Numbers, or classes by the text of their cells.

    Classes: text; whole numbers of which at most MOST_NAMES differ and one comes twice; codes with
    leading zeros. In a target of text, only an empty cell is a gap: NA is a class there.

    Args:
        words: they are names of classes, whatever they look like.
    """
    if isinstance(cells, Numbers):
        return Target(cells.values, None, cells.missing(), cells.unit)
    if not any(cells.column.words):
        raise ValueError(
            f"{cells.source}: column {cells.name!r} is empty, expected a target; name another with "
            "target= (--target)"
        )
    if words:
        return _labels(cells, {word: word for word in cells.column.words if word != ""})
    counts = cells.counts()
    readings = cells.figures.readings
    if readings and not (task != "regression" and are_codes(cells.values)):
        return _numeric(cells, counts, task, signs)
    text = [word for word in cells.column.words if word != ""]
    if task == "regression":
        if dates_among(cells.values):
            date = next(filter(is_date, cells.values))
            cells.refuse(date, "is a date or time, expected a number, such as a count of days")
        odd = next((word for word in text if not is_figure(word)), text[0] if text else "")
        cells.refuse(odd, "is text, expected numbers")
    if task is None and dates_among(cells.values):
        cells.refuse(
            next(filter(is_date, cells.values)),
            "is a date or time, expected numbers or names of classes; name another target with "
            f"target= (--target), write it as a number such as a count of days, or {NAMES}",
        )
    if task is None and not readings:
        refuse_scaled(cells, f", or {NAMES}")
        refuse_mixture(
            replace(cells, values=tuple(_unless_gaps(cells, text))),
            f"correct the cell, or {NAMES}",
            other_ways=f", or {NAMES}",
        )
    if task is None and 2 * len(text) > len(cells.column) and _are_amounts(text):
        cells.refuse(
            text[0],
            f"is one of {len(text)} different words in {len(cells.column)} rows, expected numbers "
            f"or classes that come again; write numbers alone, or {NAMES}",
        )
    return _labels(cells, {word: word for word in text})


def _are_amounts(text: list[str]) -> bool:
    """Whether words that hardly repeat are rather amounts: many, or with digits in front."""
    digits = sum(re.match(r"[+-]?\d", word) is not None for word in text)
    return len(text) > MOST_NAMES or (len(text) >= FEW and 2 * digits > len(text))


def _unless_gaps(cells: Cells, text: list[str]) -> list[str]:
    """The words of a target; its gaps count as odd cells where there are numbers."""
    return text if any(map(is_figure, cells.values)) else list(cells.values)


def _whole(values: Iterable[str]) -> bool:
    return all(map(WHOLE.fullmatch, values))


def _numeric(cells: Cells, counts: dict[str, int], task: str | None, signs: Signs) -> Target:
    """Numbers: of a regression, or few whole ones that name classes."""
    found = cells.settled(signs)
    by_word = dict(zip(cells.values, found, strict=True))
    rows = sum(counts[word] for word in cells.values)
    plain = all(map(PLAIN.fullmatch, cells.values))
    whole = plain and all(number == round(number) for number in found)
    texts_differ = cells.merged(found) is not None
    different = len(cells.values) if texts_differ else len(set(found))
    few = whole and different <= MOST_NAMES and different < rows
    if task == "classification" or (task is None and few):
        if texts_differ or different == len(cells.values):
            names = {word: word for word in cells.values}
        else:
            names = {word: _number_name(by_word[word]) for word in cells.values}
        return _labels(cells, names, by_word)
    if task is None and different <= FEW and _may_be_names(cells, found, rows):
        cells.refuse(
            cells.values[0],
            f"may be an amount in {cells.figures.unit} or a name, as there are {different} of them "
            f"in {rows} rows; pass task='regression' (--task regression) for amounts, or {NAMES}",
        )
    if texts_differ and task is None:
        raise ValueError(
            f"{cells.source}: column {cells.name!r} has whole numbers that float64 cannot tell "
            f"apart, such as {' and '.join(cells.merged(found) or ())}; {NAMES}"
        )
    numbers = cells.numbers(found)
    return Target(numbers.values, None, numbers.missing(), cells.figures.unit)


def _may_be_names(cells: Cells, found: Sequence[float], rows: int) -> bool:
    """Whether amounts may be names such as 3g: whole, glued to a unit, each twice on average."""
    glued = all(re.fullmatch(r"\d+[^\W\d]+", word) for word in cells.values)
    come_again = len(set(found)) == len(found) and 2 * len(found) <= rows
    return glued and come_again and is_unit(cells.figures.unit)


def _number_name(number: float) -> str:
    return str(int(number)) if number == round(number) else repr(number)


def _labels(cells: Cells, names: dict[str, str], order: dict[str, float] | None = None) -> Target:
    """Classes by name, in the order of their numbers, or of the text."""
    if order is None:
        classes = sorted(set(names.values()))
    else:
        rank = {names[word]: (order[word], int(word) if _whole([word]) else 0) for word in names}
        classes = sorted(rank, key=rank.__getitem__)
    place = {name: index for index, name in enumerate(classes)}
    table = np.array([place[names[w]] if w in names else -1 for w in cells.column.words], np.int64)
    y = table[cells.column.codes] if len(table) else np.empty(0, np.int64)
    if len(classes) < 2:
        only = classes[0] if classes else "none"
        raise ValueError(
            f"{cells.source}: column {cells.name!r} has the one class {only}, expected two or more"
        )
    return Target(y, tuple(classes), y < 0)


def classes_of(
    source: str, name: str, values: NDArray[Any], like: Sequence[str] | None = None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The class indices and names of an array, as of the same cells of a table.

    Args:
        like: the classes of a training; None: those that there are.

    Raises:
        ValueError: a missing value, one class, or none of ``like``.
    """
    values = values.astype(str) if values.dtype.kind == "S" else values
    column = cells_of(values, True)
    assert isinstance(column, Words)
    cells = Cells.of(source, name, column)
    found = (
        target_of(cells, TASKS[0], Signs()) if like is None else target_like(cells, like, Signs())
    )
    if found.gaps.any():
        row = int(np.argmax(found.gaps)) + 1
        raise ValueError(f"{source}: {name!r} holds a missing value in row {row}, expected classes")
    return found.y, found.classes or ()


def target_like(cells: Cells | Numbers, classes: Sequence[str] | None, signs: Signs) -> Target:
    """The target of another table, as in the first: numbers, or these classes.

    Raises:
        ValueError: a cell that is not a number, or none of the classes.
    """
    if classes is None or isinstance(cells, Numbers):
        return target_of(cells, "regression", signs)
    where = f"{cells.source}: column {cells.name!r}"
    refuse_lost_zeros(where, cells.column, classes)
    place = {name: index for index, name in enumerate(classes)}
    numbers = _by_number(classes)
    table = []
    for word in cells.column.words:
        index = place.get(word, -1)
        if index < 0 and (number := named_number(word)) is not None:
            index = numbers.get(number, -1)
        if index < 0 and word != "":
            known = ", ".join(list(classes)[:MOST_NAMES]) + suggestion(word, classes)
            cells.refuse(word, f"is not a class of the training data, expected one of {known}")
        table.append(index)
    y = np.array(table, np.int64)[cells.column.codes] if table else np.empty(0, np.int64)
    return Target(y, tuple(classes), y < 0)


def _by_number(classes: Sequence[str]) -> dict[float, int]:
    """The classes by their numbers, if each is a number of its own: 1.0 is the class 1."""
    found = {named_number(name): index for index, name in enumerate(classes)}
    known = {number: index for number, index in found.items() if number is not None}
    return known if len(known) == len(classes) else {}
