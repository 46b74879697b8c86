"""From the columns of a table to numbers, as fitted on the training part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from onepass.data._columns import Columns, Floats, Numbers, Words
from onepass.data._csv import read_columns

FORMAT = 1


@dataclass(frozen=True)
class Feature:
    """A column of the file: what it holds, and what fills or encodes it.

    Attributes:
        kind: ``"number"`` or ``"category"``.
        unit: the sign that the numbers carry in the file, such as ``%``; "" for none.
        fill: the number for a missing cell; None where a missing cell is an error.
        categories: the words that have a column of their own in x; "" is a missing cell.
    """

    name: str
    kind: str
    unit: str = ""
    fill: float | None = None
    categories: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its columns in x."""
        if self.kind == "number":
            return (self.name,)
        return tuple(f"{self.name}={word or '(missing)'}" for word in self.categories)


@dataclass(frozen=True)
class Encoding:
    """How the columns of a table become the columns of x; JSON stores it beside a model.

    A number stays one column. A text column becomes one column of 0 and 1 for each word of the
    training part (one-hot, in the order of the words); a word that the training part lacks has 0 in
    all of them. A missing number becomes the median of the training part, a missing word is a word
    of its own, if the table was read with ``missing="impute"``; else a missing cell is an error.

    Attributes:
        features: the columns of the file that x is made of, in the order of x.
        target: the name of the target's column.
        classes: the names of the classes in the order of their indices; None for regression.
        reading: how the file was read (``sep``, ``decimal``, ``header``, ``encoding``); another
            file is read in the same way.
    """

    features: tuple[Feature, ...]
    target: str | None = None
    classes: tuple[str, ...] | None = None
    reading: Mapping[str, Any] = field(default_factory=dict)
    missing: str = "refuse"

    @staticmethod
    def fit(
        columns: Columns,
        rows: Any = None,
        *,
        target: str | None = None,
        classes: tuple[str, ...] | None = None,
        reading: Mapping[str, Any] | None = None,
        missing: str = "refuse",
    ) -> Encoding:
        """Medians and categories of these rows (all if None) of the columns, all of them features.

        Raises:
            ValueError: a column has no number in these rows.
            ImportError: scikit-learn is not installed and there are words or gaps.
        """
        features = []
        for name, column in columns.by_name.items():
            part = column if rows is None else column.at(rows)
            if isinstance(part, Numbers):
                fill = _median(columns.source, name, part) if missing == "impute" else None
                features.append(Feature(name, "number", part.unit, fill))
            else:
                features.append(Feature(name, "category", categories=_categories(part)))
        return Encoding(tuple(features), target, classes, dict(reading or {}), missing)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that a file must have, in the order of x."""
        return tuple(feature.name for feature in self.features)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The names of the columns of x, such as ``size`` or ``city=Oslo``."""
        return tuple(name for feature in self.features for name in feature.names)

    def apply(self, source: Any, **reading: Any) -> Floats:
        """x of another table, which may have its columns in any order, and further ones."""
        columns = read_columns(source, **{**self.reading, **reading})
        return self.encode(columns)[0]

    def encode(self, columns: Columns) -> tuple[Floats, tuple[str, ...]]:
        """x of columns that are read, and notes on what it met."""
        parts = [self._part(columns, feature) for feature in self.features]
        return np.concatenate(parts, axis=1), ()

    def _part(self, columns: Columns, feature: Feature) -> Floats:
        column = columns.column(feature.name)
        if isinstance(column, Numbers):
            return column.values[:, None]
        return (column.text()[:, None] == np.array(feature.categories, object)).astype(np.float64)

    def to_dict(self) -> dict[str, Any]:
        """The encoding in words, numbers, lists and dicts, as JSON has them."""
        return {"format": FORMAT, **asdict(self)}

    @staticmethod
    def from_dict(stored: Mapping[str, Any]) -> Encoding:
        """The encoding that ``to_dict`` gave, also through JSON."""
        features = tuple(
            Feature(**{**feature, "categories": tuple(feature["categories"])})
            for feature in stored["features"]
        )
        classes = stored["classes"]
        return Encoding(
            features,
            stored["target"],
            None if classes is None else tuple(classes),
            dict(stored["reading"]),
            stored["missing"],
        )


def _median(source: str, name: str, column: Numbers) -> float:
    return float(np.nanmedian(column.values))


def _categories(column: Words) -> tuple[str, ...]:
    return tuple(sorted({column.words[code] for code in np.unique(column.codes)}))
