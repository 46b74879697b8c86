"""Finds cells of a column that are not plain numbers, and the decimal sign to read them with."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np

from onepass.data._cells import EXACT, Figures, figures, is_missing, shown, way_of
from onepass.data._columns import Numbers, Words

LONGEST = 400  # digits of a whole number that float64 reaches; int() takes 4300


@dataclass(frozen=True)
class Signs:
    """The decimal signs that a file shows, and those of the file that a model was trained on.

    Attributes:
        asked: the sign that the user gave.
        seen: the sign that each column proves, where one does.
        others: the sign of further columns, such as dates: they contradict, and decide nothing.
        usual: the sign of most such files, which holds for a point in the file.
        usual_why: what a note says of that; "" where it needs none.
        trained: ``seen`` of the training's file.
        before: the one sign that the training's file showed.
    """

    asked: str | None = None
    seen: Mapping[str, str] = field(default_factory=dict)
    others: Mapping[str, str] = field(default_factory=dict)
    usual: str | None = None
    usual_why: str = ""
    trained: Mapping[str, str] = field(default_factory=dict)
    before: str | None = None

    @property
    def shown(self) -> str | None:
        """The one sign that the file shows."""
        signs = set(self.seen.values())
        return self.asked or (signs.pop() if len(signs) == 1 else None)

    @property
    def all(self) -> dict[str, str]:
        """The sign of each column of the file that shows one."""
        return {**self.others, **self.seen}

    @property
    def both(self) -> bool:
        """Whether columns have points and others commas, and not just as in the training."""
        new = any(self.trained.get(name) != sign for name, sign in self.seen.items())
        return new and len(set(self.seen.values())) > 1

    def against(self, sign: str) -> str | None:
        """A column that shows the other sign, and did not in the training.

        Where the training's file had both signs, one more column with the other says nothing.
        """
        for name, seen in self.all.items():
            before = self.trained.get(name, self.before and sign)
            if seen != sign and before == sign:
                return name
        return None

    def settle(self, name: str, point: bool) -> tuple[str | None, str]:
        """The decimal sign of a column that does not show its own, and what shows it: "" for what
        needs no note; None, and the column that contradicts, or "", where nothing settles it.

        That of the same column in the training, if there is one and no column contradicts it; else
        that of the file; else that of the training's file.

        Args:
            point: whether the sign in doubt is a point.
        """
        usual = self.usual if point and "," not in self.all.values() else None
        own = self.trained.get(name)
        other = own and self.against(own)
        if other:
            return None, other
        if own:
            return own, "" if usual in (None, own) else "the training data show"
        here, before = self.shown or usual, None if self.seen else self.before
        if here is None:
            return before, "the training data show" if before else ""
        if here == usual and not (self.usual_why and self.shown):
            return here, self.usual_why
        return here, "the rest of the file shows"


@dataclass(frozen=True)
class Cells:
    """The words of one column, with what they are as figures."""

    source: str
    name: str
    column: Words
    values: tuple[str, ...]  # the words that are not gaps
    figures: Figures

    @staticmethod
    def of(source: str, name: str, column: Words) -> Cells:
        values = tuple(word for word in column.words if not is_missing(word))
        found = figures(values) if values else Figures({}, "")
        if column.numeric and "." in found.readings:
            found = Figures({".": found.readings["."]}, found.unit)
        return Cells(source, name, column, values, found)

    @property
    def shows(self) -> str | None:
        """The decimal sign that the cells prove in writing."""
        return None if self.column.numeric else self.figures.shows

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
        numbers = list(found)
        table = np.full(len(self.column.words), np.nan)
        table[[not is_missing(word) for word in self.column.words]] = numbers
        return Numbers(table[self.column.codes], unit, self.are_rounded(numbers))

    def refuse(self, word: str, message: str) -> NoReturn:
        """ValueError with column, row and cell."""
        raise ValueError(
            f"{self.source}: column {self.name!r}, row {self.row_of(word)}: {shown(word)} {message}"
        )

    def refuse_ways(self, cure: str = "", asked: str | None = None) -> NoReturn:
        """ValueError for numbers written in several ways: names a rare one, and a usual one that it
        cannot stand beside.

        Args:
            asked: the decimal sign that the user gave.
        """

        def may_stand(words: Sequence[str]) -> bool:
            readings = figures(words).readings
            return asked in readings if asked else bool(readings)

        counts = self.counts()
        ways: Counter[tuple[str, str, str]] = Counter()
        first: dict[tuple[str, str, str], str] = {}
        for word in self.values:
            way = way_of(word)
            first.setdefault(way, word)
            ways[way] += counts[word]
        usual = [first[way] for way, _ in ways.most_common()]
        pairs = ((a, b) for a in usual for b in reversed(usual))
        pair = next((pair for pair in pairs if not may_stand(pair)), None)
        if pair is None:  # no two are at odds, but several are: which one breaks the rest?
            values = self.values
            last = bisect_left(
                range(len(values)), True, key=lambda n: not may_stand(values[: n + 1])
            )
            pair = values[0], values[min(last, len(values) - 1)]
        self.refuse(
            pair[1], f"among numbers such as {shown(pair[0])}; write all of them in one way{cure}"
        )

    def doubted(self) -> str:
        """The first word that is another number with a decimal point than with a comma."""
        point, comma = self.figures.readings["."], self.figures.readings[","]
        place = next(i for i, (a, b) in enumerate(zip(point, comma, strict=True)) if a != b)
        return self.values[place]

    def merged(self, numbers: Sequence[float]) -> tuple[str, str] | None:
        """Two words of other digits that float64 cannot tell apart: whole numbers beyond 2**53.

        Args:
            numbers: those of ``values``.
        """
        first: dict[float, str] = {}
        for word, number in zip(self.values, numbers, strict=True):
            if abs(number) < EXACT:
                continue
            if (digits := _whole_digits(word, number)) is not None:
                other = first.setdefault(number, word)
                if digits != _whole_digits(other, number):
                    return other, word
        return None

    def are_rounded(self, numbers: Sequence[float]) -> bool:
        """Whether some whole number is another in float64."""
        return any(
            _whole_digits(word, number) not in (None, abs(number))
            for word, number in zip(self.values, numbers, strict=True)
            if abs(number) >= EXACT
        )

    def settled(self, signs: Signs) -> list[float]:
        """The figures with the decimal sign that the cells, the training or the file show."""
        readings = self.figures.readings
        asked = None if self.column.numeric else signs.asked
        if asked is not None:
            if asked in readings:
                return readings[asked]
            odd = next((w for w in self.values if asked not in figures([w]).readings), None)
            if odd is None:
                self.refuse_ways(asked=asked)
            self.refuse(odd, f"is not a finite number with the decimal sign {asked!r}")
        if not self.figures.ambiguous:
            return next(iter(readings.values()))
        return readings[self._sign(signs)[0]]

    def _sign(self, signs: Signs) -> tuple[str, str]:
        """The decimal sign of cells that do not show theirs, and what shows it."""
        word = self.doubted()
        sign, why = signs.settle(self.name, "." in word)
        if sign is None:
            place = self.values.index(word)
            point, comma = (self.figures.readings[sign][place] for sign in ".,")
            why = why and f", as {why!r} has another decimal sign than in the training"
            self.refuse(
                word,
                f"is {point:.15g} or {comma:.15g}{why}; pass decimal='.' (--decimal .) or "
                "decimal=',' (--decimal ,)",
            )
        return sign, why

    def doubt(self, signs: Signs) -> tuple[str, str]:
        """What settled cells that do not show their sign, and how one was read; "" for none."""
        if signs.asked is not None or not self.figures.ambiguous:
            return "", ""
        sign, why = self._sign(signs)
        word = self.doubted()
        number = self.figures.readings[sign][self.values.index(word)]
        return why, doubt(word, self.name, number)


def _whole_digits(word: str, number: float) -> int | None:
    """The digits of a whole number beyond 2**53, whatever parts them; None for others."""
    digits, size = re.sub(r"\D", "", word, flags=re.ASCII), int(abs(number))
    if len(digits) > LONGEST:
        return None
    whole = int(digits)
    return whole if abs(whole - size) <= size * 2.0**-50 else None  # not 1e20, nor 1.0


def doubt(cell: str, name: str, number: float) -> str:
    """How a cell in doubt was read, for a note."""
    return f"{cell} in {name!r} is {number:.15g}"
