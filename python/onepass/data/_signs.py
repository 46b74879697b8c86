"""The cells of a column that are no plain numbers, and the decimal sign that they are read with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from onepass.data._cells import Figures, figures, is_missing, shown
from onepass.data._columns import Numbers, Words


@dataclass(frozen=True)
class Signs:
    """What the file shows of its decimal sign.

    Attributes:
        asked: the sign that the user gave.
        seen: the signs that some column proves.
        usual: the sign of most such files, which holds for a point in the file.
        before: the sign of the table that a model was trained on.
    """

    asked: str | None = None
    seen: frozenset[str] = frozenset()
    usual: str | None = None
    before: str | None = None

    @property
    def shown(self) -> str | None:
        """The one sign that the file shows."""
        return self.asked or (next(iter(self.seen)) if len(self.seen) == 1 else None)


@dataclass(frozen=True)
class Cells:
    """The words of one column, with what they are as figures."""

    source: str
    name: str
    column: Words
    values: tuple[str, ...]  # the words that are no gaps
    figures: Figures

    @staticmethod
    def of(source: str, name: str, column: Words) -> Cells:
        values = tuple(word for word in column.words if not is_missing(word))
        return Cells(source, name, column, values, figures(values) if values else Figures({}, ""))

    def counts(self) -> dict[str, int]:
        """How many rows have each word."""
        counts = np.bincount(self.column.codes, minlength=len(self.column.words))
        return dict(zip(self.column.words, counts.tolist(), strict=True))

    def row_of(self, word: str) -> int:
        """The first row with this word, counted from 1."""
        code = self.column.words.index(word)
        return int(np.flatnonzero(self.column.codes == code)[0]) + 1

    def numbers(self, found: Iterable[float], unit: str = "") -> Numbers:
        """The column as numbers, with these for ``values``, NaN for gaps."""
        table = np.full(len(self.column.words), np.nan)
        table[[not is_missing(word) for word in self.column.words]] = list(found)
        return Numbers(table[self.column.codes], unit)

    def refuse(self, word: str, message: str) -> NoReturn:
        """ValueError with column, row and cell."""
        raise ValueError(
            f"{self.source}: column {self.name!r}, row {self.row_of(word)}: {shown(word)} {message}"
        )

    def doubted(self) -> str:
        """The first word that is another number with a decimal point than with a comma."""
        point, comma = self.figures.readings["."], self.figures.readings[","]
        place = next(i for i, (a, b) in enumerate(zip(point, comma, strict=True)) if a != b)
        return self.values[place]

    def settled(self, signs: Signs) -> list[float]:
        """The figures with the decimal sign that the cells or the file show."""
        readings = self.figures.readings
        if signs.asked is not None:
            if signs.asked in readings:
                return readings[signs.asked]
            odd = next(w for w in self.values if signs.asked not in figures([w]).readings)
            self.refuse(odd, f"is not a finite number with the decimal sign {signs.asked!r}")
        if not self.figures.ambiguous:
            return next(iter(readings.values()))
        word = self.doubted()
        place = self.values.index(word)
        point, comma = readings["."][place], readings[","][place]
        usual = signs.usual if "." in word and "," not in signs.seen else None
        sign = signs.shown or usual or (signs.before if not signs.seen else None)
        if sign is None:
            self.refuse(
                word,
                f"is {point:.15g} or {comma:.15g}; pass decimal='.' (--decimal .) or "
                "decimal=',' (--decimal ,)",
            )
        return readings[sign]
