"""The columns of a table as read: numbers, or words by their codes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass._suggest import suggestion
from onepass.data._cells import EXACT, are_codes

Floats = NDArray[np.float64]
MOST_CATEGORIES = 50
TRUTH_UNIT = "true or false"  # what 1 and 0 carry that were True and False


@dataclass(frozen=True)
class Numbers:
    """Numbers, NaN where a cell is missing.

    Attributes:
        unit: what they carry: %, $, kg, TRUTH_UNIT …
        rounded: whether some are whole numbers that float64 does not hold.
    """

    values: Floats
    unit: str = ""
    rounded: bool = False
    kind = "number"

    def __len__(self) -> int:
        return len(self.values)

    def at(self, rows: Any) -> Numbers:
        """The numbers of these rows."""
        return replace(self, values=self.values[rows])

    def missing(self) -> NDArray[np.bool_]:
        """Which cells are missing; the values do not change from then on."""
        return self._missing

    @cached_property
    def _missing(self) -> NDArray[np.bool_]:
        return np.isnan(self.values)

    def has_fractions(self) -> bool:
        """Whether some numbers are not whole."""
        return bool(np.any(self.values[~self.missing()] % 1 != 0))


@dataclass(frozen=True)
class Words:
    """Text: row i holds ``words[codes[i]]``; the words differ, and "" is a missing cell.

    ``numeric`` words are numbers that were none in writing: 1 may have been 1.0, and the points are
    Python's.
    """

    codes: NDArray[np.int32]
    words: Sequence[str]
    numeric: bool = False
    kind = "category"

    def __len__(self) -> int:
        return len(self.codes)

    def at(self, rows: Any) -> Words:
        """The words of these rows."""
        return replace(self, codes=self.codes[rows])

    def missing(self) -> NDArray[np.bool_]:
        """Which cells are missing."""
        empty = np.array([word == "" for word in self.words], dtype=bool)
        return empty[self.codes] if len(self.words) else np.zeros(len(self), bool)

    def first(self, which: Callable[[str], bool]) -> tuple[int, str]:
        """The first row with such a word, counted from 1, and the word."""
        row = int(np.argmax(np.array([which(word) for word in self.words])[self.codes]))
        return row + 1, self.words[self.codes[row]]

    def are_codes(self) -> bool:
        """Whether the words are whole numbers and one of them has a leading zero."""
        return are_codes([word for word in self.words if word])

    def text(self) -> NDArray[Any]:
        """The word of each row, as objects."""
        return np.array([*self.words, ""], dtype=object)[self.codes]


Column = Numbers | Words


def are_few(column: Words) -> bool:
    """Whether the words of a column can be encoded."""
    words = sum(word != "" for word in column.words)
    return words <= MOST_CATEGORIES and 2 * words <= max(len(column), 2)


@dataclass(frozen=True)
class Columns:
    """Columns by name; ``matrix`` has them side by side where all are numbers."""

    source: str
    by_name: dict[str, Column]
    rows: int
    matrix: Floats | None = None

    def column(self, name: str) -> Column:
        """A column by its name; ValueError, with the nearest name, if there is none."""
        if name not in self.by_name:
            raise ValueError(
                f"{self.source}: no column {name!r}, expected one of {', '.join(self.by_name)}"
                f"{suggestion(name, self.by_name)}"
            )
        return self.by_name[name]

    def at(self, keep: NDArray[np.bool_]) -> Columns:
        """The rows where ``keep`` is true."""
        matrix = None if self.matrix is None else self.matrix[keep]
        found = {name: column.at(keep) for name, column in self.by_name.items()}
        return Columns(self.source, found, int(np.count_nonzero(keep)), matrix)


def beyond_exact(column: Column) -> bool:
    """Whether some numbers are so large that float64 rounds whole numbers."""
    return isinstance(column, Numbers) and bool((np.abs(column.values) >= EXACT).any())


def has_decimals(column: Floats) -> bool:
    """Whether some number has decimals that cannot be a group of three digits."""
    size = np.abs(column[np.isfinite(column)])
    whole = size == np.rint(size)
    size = np.minimum(size, 1e6)  # groups are below 1000, and 1e308 has no thousandfold
    groups = np.abs(size * 1000 - np.rint(size * 1000)) < 1e-3
    return bool(np.any(~whole & ~(groups & (size >= 1) & (size < 1000))))
