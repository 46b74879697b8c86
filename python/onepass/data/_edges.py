"""Lines above and below a table in a file: ``sep=;``, titles, totals, notes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from onepass.data._cells import is_figure, shown

CURE = "delete the line, or begin it with #"  # of a line above the names
CURE_BELOW = "delete the line"
_SEP = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
_TOTAL = re.compile(
    r"((grand|sub|overall)?[ -]?totals?|sum|summe|gesamt|gesamtsumme|zwischensumme|insgesamt"
    r"|averages?|avg|mean|durchschnitt|mittelwert|somme|moyenne|totale|suma|promedio)"
    r"( ?[:(\d].{0,30})?",  # but not Total Recall
    re.IGNORECASE,
)


def separator_told(line: str) -> str | None:
    """The separator that Excel's first line tells, sep=; for one."""
    found = _SEP.fullmatch(line)
    return found[1] if found else None


def titles(records: Sequence[Sequence[str]]) -> int:
    """How many of the first records are titles: one cell with text where the rows have several.

    Lines that end in separators, as a spreadsheet writes them, have empty cells; so may columns
    without a name, but then the names must be words above some number.
    """
    count = 0
    while count < len(records) and len(filled(records[count])) == 1:
        count += 1
    if not count or count + 2 > len(records):
        return 0
    names, rows = filled(records[count]), records[count + 1 :]
    width = max(len(record) for record in records[:count])
    whole = width == 1 or len(names) == len(records[count])
    above = not any(map(is_figure, names)) and any(
        is_figure(cell) for row in rows for cell in filled(row)
    )
    return count if len(names) > 1 and (whole or above) else 0


def filled(cells: Sequence[str]) -> list[str]:
    """The cells that are not empty."""
    return [cell.strip() for cell in cells if cell.strip()]


def refuse_last(where: str, last: Sequence[str], before: Sequence[Sequence[str]]) -> None:
    """Refuses a last row that is a total of the rows above, or a note below them.

    Args:
        where: the file and line. before: rows above, which have no such cell if it is one.
    """
    there = filled(last)
    if len(last) < 2 or not there or is_figure(there[0]) or not before:
        return
    place = [cell.strip() for cell in last].index(there[0])
    if any(len(row) > place and row[place].strip() == there[0] for row in before):
        return
    if _TOTAL.fullmatch(there[0]):
        raise ValueError(
            f"{where}: the last row begins with {shown(there[0])}, a total and no sample; delete "
            "the line"
        )
    fewest = min(len(filled(row)) for row in before)
    if len(there) == 1 and len(last) > 2 and fewest > 1 and re.search(r"[\s:]", there[0]):
        raise ValueError(
            f"{where}: the last row has one cell, {shown(there[0])}, a note and no sample; delete "
            "the line"
        )
