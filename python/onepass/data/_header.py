"""Refuses a table of words whose first line is data, or whose line of names comes again."""

from __future__ import annotations

import numpy as np

from onepass.data._cells import is_missing
from onepass.data._columns import Numbers, Words
from onepass.data._cures import HEADER, names_of
from onepass.data._decide import Decided
from onepass.data._reader import FrameTable, TextTable


def refuse_repeated_names(
    table: TextTable | FrameTable, found: Decided, header: bool | None
) -> None:
    """Refuses names of columns that are cells of theirs.

    Where they are in no row but with each other, the line of names comes again. Else the first line
    is a row, if all columns are words, and two or more names are cells: one alone may be chance. A
    name that is none of its cells shows that the line has names, but for a column whose words never
    repeat.

    Args:
        header: what the user said of the first line.

    Raises:
        ValueError: the first line is a row, or a row is the line of names again.
    """
    columns = found.raw.columns
    if not table.has_line_of_names or header is False:
        return
    words = {n: c for n, c in columns.items() if isinstance(c, Words) and n in c.words}
    if len(words) < 2:
        return
    cells = np.array([column.codes == column.words.index(name) for name, column in words.items()])
    again = np.flatnonzero(cells.any(axis=0))
    if len(words) == len(columns) and cells[:, again].all():
        raise ValueError(
            f"{table.name}: row {again[0] + 1} holds the names of the columns again, "
            f"{names_of(list(words))}; delete the line, or pass header=False (--no-header) if the "
            "first line is data too"
        )
    numbers = [name for name, column in found.features.items() if isinstance(column, Numbers)]
    if found.target_is_numbers and found.aim is not None:
        numbers.append(found.aim)
    others = [c for n, c in columns.items() if n not in words and isinstance(c, Words)]
    if header is None and all(map(is_missing, numbers)) and not any(map(_repeats, others)):
        raise ValueError(
            f"{table.name}: {names_of(list(words))} are names of columns and cells of theirs; is "
            f"the first line data? {HEADER[0].upper()}{HEADER[1:]}"
        )


def _repeats(column: Words) -> bool:
    """Whether some word is in several rows."""
    return len(np.unique(column.codes)) < len(column)
