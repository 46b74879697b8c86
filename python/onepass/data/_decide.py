"""What each column of a table says: numbers, truth values or words, decided over all its cells."""

from __future__ import annotations

import csv
import io
import re
import shlex
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from onepass.data._cells import (
    TRUTH,
    Figures,
    are_codes,
    figures,
    is_date,
    is_figure,
    is_missing,
    shown,
)
from onepass.data._columns import Column, Numbers, Words
from onepass.data._reader import FrameTable, Raw, TextTable
from onepass.data._units import is_scaled

MOST_NAMES = 32  # words and whole numbers mixed, or whole numbers alone, that are still classes
MOST_CATEGORIES = 50
NAMES = "pass task='classification' (--task classification) if the cells are names of classes"


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
    values: tuple[str, ...]  # the words that are not gaps
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


def _has_fractions(column: Numbers) -> bool:
    return bool(np.any(column.values[~column.missing()] % 1 != 0))


def _numbers(column: Column) -> Numbers:
    assert isinstance(column, Numbers)
    return column


def feature(cells: Cells, signs: Signs, trained: bool = False) -> Column:
    """A column that is not a target: numbers, truth values as 1 and 0, or words with "" for gaps.

    Whole numbers with a leading zero among them are words: 007 and 7 are two of them.

    Raises:
        ValueError: numbers with an odd cell among them, numbers written in several ways.
    """
    if not cells.values:
        return cells.numbers([])
    if are_codes(cells.values):
        return words_of(cells.column)
    if cells.figures.readings:
        return cells.numbers(cells.settled(signs), cells.figures.unit)
    if all(word.lower() in TRUTH for word in cells.values):
        return cells.numbers(TRUTH[word.lower()] for word in cells.values)
    out = "" if trained else f", or {leave_out([cells.name])}"
    keep = "" if trained else f", or pass {keep_words([cells.name])}"
    refuse_scaled(cells, keep)
    refuse_mixture(cells, f"mend the cell{out}", feature=True, other_ways=keep)
    return words_of(cells.column)


def names_of(names: Sequence[str]) -> str:
    """The names in quotes, between commas."""
    return ", ".join(map(repr, names))


def option(name: str, values: Sequence[str]) -> str:
    """An option with these values as a shell takes it."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)
    joint = "=" if values[0].startswith("-") else " "  # so that a value is not read as an option
    return f"{name}{joint}{shlex.quote(text.getvalue())}"


def leave_out(names: Sequence[str]) -> str:
    """How to leave these columns out."""
    return f"leave it out with drop={list(names)} ({option('--drop', names)})"


def words_of(column: Words) -> Words:
    """Words with "" for every spelling of a gap."""
    codes: dict[str, int] = {}
    table = [codes.setdefault("" if is_missing(w) else w, len(codes)) for w in column.words]
    kept = np.array(table, np.int32)[column.codes] if table else column.codes
    return Words(kept, tuple(codes), column.numeric)


def keep_words(names: Sequence[str]) -> str:
    """How to read these columns as words."""
    return f"words={list(names)} ({option('--words', names)}) if they are names"


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
        _refuse_ways(cells, counts, other_ways)
    if not count or are_names(cells.values, counts):
        return
    whole = sum(counts[word] for word in cells.values)
    odd_is_number = 2 * count < whole
    odd = [word for word, number in numeric.items() if number == odd_is_number]
    word = min(odd, key=counts.__getitem__)  # the rarest
    where = "among text" if odd_is_number else "among numbers"
    if not odd_is_number and feature:
        where = "is not a finite number, as others of the column are"
    if not odd_is_number and (found := _underscored(word)):
        cure = f"write it without underscores, {found}"
    elif cells.row_of(word) == 1 and not odd_is_number:
        cure = f"delete the line if it has units or the like; else {cure}"
    elif other_ways and not odd_is_number and not re.search(r"\d", word):
        gap = option("--na-values", [word])
        cure = f"{cure}, or pass na_values={[word]} ({gap}) if it means a missing cell"
    cells.refuse(word, f"{where}; {cure}")


def _refuse_ways(cells: Cells, counts: dict[str, int], cure: str) -> NoReturn:
    """Names a cell that is not written as most of the others are."""
    ways: Counter[tuple[str, ...]] = Counter()
    way_of = {}
    for word in cells.values:
        single = figures([word])
        signs = tuple(single.readings) if single.ambiguous or single.shows else ()
        way_of[word] = (single.unit, *signs)
        ways[way_of[word]] += counts[word]
    usual = ways.most_common(1)[0][0]
    example = next(word for word in cells.values if way_of[word] == usual)
    odd = next((word for word in cells.values if way_of[word] != usual), cells.values[-1])
    cells.refuse(odd, f"among numbers such as {shown(example)}; write all of them in one way{cure}")


def are_names(values: Sequence[str], counts: dict[str, int]) -> bool:
    """Whether numbers and text are names: whole numbers, and words that come again."""
    return len(values) <= MOST_NAMES and all(
        re.fullmatch(r"\d+", word, re.ASCII)
        if is_figure(word)
        else counts[word] > 1 and any(map(str.isalpha, word))
        for word in values
    )


def dates_among(values: Sequence[str]) -> bool:
    """Whether most of the words are dates or times."""
    return 2 * sum(map(is_date, values)) > len(values)


def _underscored(word: str) -> str | None:
    plain = word.replace("_", "")
    return plain if plain != word and is_figure(plain) else None


@dataclass(frozen=True)
class Decided:
    """The columns of a table: features as numbers or words, the target, ``aim``, as cells.

    Attributes:
        doubtful: columns of which the cells alone do not say what their points and commas are, each
            with such a cell.
    """

    features: dict[str, Column]
    target: Cells | Numbers | None
    signs: Signs
    raw: Raw
    aim: str | None
    doubtful: Mapping[str, Cells]

    def notes_on_signs(self) -> tuple[str, ...]:
        """What was read as the rest of the file shows, with the first such cell."""
        found = []
        for name, cells in self.doubtful.items():
            column = self.target if name == self.aim else self.features.get(name)
            if isinstance(column, Numbers):
                word = cells.doubted()
                number = column.values[cells.row_of(word) - 1]
                found.append(f"{word} in {name!r} is {number:.15g}")
        if not found:
            return ()
        cure = "pass decimal='.' (--decimal .) or decimal=',' (--decimal ,) if it is not"
        return (f"as the rest of the file shows, {', '.join(found)}; {cure}",)

    @property
    def target_is_numbers(self) -> bool:
        """Whether the target's cells could be read as numbers, and are not codes."""
        cells = self.target
        return isinstance(cells, Numbers) or (
            cells is not None and bool(cells.figures.readings) and not are_codes(cells.values)
        )


def decided(
    table: TextTable | FrameTable,
    features: Sequence[str],
    target: str | None,
    *,
    words: Collection[str] = (),
    labels: bool = False,
    asked: str | None = None,
    before: str | None = None,
    trained: bool = False,
) -> Decided:
    """Read these columns and decide what they say; those in ``words`` are words.

    Args:
        labels: whether the text of the target's cells is needed. It is not where the target is
            plain numbers that are not all whole.
        trained: whether a model needs just these columns.
    """
    keep = [*features, *([] if target is None else [target])]
    as_words = set(words)
    if target is not None and (labels or not table.is_fractional(target)):
        as_words.add(target)
    while True:
        raw = table.read(keep, as_words, asked)
        cells = {
            name: Cells.of(table.name, name, column)
            for name, column in raw.columns.items()
            if isinstance(column, Words) and name not in words
        }
        seen = {sign for cell in cells.values() if (sign := cell.figures.shows)}
        signs = Signs(asked, raw.signs | seen, raw.usual, before)
        unsure = raw.unsure - as_words
        aim = raw.columns.get(target or "")
        if isinstance(aim, Numbers) and target not in as_words and not _has_fractions(aim):
            as_words.add(str(target))
            continue
        comma, doubt = "," in signs.seen, any(cell.figures.ambiguous for cell in cells.values())
        shown = "." in signs.seen or (raw.usual == "." and not doubt)
        if asked is not None or not unsure or (shown and not comma):
            break
        as_words |= unsure  # 1.200: what the cells were must be known

    def column(name: str) -> Column:
        found = raw.columns[name]
        if name in words:
            return words_of(found) if isinstance(found, Words) else found
        return feature(cells[name], signs, trained) if name in cells else found

    return Decided(
        {name: column(name) for name in features},
        None if target is None else cells.get(target) or _numbers(raw.columns[target]),
        signs,
        raw,
        target,
        {n: c for n, c in cells.items() if asked is None and c.figures.ambiguous},
    )
