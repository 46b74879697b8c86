"""Encodes the columns of a table as numbers, fitted on the training part."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from onepass._suggest import suggestion
from onepass.data._columns import Columns, Floats, Numbers, Words
from onepass.data._cures import names_of
from onepass.data._decide import Decided, decided
from onepass.data._feature import Feature
from onepass.data._likeness import (
    check_column,
    cure_of_utf8,
    cure_of_zeros,
    refuse_lost_zeros,
    renamed,
)
from onepass.data._reader import FrameTable, TextTable, open_table, refuse_text_options
from onepass.data._reading import Reading
from onepass.data._signs import Signs
from onepass.data._text_and_gaps import refuse_gaps
from onepass.data._transformers import categories_of, encoder, imputed, median

FORMAT = 1
RARE = 1e-3  # by chance, that every cell of a column is missing


@dataclass(frozen=True)
class Encoding:
    """How the columns of a table become the columns of x; JSON stores it beside a model.

    A number stays one column. A text column becomes one column of 0 and 1 for each word of the
    training part (one-hot, in the order of the words); a word that the training part lacks has 0 in
    all of them. If the table was read with ``missing="impute"``, a missing number becomes the
    median of the training part and a missing word counts as a word; else a missing cell is an
    error. scikit-learn's SimpleImputer and OneHotEncoder do it.

    Attributes:
        features: the columns of the file that x is made of, in the order of x.
        target: the name of the target's column.
        classes: the names of the classes in the order of their indices; None for regression.
        reading: how the file was read (``sep``, ``decimal``, ``header``, ``encoding``,
            ``na_values``); another file is read in the same way.
        missing: ``"refuse"`` or ``"impute"``, as in `read_table`.
        signs: the decimal sign of each column of the file that shows one: 1.200 is read in the same
            column of another file as it would have been in the first.
        shown: the one decimal sign of the file, for other columns where a file does not show it.
        unit: that of a regression's target, such as ``%``.

    Example:
        >>> import io, json
        >>> from onepass.data import Encoding, read_table
        >>> rows = "size,town,price\\n1,Oslo,2.5\\n2,Rome,3.5\\n3,Oslo,4.5\\n4,Rome,5\\n"
        >>> encoding = read_table(io.StringIO(rows), categorical="auto").encoding
        >>> encoding.feature_names
        ('size', 'town=Oslo', 'town=Rome')
        >>> stored = json.dumps(encoding.to_dict())
        >>> same = Encoding.from_dict(json.loads(stored))
        >>> same.apply({"town": ["Rome", "Oslo"], "size": [7, 8]}).tolist()
        [[7.0, 0.0, 1.0], [8.0, 1.0, 0.0]]
    """

    features: tuple[Feature, ...]
    target: str | None = None
    classes: tuple[str, ...] | None = None
    reading: Mapping[str, Any] = field(default_factory=dict)
    missing: str = "refuse"
    shown: str | None = None
    unit: str = ""
    signs: Mapping[str, str] = field(default_factory=dict)

    def fit(self, columns: Columns, rows: Any = None) -> Encoding:
        """The encoding with medians and categories of these rows (all if None) of the columns.

        Args:
            columns: the columns of a table, such as ``table.raw``.
            rows: indices, or a mask, of the training part.

        Raises:
            ValueError: a column has no number in these rows.
            ImportError: scikit-learn is not installed and there are words or gaps.
        """
        features = []
        for name, column in columns.by_name.items():
            part = column if rows is None else column.at(rows)
            if isinstance(part, Words):
                features.append(Feature(name, "category", categories=categories_of(part)))
                continue
            fill = median(columns.source, name, part) if self.missing == "impute" else None
            gaps = float(np.mean(part.missing()))
            features.append(Feature(name, "number", part.unit, fill, gaps))
        return Encoding(**{**vars(self), "features": tuple(features)})

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that a file must have, in the order of x."""
        return tuple(feature.name for feature in self.features)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The names of the columns of x, such as ``size`` or ``city=Oslo``."""
        return tuple(name for feature in self.features for name in feature.names)

    def apply(self, source: Any, **reading: Any) -> Floats:
        """x of another table: its columns in any order, and any others beside them.

        Args:
            source: what ``read_table`` takes, a dict of columns, or an array whose columns are
                ``self.columns``.
            reading: ``sep``, ``decimal``, ``header``, ``encoding`` or ``na_values``, where the
                file differs from the first.

        Raises:
            ValueError: a column is missing, holds something else than in training, or has a missing
                cell that training did not have either.

        Warns of points and commas that only other columns explain, of words that training lacked,
        and of columns without a number (RuntimeWarning).
        """
        columns, found, _ = self.read(source, **reading)
        x, notes = self.encode(columns)
        for text in (*found.notes_on_signs(), *notes):
            warnings.warn(text, RuntimeWarning, stacklevel=2)
        return x

    def read(
        self, source: Any, *, with_target: bool = False, **reading: Any
    ) -> tuple[Columns, Decided, TextTable | FrameTable]:
        """The columns of another table, decided as those of the first."""
        given = Reading.checked("read_table", reading)
        table = open_table(source, how := given.after(self.reading), self.columns)
        refuse_text_options("read_table", table, given)
        if isinstance(table, TextTable):
            table.text.keeps_blank = not with_target  # each row gets a prediction
        absent = [name for name in self.columns if name not in table.names]
        if absent:
            hint = ""
            if how.header is False:
                hint = "; without a header line, columns are called by their places"
            hint += suggestion(absent[0], [n for n in table.names if n not in self.columns])
            hint += cure_of_utf8(how.encoding, table.names)
            raise ValueError(
                f"{table.name}: no column {', '.join(map(repr, absent))}, which the model was "
                f"trained on; the table has {', '.join(table.names)}{hint}"
            )
        words = [feature.name for feature in self.features if feature.kind == "category"]
        target = self.target if with_target and self.target in table.names else None
        found = decided(
            table,
            self.columns,
            target,
            words=words,
            labels=self.classes is not None,
            signs=Signs(how.decimal, trained=self.signs, before=self.shown),
            trained=True,
        )
        for feature in self.features:
            column = found.features[feature.name]
            check_column(table, feature, column, found.raw.columns[feature.name])
            if isinstance(column, Words) and column.numeric:
                where = f"{table.name}: column {feature.name!r}"
                refuse_lost_zeros(where, column, feature.categories)
                found.features[feature.name] = renamed(column, feature.categories)
        columns = columns_of(table, found)
        if self.missing == "refuse":
            refuse_gaps(table, columns, {}, trained=True)
        return columns, found, table

    def encode(self, columns: Columns) -> tuple[Floats, tuple[str, ...]]:
        """x of columns that have been read, and notes on words that training lacked."""
        numbers = [f.name for f in self.features if f.kind == "number"]
        if len(numbers) == len(self.features) and columns.matrix is not None:
            values = columns.matrix
        else:
            values = np.empty((columns.rows, len(numbers)))
            for place, name in enumerate(numbers):
                column = columns.column(name)
                assert isinstance(column, Numbers)
                values[:, place] = column.values
        notes: tuple[str, ...] = ()
        if self.missing == "impute" and np.isnan(values).any():
            empty = self._emptied(values)
            if empty:
                filled = "the training part's median is in each row"
                notes = (f"no numbers in {names_of(empty)}: {filled}",)
            values = imputed(values, [f.fill for f in self.features if f.kind == "number"])
        if len(numbers) == len(self.features):
            return values, notes
        coded, more = self._coded(columns)
        parts = []
        for feature in self.features:
            if feature.kind == "number":
                parts.append(values[:, numbers.index(feature.name), None])
            else:
                parts.append(coded[feature.name])
        return np.concatenate(parts, axis=1), (*notes, *more)

    def _emptied(self, values: Floats) -> list[str]:
        """The columns of numbers without one, where chance would hardly leave all cells out."""
        numbers = [feature for feature in self.features if feature.kind == "number"]
        rows, empty_in = len(values), np.isnan(values).sum(axis=0).tolist()
        return [
            feature.name
            for feature, count in zip(numbers, empty_in, strict=True)
            if count == rows and feature.gaps**rows < RARE
        ]

    def _coded(self, columns: Columns) -> tuple[dict[str, Floats], tuple[str, ...]]:
        """The one-hot columns of each text column."""
        features = [f for f in self.features if f.kind == "category"]
        found = [columns.column(feature.name) for feature in features]
        words = np.empty((columns.rows, len(features)), object)
        notes = []
        for place, (feature, column) in enumerate(zip(features, found, strict=True)):
            assert isinstance(column, Words)
            words[:, place] = column.text()
            unseen = ~np.isin(column.words, feature.categories)[column.codes]
            if unseen.any():
                row = int(np.flatnonzero(unseen)[0])
                count = int(np.count_nonzero(unseen))
                rows = "1 row holds" if count == 1 else f"{count} rows hold"
                notes.append(
                    f"column {feature.name!r}: {rows} words that "
                    f"training lacked, such as {words[row, place]!r}; all its columns are 0 there"
                    f"{cure_of_utf8(self.reading.get('encoding'), [words[row, place]])}"
                    f"{cure_of_zeros(column, feature.categories)}"
                )
        one_hot = encoder([list(feature.categories) for feature in features])
        coded = one_hot.transform(words)
        ends = np.cumsum([len(feature.categories) for feature in features])[:-1]
        parts = np.split(coded, ends, axis=1)
        return {f.name: part for f, part in zip(features, parts, strict=True)}, tuple(notes)

    def to_dict(self) -> dict[str, Any]:
        """The encoding in words, numbers, lists and dicts, as JSON has them."""
        return {"format": FORMAT, **asdict(self)}

    @staticmethod
    def from_dict(stored: Mapping[str, Any]) -> Encoding:
        """The encoding that ``to_dict`` gave, also through JSON.

        Raises:
            ValueError: it was stored in a form that this version does not know.
        """
        if stored.get("format") != FORMAT:
            raise ValueError(
                f"Encoding: the stored 'format' is {stored.get('format')!r}, expected {FORMAT}"
            )
        kept = {name: value for name, value in stored.items() if name != "format"}
        kept["features"] = tuple(
            Feature(**{**feature, "categories": tuple(feature["categories"])})
            for feature in stored["features"]
        )
        if stored["classes"] is not None:
            kept["classes"] = tuple(stored["classes"])
        return Encoding(**kept)


def columns_of(table: TextTable | FrameTable, found: Decided) -> Columns:
    """The features, with the matrix that they were read into if they are the whole of it."""
    features, raw = found.features, found.raw
    all_read = raw.matrix is not None and set(raw.columns) <= {*features, found.aim}
    whole = all_read and all(
        isinstance(column, Numbers) and column is raw.columns[name]
        for name, column in features.items()
    )
    in_order = [name for name in table.names if name in features] == list(features)
    matrix = (
        raw.matrix[:, : len(features)] if whole and in_order and raw.matrix is not None else None
    )
    return Columns(table.name, features, raw.rows, matrix)
