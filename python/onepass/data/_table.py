"""Reads real-world tables, or refuses them with column, row and cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass import _numbers as numbers
from onepass._suggest import suggestion
from onepass.data._cells import is_missing
from onepass.data._columns import Columns, Floats, Numbers, Words
from onepass.data._decide import decided
from onepass.data._encoding import Encoding, columns_of
from onepass.data._header import refuse_repeated_names
from onepass.data._likeness import check_unit, is_written
from onepass.data._notes import notes_on
from onepass.data._reader import FrameTable, TextTable, open_table, refuse_text_options
from onepass.data._reading import Reading
from onepass.data._signs import Signs
from onepass.data._target import TASKS, target_like, target_of
from onepass.data._text_and_gaps import check_features, left_out_empty, refuse_gaps


@dataclass(frozen=True)
class Table:
    """Features and target of a file.

    Attributes:
        name: the name of the file without its ending.
        y: (N,) class indices (int64) or numbers (float64); None where there is no target.
        target: the name of the target's column.
        classes: the names of the classes in the order of their indices; None for regression.
        encoding: how the columns become x; fitted on all rows until :meth:`fit` is called.
        notes: messages of one line each on what was left out, encoded or worth a look.
        raw: the features' columns as read.
        groups: (N,) text, the cells of the column that ``groups`` named; None without one.

    Example:
        >>> import io
        >>> from onepass.data import read_table
        >>> table = read_table(io.StringIO("size,price\\n1,2.5\\n2,3.5\\n3,4.5\\n"))
        >>> table
        Table('the table', x (3, 1), target 'price', regression)
    """

    name: str
    y: NDArray[Any] | None
    target: str | None
    classes: tuple[str, ...] | None
    encoding: Encoding
    notes: tuple[str, ...]
    raw: Columns
    groups: NDArray[Any] | None = None

    @cached_property
    def x(self) -> Floats:
        """(N, features) float64, encoded."""
        return self.encoding.encode(self.raw)[0]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the features' columns in the file."""
        return self.encoding.columns

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The names of the columns of x, such as ``size`` or ``city=Oslo``."""
        return self.encoding.feature_names

    @property
    def task(self) -> str:
        """``"classification"`` or ``"regression"``."""
        return TASKS[self.classes is None]

    def __len__(self) -> int:
        return self.raw.rows

    def __repr__(self) -> str:
        what = f"{len(self.classes)} classes" if self.classes else "regression"
        return f"Table({self.name!r}, x {self.x.shape}, target {self.target!r}, {what})"

    def fit(self, rows: Any) -> Table:
        """This table encoded by the medians and categories of these rows, the training part."""
        return replace(self, encoding=self.encoding.fit(self.raw, rows))


def read_table(
    source: Any,
    *,
    sep: str | None = None,
    decimal: str | None = None,
    header: bool | None = None,
    drop: Sequence[str | int] = (),
    features: Sequence[str | int] | None = None,
    target: str | int | None = None,
    task: str | None = None,
    missing: str | None = None,
    categorical: str = "refuse",
    encoding: str | None = None,
    na_values: Sequence[str | float] | None = None,
    words: Sequence[str | int] = (),
    groups: str | int | None = None,
    like: Encoding | None = None,
) -> Table:
    """Read a table, or refuse it with column, row and cell.

    Numbers may be written in any one way a column: ``1,200.50``, ``1.200,50``, ``1 200``, ``$5``,
    ``5 EUR``, ``12%`` (which is 0.12), ``5 kg``, with a minus of Unicode. Where a column can be
    read in two ways (``1.200``), the rest of the file decides, or the cell is refused. ``True`` and
    ``False`` are 1 and 0. Whole numbers of which one has a leading zero are codes: text. Missing
    are empty cells, ``NA``, ``NaN``, ``#N/A``, ``-``, ``?`` and the like.

    The target is classes if its cells are text, codes with leading zeros, or whole numbers of
    which at most 32 differ and one comes twice; their names are the text of the cells. In a target
    of text only an empty cell is missing. One odd cell among numbers is an error, never a class.

    A first column without a name is an index and is left out, and so are columns without a cell.

    Args:
        source: a path (text with any ending, also packed as ``.gz``; ``.parquet``, ``.xlsx``),
            ``"-"`` for standard input, an open file, a DataFrame or a dict of columns.
        sep: the separator, one character; None finds it among comma, semicolon, tab and bar.
        decimal: ``"."`` or ``","``; None: the one that the file shows.
        header: whether the first line has names; None: it has, and is refused where it looks like
            data. Without a header the columns are called "1", "2", …
        drop: columns to leave out, by name or position (1 is the first, -1 the last).
        features: the columns to use; None: all but the target.
        target: the target's column, by name or position; None: the last.
        task: ``"classification"`` or ``"regression"``; None: as the target's cells say.
        missing: ``"refuse"``, or ``"impute"``: the median of the training part for a missing
            number, a word of its own for a missing word; rows without a target are left out. None:
            "impute" with ``categorical="auto"``, else "refuse".
        categorical: ``"refuse"`` text among the features, or ``"auto"``: one-hot encode text
            columns of at most 50 words, each of which comes twice on average.
        encoding: of the text; None: UTF-8, or what a byte-order mark says.
        na_values: words and numbers that mean a missing cell here, beside the usual ones:
            ``["unknown", -9999]``.
        words: columns whose cells are words whatever they look like, as 32GB beside 1TB, 2:10 or 3g
            do: features are one-hot encoded, a target has classes.
        groups: a column of what rows belong together by, such as a patient: no feature; its cells
            are ``Table.groups``, which `fold_indices` takes.
        like: the encoding of another table: read the same columns, in whatever order they are here,
            and encode them as there; only ``sep``, ``decimal``, ``header``, ``encoding`` and
            ``na_values`` may be given beside it. ``y`` is None if the file has no target.

    Returns:
        A :class:`Table`. Its ``encoding`` is fitted on all rows; ``table.fit(train)`` fits it on
        the rows of the training part.

    Raises:
        ValueError: a cell, line or option that cannot be right, with its place and the cure.
        FileNotFoundError: no such file. ImportError: what a package is needed for.

    Example:
        >>> import io
        >>> from onepass.data import read_table
        >>> file = io.StringIO("size;rate;price\\n1,5;10%;7\\n2,5;12%;9,25\\n")
        >>> table = read_table(file)
        >>> table.x.tolist(), table.y.tolist()
        ([[1.5, 0.1], [2.5, 0.12]], [7.0, 9.25])
    """
    given = {"sep": sep, "decimal": decimal, "header": header, "encoding": encoding}
    reading = Reading.checked("read_table", {**given, "na_values": na_values})
    if like is not None:
        own = {"target": target, "task": task, "missing": missing, "features": features}
        own |= {"drop": drop or None, "words": words or None, "groups": groups}
        _refuse_beside_like(
            {**own, "categorical": None if categorical == "refuse" else categorical}
        )
        return read_like(source, like, reading)[0]
    if task is not None:
        numbers.one_of("read_table", "task", task, TASKS)
    numbers.one_of("read_table", "categorical", categorical, ("refuse", "auto"))
    if missing is None:
        missing = "impute" if categorical == "auto" else "refuse"
    numbers.one_of("read_table", "missing", missing, ("refuse", "impute"))
    table = open_table(source, reading)
    refuse_text_options("read_table", table, reading)
    group = None if groups is None else _named(table, "groups", groups)
    used, called = _chosen(table, drop, features, target, group)
    told = {_named(table, "words", which) for which in _listed("words", words)}
    if odd := sorted(told - {*used, called}):
        raise ValueError(f"read_table: 'words' has {odd[0]!r}, expected columns that are used")
    if called in told:
        if task == "regression":
            raise ValueError(
                f"read_table: 'words' has the target {called!r}, expected none with "
                "task='regression'"
            )
        task = "classification"
    together = None if group is None else _words(table, group)
    found = decided(
        table,
        used,
        called,
        words=told - {called},
        labels=task == "classification",
        named=called in told,
        signs=Signs(decimal),
    )
    assert found.target is not None
    aim = target_of(found.target, task, found.signs, called in told)
    refuse_repeated_names(table, found, header)
    notes = left_out_empty(table, found, features)
    columns = columns_of(table, found)
    check_features(columns, categorical, told)
    if missing == "refuse":
        refuse_gaps(table, columns, {called: aim.gaps})
    if aim.gaps.any():
        columns = columns.at(~aim.gaps)
    y = aim.y[~aim.gaps]
    if together is not None:
        together = _whole(table, str(group), together, ~aim.gaps)
    how = asdict(reading)
    shown = found.signs.shown
    signs = found.signs.all
    bare = Encoding((), called, aim.classes, how, missing, shown, aim.unit, signs)
    counts = None if aim.classes is None else _counts(y, aim.classes)
    notes += found.notes_on_signs(aim.classes or ())
    if task is None and aim.classes and len(aim.classes) > 2 and found.target_is_numbers:
        notes += (
            f"the {len(aim.classes)} whole numbers of {called!r} are classes; as amounts, pass "
            "task='regression' (--task regression)",
        )
    notes = (
        *notes,
        *notes_on(table, columns, aim.gaps, called, counts, y if counts is None else None),
    )
    return Table(table.stem, y, called, aim.classes, bare.fit(columns), notes, columns,
                 together)  # fmt: skip


def _words(table: TextTable | FrameTable, name: str) -> NDArray[Any]:
    """The cells of a column, as they are in the file."""
    column = table.read([name], [name]).columns[name]
    assert isinstance(column, Words)
    return column.text()


def _whole(
    table: TextTable | FrameTable, name: str, cells: NDArray[Any], keep: NDArray[np.bool_]
) -> NDArray[Any]:
    """Those of the rows that are kept, none of which may be missing."""
    words, codes = np.unique(cells.astype(str), return_inverse=True)
    gaps = {str(value) for value in table.na_values or ()}
    gone = np.array([is_missing(word) or word in gaps for word in words.tolist()], bool)
    lacking = np.flatnonzero(gone[codes] & keep)
    if len(lacking):
        cell = str(cells[lacking[0]])
        shown = f"{cell!r}, a missing value" if cell else "empty"
        raise ValueError(
            f"{table.name}: column {name!r}, row {lacking[0] + 1}: the cell is {shown}, expected "
            "the group of each row; give a row that is alone a group of its own"
        )
    return cells[keep].astype(str)


def read_like(source: Any, like: Encoding, reading: Reading) -> tuple[Table, tuple[str, ...]]:
    """A table as another was read, and those of its notes that say how a cell was understood."""
    columns, found, table = like.read(source, with_target=True, **vars(reading))
    y = None
    if found.target is not None:
        aim = target_like(found.target, like.classes, found.signs)
        if like.classes is None and is_written(table, found.raw.columns[like.target or ""]):
            where = f"{table.name}: column {like.target!r}"
            check_unit(where, like.unit, Numbers(aim.y, aim.unit))
        if like.missing == "refuse":
            refuse_gaps(table, columns, {like.target or "": aim.gaps}, trained=True)
        columns = columns.at(~aim.gaps) if aim.gaps.any() else columns
        y = aim.y[~aim.gaps]
    told = (*found.notes_on_signs(like.classes or ()), *like.encode(columns)[1])
    notes = (*table.notes, *told)
    return Table(table.stem, y, like.target, like.classes, like, notes, columns), told


def _refuse_beside_like(options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        if value is not None:
            raise ValueError(
                f"read_table: {name!r} is {value!r}, expected None beside 'like', which sets it"
            )


def _counts(y: NDArray[Any], classes: Sequence[str]) -> dict[str, int]:
    """The samples of each class."""
    return dict(zip(classes, np.bincount(y, minlength=len(classes)).tolist(), strict=True))


def _chosen(
    table: TextTable | FrameTable,
    drop: Sequence[str | int],
    features: Sequence[str | int] | None,
    target: str | int | None,
    group: str | None,
) -> tuple[list[str], str]:
    """The names of the features and of the target; the column of the groups is neither."""
    dropped = {_named(table, "drop", which) for which in _listed("drop", drop)}
    if target is not None:
        called = _named(table, "target", target)
    else:
        called = table.names[-1]
        if called == group:
            raise ValueError(
                f"read_table: 'groups' has {called!r}, the last column, which is the target where "
                "no other is named; pass target= (--target)"
            )
        if called in dropped:
            raise ValueError(
                f"read_table: 'drop' has {called!r}, the last column, which is the target where no "
                "other is named; pass target= (--target)"
            )
    if called in dropped:
        raise ValueError(f"read_table: 'drop' has {called!r}, the target, expected other columns")
    if called == group:
        raise ValueError(f"read_table: 'groups' has {called!r}, the target, expected another one")
    if group is not None and features is None:
        dropped.add(group)
    if features is None:
        used = [name for name in table.names if name not in dropped and name != called]
    else:
        chosen = {_named(table, "features", which) for which in _listed("features", features)}
        if called in chosen or chosen & dropped:
            odd = called if called in chosen else sorted(chosen & dropped)[0]
            what = "the target" if odd == called else "which 'drop' has too"
            raise ValueError(f"read_table: 'features' has {odd!r}, {what}, expected other columns")
        if group in chosen:
            raise ValueError(
                f"read_table: 'features' has {group!r}, which 'groups' has too, expected other "
                "columns"
            )
        used = [name for name in table.names if name in chosen]
    if not used:
        if isinstance(table, TextTable) and table.unnamed:
            table.refuse_unnamed(min(table.unnamed))
        only = f"one column, {called!r}"
        if len(table.names) > 1:
            only = f"no feature beside {called!r}"
        cure = "if the cells are parted by another sign, pass sep= (--sep)"
        if len(table.names) == 1 and any(sign in str(called) for sign in ",;\t|"):
            cure = "if lines are quoted as a whole, take those quotes away; else pass sep= (--sep)"
        raise ValueError(f"{table.name}: {only}, expected features and a target; {cure}")
    return used, called


def _listed(option: str, given: Any) -> list[str | int]:
    if isinstance(given, (str, int)) or not hasattr(given, "__iter__"):
        raise TypeError(
            f"read_table: {option!r} is {given!r}, expected a list of names or positions"
        )
    return list(given)


def _named(table: TextTable | FrameTable, option: str, which: str | int) -> str:
    """The name of a column that is given by name or position."""
    count = len(table.names)
    if isinstance(which, str):
        if which in table.names:
            return which
        raise ValueError(
            f"{table.name}: no column {which!r}, expected one of {', '.join(table.names)}"
            f"{suggestion(which, table.names)}"
        )
    place = numbers.integer("read_table", option, which, -count, count + 1)
    if place == 0:
        raise ValueError(
            f"read_table: {option!r} is 0, expected a position from 1 (the first) or -1 (the last)"
        )
    return table.names[place - 1 if place > 0 else place]
