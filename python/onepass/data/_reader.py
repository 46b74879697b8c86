"""Opens a table of any kind: its columns by name, before their kinds are decided."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from onepass._paths import expanded
from onepass.data import _frames
from onepass.data._blocks import NUMBER, SKIP, WORD
from onepass.data._columns import Column, Floats, Numbers
from onepass.data._edges import CURE, filled
from onepass.data._forms import Form, Kind, sign_of
from onepass.data._layout import refuse_data
from onepass.data._reading import Reading
from onepass.data._source import Source
from onepass.data._text import Text

OR_DATA = ", or pass header=False (--no-header) if the first line is data"
INDEX = "left out the first column, which has no name: an index"


@dataclass(frozen=True)
class Raw:
    """Columns as they were read.

    Attributes:
        matrix: the numbers of all columns that are numbers, side by side, in the order of the file
            but for the last column asked for, which is the last.
        unsure: columns of plain numbers whose points may be signs of thousands, with a cell.
        signs: the decimal sign of each of these columns that are numbers and prove theirs.
        others: that of the first cells of any column of the file, be it dates or not needed.
        usual: the decimal sign of most files with this separator; None for no such rule.
        usual_why: what a note says of text that is read by that rule; "" where it needs none.
    """

    columns: dict[str, Column]
    rows: int
    matrix: Floats | None = None
    unsure: Mapping[str, str] = field(default_factory=dict)
    signs: Mapping[str, str] = field(default_factory=dict)
    others: Mapping[str, str] = field(default_factory=dict)
    usual: str | None = None
    usual_why: str = ""


class TextTable:
    """A table in a text file."""

    has_line_of_names = True  # or may have one

    def __init__(
        self,
        given: Any,
        reading: Reading,
        needed: Sequence[str] | None = None,
    ) -> None:
        self.na_values: Sequence[str | float] = ()
        source = Source(given, reading.encoding)
        self.name, self.stem = source.name, source.stem
        self.blank = 0  # rows of empty cells that were left out
        self.text = Text(source, reading.sep, reading.header)
        self.notes: list[str] = list(self.text.layout.notes)
        names = self.text.layout.names
        self.places = {name: place for place, name in enumerate(names) if name}
        unnamed = {place for place, name in enumerate(names) if not name}
        if len(names) > 1 and (0 in unnamed or names[0] == "Unnamed: 0"):
            unnamed.discard(0)
            self.places.pop("Unnamed: 0", None)
            self.notes.append(INDEX)
        if needed is not None:
            unnamed.clear()  # they may hold anything
        for name in self.places if needed is None else needed:
            _frames.refuse_twice(self.name, name, names, OR_DATA)
        self.unnamed = unnamed
        self.names = tuple(self.places)

    def is_fractional(self, name: str) -> bool:
        """Whether the first rows have numbers here, plain or with commas, not all of them whole."""
        return self.text.layout.fractional[self._place(name)]

    def _place(self, name: str) -> int:
        """The position of the one column with this name."""
        _frames.refuse_twice(self.name, name, self.text.layout.names, OR_DATA)
        return self.places[name]

    def refuse_unnamed(self, place: int) -> NoReturn:
        """ValueError for a column without a name."""
        layout = self.text.layout
        few = 2 * len(filled(layout.names)) <= len(layout.names)
        title = f"; if line {layout.start} is a title above the table, {CURE}"
        _refuse_unnamed(self.name, place, title * few)

    def read(self, keep: Sequence[str], words: Collection[str], decimal: str | None = None) -> Raw:
        """These columns; those in ``words`` as words, whatever they hold.

        Args:
            decimal: the decimal sign of all of them, if the user gave it.
        """
        layout = self.text.layout
        kinds: list[Kind] = [SKIP] * len(layout.names)
        for name in keep:
            place = self._place(name)
            kinds[place] = WORD if name in words else self._kind(place, decimal)
        for place in self.unnamed:
            kinds[place] = WORD
        last = self.places[keep[-1]]
        found = self.text.read(kinds, last)
        if decimal is None and (doubtful := self._doubtful(found, kinds)):
            for place in doubtful:
                kinds[place] = WORD  # 1,200: what the cells were must be known
            found = self.text.read(kinds, last)
        for place in self.unnamed:
            if not found[place].missing().all():
                self.refuse_unnamed(place)
        named = {name: found[self.places[name]] for name in keep}
        self.blank = self.text.blank
        called, proven = layout.names, self.text.proven
        unsure = {called[place]: cell for place, cell in self.text.doubtful.items()}
        sure = [place for place, is_sure in proven.items() if is_sure]
        signs = {called[place]: sign for place in sure if (sign := sign_of(kinds[place]))}
        return Raw(
            named,
            self.text.rows,
            self.text.matrix,
            unsure,
            signs,
            {name: sign for name, sign in zip(called, layout.shows, strict=True) if sign},
            "." if layout.sep == "," and len(layout.names) > 1 else None,
        )

    def _kind(self, place: int, decimal: str | None) -> Kind:
        """How to read a column at first."""
        layout = self.text.layout
        form = layout.forms[place]
        if form is not None:
            return form if form.decimal is None or decimal in (None, form.decimal) else WORD
        if decimal == "," and layout.numeric[place]:
            return WORD if layout.fractional[place] else Form(",")
        return NUMBER if layout.numeric[place] else WORD

    def _doubtful(self, found: Mapping[int, Column], kinds: Sequence[Kind]) -> list[int]:
        """Columns of numbers whose commas may be signs of thousands."""
        return [
            place
            for place, sure in self.text.proven.items()
            if kinds[place] != NUMBER and not sure and isinstance(found[place], Numbers)
        ]


class FrameTable:
    """A table whose columns are made when they are needed."""

    def __init__(
        self,
        name: str,
        stem: str,
        columns: dict[str, Callable[[bool], Column]],
        notes: Sequence[str] = (),
        *,
        has_line_of_names: bool = False,
    ) -> None:
        self.has_line_of_names = has_line_of_names
        self.na_values: Sequence[str | float] = ()
        self.name, self.stem, self.notes = name, stem, list(notes)
        self.blank = 0
        self.columns = columns
        self.names = tuple(columns)

    def is_fractional(self, name: str) -> bool:
        """Whether the column is known to be numbers of which some are not whole."""
        column = self.columns[name](False)
        return isinstance(column, Numbers) and column.has_fractions()

    def read(self, keep: Sequence[str], words: Collection[str], decimal: str | None = None) -> Raw:
        """These columns; those in ``words`` as words, whatever they hold."""
        found = {name: self.columns[name](name in words) for name in keep}
        sizes = {name: len(column) for name, column in found.items()}
        rows = next(iter(sizes.values()), 0)
        if not rows:
            raise ValueError(f"{self.name}: no rows, expected at least one")
        for name, size in sizes.items():
            if size != rows:
                raise ValueError(f"{self.name}: column {name!r} has {size} rows, expected {rows}")
            column = found[name]
            if isinstance(column, Numbers) and np.isinf(column.values).any():
                row = int(np.flatnonzero(np.isinf(column.values))[0])
                raise ValueError(
                    f"{self.name}: column {name!r}, row {row + 1}: {column.values[row]} is not a "
                    "finite number; correct the cell"
                )
        return Raw(found, rows, usual=".", usual_why="decimal points are usual")


def open_table(
    given: Any, reading: Reading, names: Sequence[str] | None = None
) -> TextTable | FrameTable:
    """A path, an open file, ``"-"``, a DataFrame or a dict; with ``names`` also an array.

    Raises:
        TypeError: it is none of these.
    """
    table = _opened(given, reading, names)
    table.na_values = reading.na_values or ()
    return table


def refuse_text_options(owner: str, table: TextTable | FrameTable, given: Reading) -> None:
    """ValueError for an option of text that is given with a table that is none."""
    if isinstance(table, TextTable):
        return
    for name in ("sep", "encoding"):
        if (value := getattr(given, name)) is not None:
            raise ValueError(
                f"{owner}: {name!r} is {value!r}, expected none with {table.name}, which is not "
                "text"
            )


def _opened(given: Any, reading: Reading, names: Sequence[str] | None) -> TextTable | FrameTable:
    if _frames.is_frame(given):
        return FrameTable("the table", "table", _frames.columns_of("the table", given))
    if names is not None and (hasattr(given, "shape") or isinstance(given, (list, tuple))):
        return _of_array(given, names)
    if not isinstance(given, (str, Path)) and not hasattr(given, "read"):
        raise TypeError(
            f"read_table: 'source' is a {type(given).__name__}, expected a path, '-', an open file "
            "or a DataFrame"
        )
    path = Path()
    if isinstance(given, (str, Path)) and str(given) != "-":
        path = expanded(given, "read_table: 'source'")
    ending = path.suffix.lower()
    if ending == ".parquet":
        table = _frames.columns_of(str(path), _frames.frame_of(path))
        return FrameTable(str(path), path.stem, table)
    if ending == ".xlsx":
        return _of_grid(path, reading.header)
    return TextTable(given, reading, names)


def _of_array(given: Any, names: Sequence[str]) -> FrameTable:
    array = np.asarray(given)
    if array.ndim != 2 or array.shape[1] != len(names):
        raise ValueError(
            f"the table has shape {array.shape}, expected (N, {len(names)}): {', '.join(names)}"
        )
    columns = {name: _made(array[:, place]) for place, name in enumerate(names)}
    return FrameTable("the table", "table", columns)


def _made(cells: Any) -> Callable[[bool], Column]:
    return lambda words: _frames.cells_of(cells, words)


def _of_grid(path: Path, header: bool | None) -> FrameTable:
    (first, *rows), below, found = _frames.grid_of(path)
    if header is False:
        names = [str(place) for place in range(1, len(first) + 1)]
        below = [[cell, *cells] for cell, cells in zip(first, below, strict=True)]
    else:
        names = first
        if header is None:
            refuse_data(str(path), names, rows[:50])
    columns: dict[str, Callable[[bool], Column]] = {}
    for place, (name, cells) in enumerate(zip(names, below, strict=True)):
        if not name and place == 0:
            found.append(INDEX)
            continue
        if not name:
            if not _frames.cells_of(cells, True).missing().all():
                _refuse_unnamed(str(path), place)
            continue
        _frames.refuse_twice(str(path), name, names, OR_DATA)
        columns[name] = _made(cells)
    return FrameTable(str(path), path.stem, columns, found, has_line_of_names=True)


def _refuse_unnamed(name: str, place: int, hint: str = "") -> NoReturn:
    raise ValueError(f"{name}: column {place + 1} has no name; name or remove it{hint}")
