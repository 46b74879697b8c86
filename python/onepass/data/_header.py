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

    A column of numbers shows that the first line has names, as a word cannot be one of its cells;
    where all are words, two or more such names show that it has not. One alone may be chance.

    Args:
        header: what the user said of the first line.

    Raises:
        ValueError: the first line is a row, or a row is the line of names again.
    """
    columns = found.raw.columns
    if not isinstance(table, TextTable) or header is False:
        return
    words = {n: c for n, c in columns.items() if isinstance(c, Words) and n in c.words}
    if len(words) < 2:
        return
    if len(words) == len(columns):
        cells = [column.codes == column.words.index(name) for name, column in words.items()]
        if (rows := np.flatnonzero(np.all(cells, axis=0))).size:
            raise ValueError(
                f"{table.name}: row {rows[0] + 1} holds the names of the columns again, "
                f"{names_of(list(words))}; delete the line, or pass header=False (--no-header) if "
                "the first line is data too"
            )
    numbers = [name for name, column in found.features.items() if isinstance(column, Numbers)]
    if found.target_is_numbers and found.aim is not None:
        numbers.append(found.aim)
    if header is None and all(map(is_missing, numbers)):
        raise ValueError(
            f"{table.name}: {names_of(list(words))} are names of columns and cells of theirs; is "
            f"the first line data? {HEADER[0].upper()}{HEADER[1:]}"
        )
