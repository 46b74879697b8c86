"""Decides from all cells of a column whether it holds numbers, truth values or words."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onepass.data import _na_values
from onepass.data._cells import TRUTH, are_codes, is_missing
from onepass.data._columns import TRUTH_UNIT, Column, Numbers, Words, beyond_exact
from onepass.data._cures import keep_words, leave_out
from onepass.data._mixtures import refuse_mixture, refuse_scaled
from onepass.data._reader import FrameTable, Raw, TextTable
from onepass.data._signs import Cells, Signs, doubt


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
        found = cells.settled(signs)
        if not trained and (same := cells.merged(found)):
            cells.refuse(
                same[1],
                f"is {same[0]} to float64, which has no digits beyond 2**53; "
                f"{leave_out([cells.name])}, or pass {keep_words([cells.name])}",
            )
        return cells.numbers(found, cells.figures.unit)
    if all(word.lower() in TRUTH for word in cells.values):
        return cells.numbers((TRUTH[word.lower()] for word in cells.values), TRUTH_UNIT)
    out = "" if trained else f", or {leave_out([cells.name])}"
    keep = "" if trained else f", or pass {keep_words([cells.name])}"
    refuse_scaled(cells, keep)
    refuse_mixture(cells, f"correct the cell{out}", feature=True, other_ways=keep)
    return words_of(cells.column)


def words_of(column: Words) -> Words:
    """Words with "" for every spelling of a gap."""
    codes: dict[str, int] = {}
    table = [codes.setdefault("" if is_missing(w) else w, len(codes)) for w in column.words]
    kept = np.array(table, np.int32)[column.codes] if table else column.codes
    return Words(kept, tuple(codes), column.numeric)


@dataclass(frozen=True)
class Decided:
    """The columns of a table: features as numbers or words, the target, ``aim``, as cells.

    Attributes:
        doubtful: columns of which the cells alone do not say what their points and commas are, and
            which were read as numbers, or are the target.
    """

    features: dict[str, Column]
    target: Cells | Numbers | None
    signs: Signs
    raw: Raw
    aim: str | None
    doubtful: Sequence[Cells]

    def notes_on_signs(self, words: Sequence[str] = ()) -> tuple[str, ...]:
        """What was read as other columns, or the training, show, with the first such cell.

        Args:
            words: the names of the target's classes: cells that are names were not read.
        """
        read: dict[str, list[str]] = {}
        for cells in self.doubtful:
            if cells.name != self.aim or cells.doubted() not in words:
                why, what = cells.doubt(self.signs)
                read.setdefault(why, []).append(what)
        for name, cell in self.raw.unsure.items():
            if self.signs.asked is None:
                why = self.signs.settle(name, True)[1]
                read.setdefault(why, []).append(doubt(cell, name, float(cell)))
        read.pop("", None)
        cure = (
            "if it is not, write it with the decimal sign of the others, or pass decimal='.' "
            "(--decimal .) or decimal=',' (--decimal ,)"
        )
        notes = [f"as {why}, {', '.join(found)}; {cure}" for why, found in read.items()]
        if self.signs.asked is None and self.signs.both:
            notes.append(
                "some columns have decimal points, some decimal commas; each is read as it is"
            )
        return tuple(notes)

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
    named: bool = False,
    signs: Signs,
    trained: bool = False,
) -> Decided:
    """Read these columns and decide what they say; those in ``words`` are words.

    Args:
        labels: whether the text of the target's cells is needed. It is not where the target is
            plain numbers that are not all whole.
        named: whether the target's cells are names of classes, whatever they look like.
        signs: what is known of them before the table is read.
        trained: whether a model needs just these columns.
    """
    keep = [*features, *([] if target is None else [target])]
    as_words = set(words)
    if target is not None and (labels or not table.is_fractional(target)):
        as_words.add(target)
    while True:
        raw = table.read(keep, as_words, signs.asked)
        if table.na_values:
            known = {n: signs.asked or raw.signs.get(n) or raw.usual for n in raw.columns}
            emptied = _na_values.emptied(table.name, raw.columns, table.na_values, known)
            raw = replace(raw, columns=emptied)
        cells = {
            name: Cells.of(table.name, name, column)
            for name, column in raw.columns.items()
            if isinstance(column, Words) and name not in words
        }
        read = {name: cell for name, cell in cells.items() if not (named and name == target)}
        seen = {name: sign for name, cell in read.items() if (sign := cell.shows)}
        signs = replace(signs, seen={**raw.signs, **seen}, others=raw.others)
        signs = replace(signs, usual=raw.usual, usual_why=raw.usual_why)
        unsure = set(raw.unsure)
        long = {n for n in features if not trained and beyond_exact(raw.columns[n])} - as_words
        if long:
            as_words |= long  # 9007199254740993: which digits were lost must be known
            continue
        aim = raw.columns.get(target or "")
        if isinstance(aim, Numbers) and target not in as_words and not aim.has_fractions():
            as_words.add(str(target))
            continue
        doubtful = any(cell.figures.ambiguous for cell in cells.values())
        points = "." in signs.seen.values() or (raw.usual == "." and not doubtful)
        commas = {*signs.all.values(), *(signs.trained.get(name, ".") for name in unsure)}
        if signs.asked is not None or not unsure or (points and "," not in commas):
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
        [
            cell
            for name, cell in cells.items()
            if cell.figures.ambiguous and not are_codes(cell.values)
        ],
    )
