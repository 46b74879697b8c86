"""How the text of a table is laid out: its separator, its header line, the names of its columns."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from onepass.data._cells import WHOLE, figures, is_figure, is_missing, is_plain, shown
from onepass.data._cures import HEADER
from onepass.data._edges import CURE, filled, separator_told, titles
from onepass.data._forms import Form, form_of, is_number
from onepass.data._units import is_unit

SEPARATORS = (",", ";", "\t", "|")
LOOKED_AT = 50  # records that tell the layout
LONGEST_CELL = 131_072  # characters; what is longer is a quote that was not closed


@dataclass(frozen=True)
class Layout:
    """Where the records begin, and what their cells are called.

    Attributes:
        sep: the separator.
        names: one for each cell of a record; "" for one without a name.
        start: lines before the first record.
        numeric: for each column, whether the first records have plain numbers in it.
        forms: or else how their numbers are written; None if not in one known way.
        fractional: whether some of either are not written as whole numbers.
        shows: for each column, the decimal sign that its first records prove, or None.
        notes: on lines above the header line.
    """

    sep: str
    names: tuple[str, ...]
    start: int
    numeric: tuple[bool, ...]
    forms: tuple[Form | None, ...]
    fractional: tuple[bool, ...]
    shows: tuple[str | None, ...]
    notes: tuple[str, ...] = ()


def layout_of(name: str, head: str, sep: str | None, header: bool | None) -> Layout:
    """The layout of a text that begins with ``head``.

    Raises:
        ValueError: no header line or no record, a first line that is data or a title.
    """
    told = separator_told(head.split("\n", 1)[0])
    sep = sep or (told if told and told in head.split("\n", 2)[1:2][-1] else None)
    commented = int(told is not None)
    commented += _commented(head.split("\n", 1)[1] if told is not None else head)
    text = head.split("\n", commented)[-1]
    sep = sep or _separator(text)
    records = list(_first(name, text, sep, commented))
    notes = []
    if commented > (told is not None) and len(records):
        last = head.split("\n")[commented - 1]
        named = next(csv.reader([last], delimiter=sep, skipinitialspace=True))
        if len(named) == len(records[0][0]) > 1 and not _is_header(records):
            named[0] = named[0].removeprefix("# ")
            records.insert(0, (named, 0))
    if header is False:
        if not records:
            raise ValueError(f"{name}: the file is empty, expected at least one row")
        names = [str(place) for place in range(1, len(records[0][0]) + 1)]
        start = commented
    else:
        if len(records) < 2:
            what = "the file is empty" if not records else "the file has one line"
            raise ValueError(f"{name}: {what}, expected a header line and at least one row")
        above = titles([cells for cells, _ in records])
        if above:
            first = shown(filled(records[0][0])[0])
            notes.append(f"left out the lines above the header line: {first}")
            del records[:above]
        names, start = records.pop(0)
        names, start = [cell.strip() for cell in names], start + commented
        names = _fitted(name, names, [cells for cells, _ in records], start)
        if header is None:
            refuse_data(name, names, [cells for cells, _ in records])
    rows = [[cell.strip() for cell in cells] for cells, _ in records if len(cells) == len(names)]
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    numeric = tuple(all(map(is_number, _filled(column))) for column in columns)
    forms = tuple(form_of(_filled(column), sep) for column in columns)
    fractional = tuple(
        any(form.decimal in cell for cell in column) if form and form.decimal
        else number and not all(map(WHOLE.fullmatch, _filled(column)))
        for number, form, column in zip(numeric, forms, columns, strict=True)
    )  # fmt: skip
    shows = tuple(figures(_filled(column)).shows for column in columns)
    return Layout(sep, tuple(names), start, numeric, forms, fractional, shows, tuple(notes))


def _fitted(name: str, names: list[str], rows: list[list[str]], line: int) -> list[str]:
    """The names with "" for columns that have cells, or separators, but no name."""
    widths = {len(row) for row in rows}
    width = widths.pop() if len(widths) == 1 else len(names)
    if width < len(names) and not any(names[width:]):
        return names[:width]  # separators behind the names alone
    if width <= len(names):
        return names
    more = width - len(names)
    if not any(any(map(str.strip, row[len(names) :])) for row in rows):
        return [*names, *[""] * more]  # separators behind the rows alone
    if more == 1 and _are_named(rows) and not any(map(_is_value, names)):
        return ["", *names]  # the rows have names, as R writes them
    raise ValueError(
        f"{name}: line {line}: {len(names)} names of columns, and rows of {width} cells; if the "
        f"line is a title above the table, {CURE}"
    )


def _are_named(rows: list[list[str]]) -> bool:
    """Whether the first cells name or count the rows."""
    first = [row[0].strip() for row in rows]
    counted = first in ([str(i + start) for i in range(len(first))] for start in (0, 1))
    words = all(first) and not any(map(is_figure, first))
    return len(set(first)) == len(first) > 1 and (words or counted)


def _filled(column: Sequence[str]) -> list[str]:
    return [cell for cell in column if not is_missing(cell)]


def reader(lines: Iterable[str], sep: str) -> Any:
    """The records of these lines; csv.Error where quotes are not as they should be."""
    return csv.reader(lines, delimiter=sep, skipinitialspace=True, strict=True)


def is_blank(cells: list[str]) -> bool:
    """Whether all cells of a record are empty."""
    return not any(map(str.strip, cells))


def check_quotes(cells: list[str], lines: list[str], width: int, sep: str) -> None:
    """Refuses a record that may have lost or gained a quote.

    A quote within a cell must be doubled, and the cell quoted. A cell of several lines must not
    hold as many separators as whole records would have: then a quote was not closed, and the next
    record with a quote closed it.
    """
    raw = "".join(lines)
    for cell in cells:
        if '"' in cell and f'"{cell.replace(QUOTE, QUOTE * 2)}"' not in raw:
            raise ValueError(
                f"a quote within the cell {shown(cell)}; is one not closed? Else double it and "
                "quote the cell"
            )
        breaks = cell.count("\n")
        if breaks and width > 1 and cell.count(sep) >= breaks * (width - 1):
            raise ValueError(
                f"a cell of {breaks + 1} lines holds as many separators as whole rows; is a quote "
                "not closed?"
            )


QUOTE = '"'


def _commented(head: str) -> int:
    """How many lines at the start are comments, blank ones among them."""
    count = 0
    for place, line in enumerate(head.split("\n")[:1000]):
        if line.startswith("#"):
            count = place + 1
        elif line.strip():
            break
    return count


def _first(name: str, text: str, sep: str, start: int = 0) -> Iterator[tuple[list[str], int]]:
    """The first records that are not blank, each with the lines up to its end."""
    found = end = 0
    records = reader(io.StringIO(text), sep)
    try:
        for cells in records:
            end = records.line_num
            if not is_blank(cells):
                yield cells, end
                found += 1
            if found == LOOKED_AT:
                return
    except csv.Error as error:
        raise ValueError(f"{name}: line {start + end + 1}: {explained(error)}") from error


def explained(error: csv.Error) -> str:
    """The finding of csv, with the probable reason."""
    what = str(error)
    if "field limit" in what:
        what = f"a cell of more than {LONGEST_CELL} characters"
    return f"{what}; is a quote not closed?"


def _separator(text: str) -> str:
    """The separator that gives the first records the same number of cells.

    If several do: the one whose cells are the cleanest (numbers, or free of the others), then the
    one with the most cells. If none does: the most frequent one of the first line.
    """
    found = {}
    for sep in SEPARATORS:
        try:
            rows = [cells for cells, _ in _first("", text, sep)]
        except ValueError:
            continue
        rows = rows[titles(rows) :]
        counts = [len(cells) for cells in rows]
        if counts and counts[-1] > 1 and len(set(counts[1:])) <= 1:
            short = counts[-1] - counts[0]
            tail = [cell for cells in rows[1:] for cell in cells[counts[0] :]]
            behind = not any(tail if short > 0 else rows[0][counts[-1] :])  # separators alone
            if short == 0 or behind or (short == 1 and _are_named(rows[1:])):
                found[sep] = (_clean(rows[1:] or rows, sep), counts[-1])
    if found:
        return max(found, key=found.__getitem__)
    first = re.sub(r'"[^"]*"', "", text.lstrip().split("\n", 1)[0])
    return max(SEPARATORS, key=first.count)


def _clean(rows: list[list[str]], sep: str) -> float:
    """The share of cells that are numbers, or hold no other separator."""
    others = "".join(set(SEPARATORS) - {sep})
    cells = [cell for row in rows for cell in row]
    clean = sum(not any(s in cell for s in others) or is_figure(cell.strip()) for cell in cells)
    return clean / len(cells)


def _is_header(records: list[tuple[list[str], int]]) -> bool:
    """Whether the first record has words above numbers, and no number."""
    (first, _), *others = records
    if any(_is_value(cell.strip()) for cell in first):
        return False
    below = next((cells for cells, _ in others if len(cells) == len(first)), None)
    return below is None or any(is_figure(cell.strip()) for cell in below)


def _is_value(cell: str) -> bool:
    """Whether it is a number, and no name such as 5% or 100m."""
    found = figures([cell])
    return bool(found.readings) and found.unit != "%" and not is_unit(found.unit)


def refuse_data(name: str, names: list[str], rows: list[list[str]]) -> None:
    """Refuses a header line with numbers that looks like data; for words see `_header.py`."""
    if all(map(is_plain, names)):
        raise ValueError(f"{name}: the first line is numbers, expected column names; {HEADER}")
    for place, cell in enumerate(names):
        below = (row[place].strip() for row in rows if len(row) == len(names))
        if _is_value(cell) and any(map(is_figure, below)):
            raise ValueError(
                f"{name}: column {place + 1} is called {cell!r} and holds numbers; is the first "
                f"line data? {HEADER[0].upper()}{HEADER[1:]}"
            )
