"""Tables as people have them: read as what the file says, or refused with column, row and cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass.data._columns import Columns, Floats
from onepass.data._encoding import Encoding


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
    """

    name: str
    y: NDArray[Any] | None
    target: str | None
    classes: tuple[str, ...] | None
    encoding: Encoding
    notes: tuple[str, ...]
    raw: Columns

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
        return "regression" if self.classes is None else "classification"

    def __len__(self) -> int:
        return self.raw.rows

    def fit(self, rows: Any) -> Table:
        """This table with medians and categories of these rows, the training part."""
        old = self.encoding
        new = Encoding.fit(
            self.raw,
            rows,
            target=old.target,
            classes=old.classes,
            reading=old.reading,
            missing=old.missing,
        )
        return replace(self, encoding=new)


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
    like: Encoding | None = None,
) -> Table:
    """Read a table, or refuse it with column, row and cell.

    Args:
        source: a path (``.csv``, ``.tsv``, ``.txt``, each also as ``.gz``; ``.parquet``, ``.xlsx``),
            ``"-"`` for standard input, an open file, or a DataFrame.
        sep: the separator; None finds it among comma, semicolon, tab and bar.
        decimal: ``"."`` or ``","``; None: whichever the file shows.
        header: whether the first line has names; None: it has, and is refused where it looks like
            data. Without a header the columns are called "1", "2", …
        drop: columns to leave out, by name or position (1 is the first, -1 the last).
        features: the columns to use; None: all but the target.
        target: the target's column; None: the last.
        task: ``"classification"`` or ``"regression"``; None: as the target's cells say.
        missing: ``"refuse"`` or ``"impute"`` (the training part's median; a missing word is a word of
            its own). None: "impute" with ``categorical="auto"``, else "refuse".
        categorical: ``"refuse"`` text among the features, or ``"auto"``: one-hot encode text columns
            of few values.
        encoding: of the text; None: UTF-8, or what a byte-order mark says.
        like: the encoding of another table: read the same columns, in whatever order they are here,
            and encode them as there. ``y`` is None if the file has no target.

    Returns:
        A Table.
    """
    import csv
    from pathlib import Path

    from onepass.data._csv import read_columns
    from onepass.data._sets import MAX_INTEGER_CLASSES

    del csv, MAX_INTEGER_CLASSES
    columns = read_columns(source)
    by_name = dict(columns.by_name)
    name = target if isinstance(target, str) else list(by_name)[-1]
    values = by_name.pop(name).values  # type: ignore[union-attr]
    different = np.unique(values)
    classes: tuple[str, ...] | None = None
    y: NDArray[Any] = values
    if len(different) <= 32 and len(different) < len(values) and (different % 1 == 0).all():
        classes = tuple(str(int(v)) for v in different)
        y = np.searchsorted(different, values)
    raw = replace(columns, by_name=by_name)
    fitted = like or Encoding.fit(raw, target=name, classes=classes)
    return Table(Path(str(source)).stem, y, name, classes, fitted, (), raw)
