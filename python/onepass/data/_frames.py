"""Tables that are not text: DataFrames, arrays, Parquet and Excel files, which pandas reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass.data._cells import EXACT, figures, is_missing, is_plain, shown
from onepass.data._columns import TRUTH_UNIT, Column, Numbers, Words
from onepass.data._edges import filled, refuse_last, titles

ENDINGS = {".parquet": "pyarrow", ".xlsx": "openpyxl"}  # and what pandas needs for each


def is_frame(source: Any) -> bool:
    """Whether ``source`` holds columns by name: a DataFrame, or a dict of lists."""
    return isinstance(source, Mapping) or (
        hasattr(source, "columns") and hasattr(source, "__getitem__")
    )


def columns_of(owner: str, source: Any) -> dict[str, Callable[[bool], Column]]:
    """The columns of a DataFrame or dict by name; each is made when called, as words if True."""
    names = list(source) if isinstance(source, Mapping) else list(source.columns)
    called = [str(name) for name in names]
    for name in called:
        refuse_twice(owner, name, called)

    def column(name: Any) -> Callable[[bool], Column]:
        return lambda words: cells_of(source[name], words)

    return {str(name): column(name) for name in names}


def refuse_twice(owner: str, name: str, names: Sequence[str], cure: str = "") -> None:
    """Refuses a name that several of the columns have; ``cure`` is another one."""
    if names.count(name) > 1:
        raise ValueError(f"{owner}: two columns are called {name!r}; rename one of them{cure}")


def grid_of(path: Path) -> tuple[list[list[str]], list[Sequence[Any]], list[str]]:
    """Its rows as words and as columns of cells, and notes, of an Excel file.

    Titles above the header line, and rows of empty cells around the table, are left out.
    """
    pandas = _pandas(path)
    try:
        with pandas.ExcelFile(path) as book:
            sheets = book.sheet_names
            grid = pandas.read_excel(book, header=None, dtype=object, keep_default_na=False)
    except ImportError as error:
        raise _needs(path, error) from error
    except Exception as error:  # whatever a damaged archive raises
        raise ValueError(f"{path}: cannot be read as an Excel file: {error}") from error
    notes = [f"read the first of {len(sheets)} sheets, {sheets[0]!r}"] * (len(sheets) > 1)
    cells = grid.to_numpy(dtype=object)
    words = [[_word(cell) for cell in row] for row in cells]
    begin, end = 0, len(words)
    while begin < end and not any(words[begin]):
        begin += 1
    while begin < end and not any(words[end - 1]):
        end -= 1
    head = [(place, row) for place, row in enumerate(words[begin:end], begin) if any(row)]
    if above := titles([row for _, row in head]):
        notes.append(f"left out the lines above the header line: {shown(filled(head[0][1])[0])}")
        begin = head[above][0]
    if end - begin < 2:
        raise ValueError(f"{path}: expected a line with column names and at least one row")
    refuse_last(f"{path}: line {end}", words[end - 1], words[begin + 1 : end - 1])
    return words[begin:end], list(cells[begin + 1 : end].T), notes


def frame_of(path: Path) -> Any:
    """The DataFrame in a Parquet file."""
    pandas = _pandas(path)
    try:
        return pandas.read_parquet(path)
    except ImportError as error:
        raise _needs(path, error) from error
    except Exception as error:
        raise ValueError(f"{path}: cannot be read as a Parquet file: {error}") from error


def _pandas(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        import pandas
    except ImportError as error:
        raise _needs(path, error) from error
    return pandas


def _needs(path: Path, error: ImportError) -> ImportError:
    package = ENDINGS[path.suffix.lower()]
    why = str(error).split("\n")[0].split(". ")[0]  # pandas goes on for six hundred characters
    return ImportError(
        f"{path} needs pandas and {package}: pip install 'onepass[demo]' {package} ({why})"
    )


def cells_of(values: Any, words: bool) -> Column:
    """A column of any values: numbers if they all are numbers, else the words that name them."""
    array = np.asarray(values.to_numpy() if hasattr(values, "to_numpy") else values)
    if array.ndim != 1:
        raise ValueError(f"the table: a column has shape {array.shape}, expected (N,)")
    if array.dtype.kind == "U" and not hasattr(values, "dtype"):
        array = np.array(list(values), object)  # NumPy made text of the numbers in a list
    if array.dtype.kind in "biuf" and not words:
        return Numbers(array.astype(np.float64), TRUTH_UNIT if array.dtype.kind == "b" else "")
    numeric, write = array.dtype.kind in "iuf", _word
    if array.dtype.kind == "O":
        cells = array.tolist()
        numbers = _typed(cells)
        if numbers is not None and not words:
            return Numbers(numbers)
        numeric = numbers is not None
        if not numeric and _has_text_numbers(cells):
            write = _without_point
    index: dict[str, int] = {}
    codes = np.empty(len(array), np.int32)
    if array.dtype.kind in "mM":
        array = array.astype(str)  # not the count of an unnamed unit
    for row, value in enumerate(array.tolist()):
        codes[row] = index.setdefault(write(value), len(index))
    return Words(codes, tuple(index), numeric)


def _is_typed(cell: Any) -> bool:
    """Whether the cell is a number, and none in writing."""
    return isinstance(cell, (int, float, np.number, Decimal)) and not isinstance(cell, bool)


def _typed(cells: Sequence[Any]) -> NDArray[np.float64] | None:
    """The cells as numbers, NaN for gaps; None where some are written, or all are gaps."""
    found = np.full(len(cells), np.nan)
    some = False
    for row, cell in enumerate(cells):
        if _is_typed(cell):
            try:
                found[row] = cell
            except OverflowError:
                return None
            some = True
        elif not is_missing(_word(cell)):
            return None
    return found if some else None


def _has_text_numbers(cells: Sequence[Any]) -> bool:
    """Whether some cells are numbers, and the others are numbers in writing."""
    text = {word for cell in cells if not _is_typed(cell) and not is_missing(word := _word(cell))}
    return any(map(_is_typed, cells)) and bool(figures(list(text)).readings)


def _without_point(value: Any) -> str:
    """A number without a decimal sign, 15e-1: Python's point says nothing of those in writing."""
    word = _word(value)
    if not _is_typed(value) or not is_plain(word):
        return word
    sign, digits, exponent = Decimal(word).as_tuple()
    whole = "-" * sign + "".join(map(str, digits))
    return whole + (f"e{exponent}" if exponent else "")


def _word(value: Any) -> str:
    """The cell as a file would have it."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return ""
    if isinstance(value, float) and value != value:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < EXACT:
        return str(int(value))  # a column of whole numbers with a gap is one of floats
    return str(value).strip()
