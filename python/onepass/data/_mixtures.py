"""Refuses columns that mix numbers and text, or several notations, and names a cell."""

from __future__ import annotations

import re
from collections.abc import Sequence

from onepass.data._cells import is_figure
from onepass.data._columns import are_few
from onepass.data._cures import option
from onepass.data._signs import Cells
from onepass.data._units import is_scaled

MOST_NAMES = 32  # words and whole numbers mixed, or whole numbers alone, that are still classes


def refuse_scaled(cells: Cells, cure: str = "") -> None:
    """Refuses numbers with a factor behind them, 10k: no names, and no numbers as they stand."""
    if 2 * sum(map(is_scaled, cells.values)) > len(cells.values):
        word = next(filter(is_scaled, cells.values))
        cells.refuse(word, f"has a letter or word for a factor; write the digits out{cure}")


def refuse_mixture(cells: Cells, cure: str, *, feature: bool = False, other_ways: str = "") -> None:
    """Refuses numbers and text in one column, or numbers that are written in several ways."""
    counts = cells.counts()
    numeric = {word: is_figure(word) for word in cells.values}
    count = sum(counts[word] for word, number in numeric.items() if number)
    if numeric and all(numeric.values()):
        cells.refuse_ways(other_ways)
    if not count or are_names(cells.values, counts):
        return
    whole = sum(counts[word] for word in cells.values)
    odd_is_number = 2 * count < whole
    if feature and odd_is_number and not are_few(cells.column):
        return  # text of many words, which is refused with the other such columns
    odd = [word for word, number in numeric.items() if number == odd_is_number]
    word = min(odd, key=counts.__getitem__)  # the rarest
    where = "among text" if odd_is_number else "among numbers"
    if not odd_is_number and feature:
        where = "is not a finite number, as others of the column are"
    if not odd_is_number and (found := _underscored(word)):
        cure = f"write it without underscores, {found}"
    elif word == cells.name:
        cure = f"delete the line if the names of the columns are repeated there; else {cure}"
    elif cells.row_of(word) == 1 and not odd_is_number:
        cure = f"delete the line if it has units or the like; else {cure}"
    elif other_ways and not odd_is_number and not re.search(r"\d", word):
        gap = option("--na-values", [word])
        cure = f"{cure}, or pass na_values={[word]} ({gap}) if it means a missing cell"
    cells.refuse(word, f"{where}; {cure}")


def are_names(values: Sequence[str], counts: dict[str, int]) -> bool:
    """Whether numbers and text are names: whole numbers, and words that come again."""
    return len(values) <= MOST_NAMES and all(
        re.fullmatch(r"\d+", word, re.ASCII)
        if is_figure(word)
        else counts[word] > 1 and any(map(str.isalpha, word))
        for word in values
    )


def _underscored(word: str) -> str | None:
    plain = word.replace("_", "")
    return plain if plain != word and is_figure(plain) else None
