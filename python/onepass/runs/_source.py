"""The data of a run: a data set by name, arrays of an NPZ file, or a table."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass._array import to_numpy
from onepass._paths import expanded
from onepass._suggest import suggestion
from onepass.data import Dataset, Encoding, Feature, Table, load, read_table
from onepass.data._given import array_of
from onepass.data._reading import READING, Reading
from onepass.data._sets import BUNDLED, TABLES, is_table, load_arrays
from onepass.data._split import Indices, numbered
from onepass.data._table import read_like
from onepass.data._target import classes_of
from onepass.runs import _labels
from onepass.runs._options import Options

CHOICE = ("drop", "features", "missing", "categorical", "words", "groups")
ENDINGS = (*TABLES, ".npz")
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Source:
    """Targets, and features that can be encoded once the training part is known.

    Attributes:
        name: of the data. y: (N,) class indices or numbers. classes: their names, or None.
        target: the name of the target. notes: sentences for the user.
        called: the data as messages call it, such as a file with its ending.
    """

    name: str
    y: NDArray[Any]
    classes: tuple[str, ...] | None
    target: str
    notes: tuple[str, ...]
    data: Dataset | Table
    called: str

    @classmethod
    def read(cls, options: Options) -> Source:
        """The data of these options.

        Raises:
            ValueError: what cannot be read, with column, row and cell. OSError: no such file.
        """
        if not is_table(options.data):
            given = {name: getattr(options, name) for name in (*READING, *CHOICE)}
            if options.data in BUNDLED or options.data.lower().endswith(".npz"):
                _refuse_reading("train", options.data, given)
            data = load(options.data, options.target, task=options.task)
            return cls(data.name, data.y, data.classes, data.target, (), data, options.data)
        reading = {name: getattr(options, name) for name in READING}
        table = read_table(
            _path(options.data),
            **reading,
            drop=options.drop,
            features=options.features,
            target=options.target,
            task=options.task,
            missing=options.missing,
            categorical=options.categorical or "refuse",
            words=options.words,
            groups=options.groups,
        )
        if table.y is None or table.target is None:
            raise ValueError(f"{options.data}: no target column")
        return cls(
            table.name,
            table.y,
            table.classes,
            table.target,
            table.notes,
            table,
            _called(options.data),
        )

    @cached_property
    def groups(self) -> Indices | None:
        """(N,) the number of each row's group, None where each row is alone."""
        cells = self.data.groups if isinstance(self.data, Table) else None
        return None if cells is None else numbered(cells)[1]

    def encoded(self, rows: Any) -> tuple[Encoding, Floats]:
        """How features become numbers, as fitted on these rows; and the numbers of all rows."""
        if isinstance(self.data, Table):
            table = self.data.fit(rows)
            return table.encoding, table.x
        x = self.data.X.reshape(len(self.data.X), -1)
        names = self.data.feature_names or tuple(f"x{i}" for i in range(x.shape[1]))
        features = tuple(Feature(name, "number") for name in names)
        return Encoding(features, self.target, self.classes), x

    def describe(self) -> str:
        """The data in one line."""
        classes = self.classes
        kind = "regression" if classes is None else f"{len(classes)} classes"
        data = self.data
        size = len(data.columns) if isinstance(data, Table) else math.prod(data.X.shape[1:])
        groups = self.groups
        told = "" if groups is None else f", {groups.max() + 1} groups that stay together"
        return (
            f"{self.name}: {len(self.y)} rows, {size} features, target {self.target!r}, {kind}"
            f"{told}"
        )


def digest_of_groups(groups: Indices | None) -> str | None:
    """Tells groups apart by which rows are in one, whatever they are called."""
    if groups is None:
        return None
    _, first = np.unique(groups, return_index=True)
    return hashlib.sha256(np.ascontiguousarray(first[groups]).tobytes()).hexdigest()[:32]


def digest(classes: tuple[str, ...] | None, X: Floats, y: NDArray[Any]) -> str:
    """Tells the contents of data apart, by encoded inputs, targets and the names of classes."""
    found = hashlib.sha256(json.dumps(classes).encode())
    for array in (X, y):
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:32]


@dataclass(frozen=True)
class Rows:
    """Other rows, encoded as those of the training.

    Attributes:
        name: of the data. x: encoded. y: class indices or numbers, None if there is no target.
        notes: sentences for the user. table: what has been opened, to copy columns from.
        warned: those of the notes that say how a cell was understood: words that training lacked,
            points and commas that only other columns explain.
    """

    name: str
    x: Floats
    y: NDArray[Any] | None
    notes: tuple[str, ...]
    table: Any
    warned: tuple[str, ...] = ()

    def cells(self, name: str) -> list[str]:
        """The cells of a column, as they are in the file.

        Raises:
            ValueError: there is no such column.
        """
        if name not in self.table.names:
            raise ValueError(
                f"predict: '--keep' has {name!r}, expected one of {', '.join(self.table.names)}"
                f"{suggestion(name, self.table.names)}"
            )
        return list(self.table.read([name], [name]).columns[name].text())


def _refuse_reading(op: str, data: str, options: Mapping[str, Any]) -> None:
    """ValueError where an option says how a file is read, and ``data`` is not a table."""
    for name, value in options.items():
        if value not in (None, ()):
            raise ValueError(
                f"{op}: '--{name.replace('_', '-')}' is given, expected it with a table only, and "
                f"{data} is none"
            )


def rows_of(data: Any, encoding: Encoding, /, **reading: Any) -> Rows:
    """Rows to predict, all that there are.

    Args:
        data: a table (a path, a DataFrame, an open file, a dict), an array (N, features) of numbers
            in the order of ``encoding.columns``, a data set by name, or a path of an NPZ file.
        reading: how the file is read, where it differs from that of the training.

    Raises:
        ValueError: a column is missing, or a cell is not what it was in training. TypeError: data
            of another kind.
    """
    if isinstance(data, (str, os.PathLike)):
        if not is_table(data):
            _refuse_reading("predict", os.fspath(data), reading)
            return _of_set(os.fspath(data), encoding)
        data = _path(data)
    elif hasattr(data, "dtype"):
        _refuse_reading("predict", "an array", reading)
        array = to_numpy(array_of("predict", "X", data))
        data = array.reshape(len(array), -1) if array.ndim > 2 else array
    columns, found, table = encoding.read(data, **reading)
    x, notes = encoding.encode(columns)
    notes = (*found.notes_on_signs(), *notes)
    return Rows(table.stem, x, None, (*table.notes, *notes), table, notes)


def rows_with_targets(data: Any, encoding: Encoding, /, **reading: Any) -> Rows:
    """Rows to evaluate; those without a target are left out where the training left them out.

    Raises:
        ValueError: no target, a class that the training did not have, or as ``rows_of``.
    """
    if isinstance(data, (str, os.PathLike)) and not is_table(data):
        _refuse_reading("evaluate", os.fspath(data), reading)
        rows = _of_set(os.fspath(data), encoding)
    elif hasattr(data, "dtype"):
        _refuse_reading("evaluate", "an array", reading)
        rows = rows_of(data, encoding)
    else:
        source = _path(data) if isinstance(data, (str, os.PathLike)) else data
        table, warned = read_like(source, encoding, Reading.checked("read_table", reading))
        name = _called(data) if isinstance(data, (str, os.PathLike)) else table.name
        rows = Rows(name, table.x, table.y, table.notes, None, warned)
    if rows.y is None:
        raise ValueError(
            f"{rows.name}: no column {encoding.target!r}, expected the target to compare with"
        )
    if not len(rows.y):
        raise ValueError(f"{rows.name}: column {encoding.target!r} is empty, expected targets")
    return rows


def _called(path: str | os.PathLike[str]) -> str:
    return "standard input" if os.fspath(path) == "-" else os.fspath(path)


def name_of(data: str) -> str:
    """The name of a run on this data."""
    if data == "-":
        return "stdin"
    name = Path(data).name
    while name.lower().endswith(ENDINGS) and Path(name).stem != name:  # as of .csv
        name = Path(name).stem
    return name


def found_again(before: str, directory: str | None) -> str:
    """The name of a run's data, where it is a file beside the directory that the run began in."""
    path = _path(before)
    if directory is None or before == "-" or path.is_absolute() or path.exists():
        return before
    there = Path(directory) / path
    return str(there) if there.exists() else before


def same_place(before: Any, given: str) -> bool:
    """Whether two names of data mean the same set or the same file."""
    if given in BUNDLED or given == "-" or not isinstance(before, str):
        return bool(before == given)
    return bool(os.path.abspath(_path(before)) == os.path.abspath(_path(given)))


def _path(data: str | os.PathLike[str]) -> Any:
    return data if os.fspath(data) == "-" else expanded(data)


def _of_set(name: str, encoding: Encoding) -> Rows:
    """The rows of a data set, or of a file of arrays, whose targets may be missing there."""
    if name.lower().endswith(".npz"):
        X, values = load_arrays(_path(name), "X", optional=encoding.target or "y")
    else:
        known = load(name)
        X, values = known.X, known.y
        if known.classes is not None:
            values = np.array(known.classes)[known.y]
    rows = rows_of(X, encoding)
    y = None if values is None else targets(values, encoding)
    return dataclasses.replace(rows, name=name, y=y)


def targets(values: NDArray[Any], encoding: Encoding) -> NDArray[Any]:
    """Class indices, or numbers, as the training has them."""
    if encoding.classes is None:
        return _labels.as_numbers(values)
    return classes_of("evaluate", "y", values, encoding.classes)[0]
