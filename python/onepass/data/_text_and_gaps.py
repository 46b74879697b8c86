"""Refuses text and gaps in the columns of a table."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass.data._cells import dates_among, is_code, is_figure, shown
from onepass.data._columns import MOST_CATEGORIES, Columns, Words, are_few
from onepass.data._cures import keep_words, leave_out, names_of
from onepass.data._decide import Decided
from onepass.data._reader import FrameTable, TextTable


def left_out_empty(
    table: TextTable | FrameTable, found: Decided, asked: Sequence[Any] | None
) -> tuple[str, ...]:
    """Leaves out the columns in which every cell is missing; gives a note on them.

    Args:
        asked: the features that were named, which are refused instead.

    Raises:
        ValueError: no other column is left.
    """
    empty = [
        name
        for name, column in found.features.items()
        if column.at(slice(1)).missing().all() and column.missing().all()
    ]
    if empty and (asked is not None or len(empty) == len(found.features)):
        cure = leave_out(empty) if asked is None else f"name others than {names_of(empty)}"
        raise ValueError(
            f"{table.name}: column {empty[0]!r} is empty, every cell is missing; {cure}"
        )
    for name in empty:
        del found.features[name]
    return (f"left out the empty columns {names_of(empty)}",) if empty else ()


def check_features(columns: Columns, categorical: str, words: Collection[str] = ()) -> None:
    """Refuses text that is not to be encoded, or has too many words for that.

    Args:
        words: columns that are to be encoded whatever their words look like.

    Raises:
        ValueError: one message for all such columns, with the first cell.
    """
    told = {n: c for n, c in columns.by_name.items() if n in words and isinstance(c, Words)}
    if crowded := [name for name, c in told.items() if not are_few(c)]:
        _refuse(columns, crowded, told, [])
    texts = {n: c for n, c in columns.by_name.items() if isinstance(c, Words) and n not in told}
    dates = [name for name, c in texts.items() if dates_among([w for w in c.words if w])]
    many = [name for name, c in texts.items() if name not in dates and not are_few(c)]
    if dates or (many and categorical == "auto"):
        _refuse(columns, [*dates, *many], texts, dates)
    if texts and categorical == "refuse":
        name, others = next(iter(texts)), list(texts)[1:]
        few = [n for n in texts if n not in many]
        cures = [leave_out(many or list(texts))]
        if few:
            cures.insert(
                0, f"one-hot encode {names_of(few)}: categorical='auto' (--categorical auto)"
            )
        if texts[name].are_codes():
            raise ValueError(
                f"{columns.source}: column {name!r}, {_first(texts[name], is_code)} has a leading "
                "zero, so the column holds codes and no numbers; write it without the zeros if "
                f"they are numbers; {', or '.join(cures)}"
            )
        also = f" (nor are the cells of {', '.join(map(repr, others))})" if others else ""
        raise ValueError(
            f"{columns.source}: column {name!r}, {_first(texts[name])} is not a finite number{also}"
            f"; {', or '.join(cures)}"
        )


def _refuse(
    columns: Columns, names: Sequence[str], texts: Mapping[str, Words], dates: Sequence[str]
) -> None:
    name = names[0]
    what = "is a date or time, expected a number" if name in dates else "is text"
    first = _first(texts[name])
    if texts[name].are_codes():
        first, what = _first(texts[name], is_code), "has a leading zero, so the column holds codes"
    counts = [f"{n!r} ({len(texts[n].words)} words)" for n in names if n not in dates]
    many = f"; too many words to encode: {', '.join(counts)}, at most {MOST_CATEGORIES}, each twice"
    keep = f", or pass {keep_words(dates)}" if dates else ""
    raise ValueError(
        f"{columns.source}: column {name!r}, {first} {what}{many if counts else ''}; "
        f"{leave_out(list(names))}{keep}"
    )


def _is_text(word: str) -> bool:
    return word != "" and not is_figure(word)


def _first(column: Words, which: Callable[[str], bool] = _is_text) -> str:
    """The first row with text, or with such a word."""
    row, word = column.first(which if any(map(which, column.words)) else bool)
    return f"row {row}: {shown(word)}"


def refuse_gaps(
    table: TextTable | FrameTable,
    columns: Columns,
    targets: Mapping[str, NDArray[np.bool_]],
    *,
    trained: bool = False,
) -> None:
    """One error that counts all missing cells.

    Args:
        targets: which cells of the target's column are missing, by its name.
        trained: the rows are for a model that was trained without missing cells.

    Raises:
        ValueError: there are missing cells.
    """
    gaps = {name: column.missing() for name, column in columns.by_name.items()}
    gaps.update(targets)
    counts = {name: int(np.count_nonzero(gap)) for name, gap in gaps.items()}
    holed = {name: count for name, count in counts.items() if count}
    if not holed:
        return
    rows = int(np.count_nonzero(np.any([gaps[name] for name in holed], axis=0)))
    name = min(holed, key=lambda n: int(np.argmax(gaps[n])))
    row = int(np.argmax(gaps[name]))
    again = table.read([name], [name]).columns[name]  # for how the cell is written
    word = again.words[again.codes[row]] if isinstance(again, Words) else ""
    listed = ", ".join(f"{n!r} ({count})" for n, count in holed.items())
    size = len(gaps[name])
    cure = _cure(bool(holed.keys() - targets.keys()), bool(holed.keys() & targets.keys()), trained)
    raise ValueError(
        f"{columns.source}: column {name!r}, row {row + 1}: missing value {word!r}; {rows} of "
        f"{size} rows have missing cells: {listed}; {cure}"
    )


def _cure(of_features: bool, of_targets: bool, trained: bool) -> str:
    """What to do about missing cells of features, of the target, or of both."""
    do = "fill them in"
    if of_targets:
        do = "fill in the features and " * of_features + "leave out the rows without a target"
    if trained:
        return f"{do}: the model was trained without missing cells"
    does = f", which does {'both' if of_features else 'so'}" if of_targets else ""
    return f"{do}, or pass missing='impute' (--missing impute){does}"
