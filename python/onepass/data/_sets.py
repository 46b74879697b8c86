"""Data sets by name (scikit-learn's bundled ones), or from a table or an NPZ file."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass import _numbers as numbers
from onepass._paths import expanded
from onepass._suggest import suggestion
from onepass.data._table import read_table
from onepass.data._target import TASKS, classes_of

BUNDLED = ("breast_cancer", "diabetes", "digits", "iris", "wine")
TABLES = (".csv", ".tsv", ".txt", ".gz", ".parquet", ".xlsx")


@dataclass(frozen=True)
class Dataset:
    """Features, targets and their names; unpacks as ``X, y = load(…)``.

    Attributes:
        name: the name of the set, or of the file without its ending.
        X: float64 features, samples along axis 0.
        y: (N,) class indices (int64) or numbers (float64).
        feature_names: one for each column of a two-dimensional X.
        classes: the names of the classes in the order of their indices; None for regression.
        target: the name of the target.

    Example:
        >>> import numpy as np
        >>> from onepass.data import Dataset
        >>> X, y = Dataset("two", np.eye(2), np.array([0, 1]), ("a", "b"), ("no", "yes"), "kind")
        >>> X.shape, y.tolist()
        ((2, 2), [0, 1])
    """

    name: str
    X: NDArray[np.float64]
    y: NDArray[Any]
    feature_names: tuple[str, ...]
    classes: tuple[str, ...] | None
    target: str

    @property
    def task(self) -> str:
        """``"classification"`` or ``"regression"``."""
        return TASKS[self.classes is None]

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """X, then y."""
        return iter((self.X, self.y))

    def __repr__(self) -> str:
        what = f"{len(self.classes)} classes" if self.classes else "regression"
        return f"Dataset({self.name!r}, X {self.X.shape}, target {self.target!r}, {what})"


def load(
    name_or_path: str | Path,
    target: str | None = None,
    *,
    task: str | None = None,
    **reading: Any,
) -> Dataset:
    """Load a data set by name or from a file.

    * ``digits``, ``breast_cancer``, ``iris``, ``wine``, ``diabetes``: bundled with scikit-learn, no
      download.
    * a path, or ``"-"`` for standard input: a table, as :func:`read_table` reads it; X is encoded
      by all rows.
    * ``*.npz``: arrays ``X`` (samples along axis 0) and ``y``.

    In an NPZ file the type of the target decides the task: text, whole numbers and booleans are
    classes; floating-point numbers are a regression, even 0.0 and 1.0.

    Args:
        name_or_path: a name above or a path.
        target: column (CSV; the last one if None) or array (NPZ; ``y`` if None) of the target.
        task: ``"classification"`` or ``"regression"`` overrides what the target says.
        reading: options of :func:`read_table`, such as ``sep``, ``drop`` or ``categorical``.

    Returns:
        A Dataset, which is also a pair: ``X, y = load("digits")``. X is float64.

    Raises:
        ValueError: an unknown name or column, a missing value or text among the features (the
            message names the column and the row). FileNotFoundError: no such file. ImportError: a
            bundled set without scikit-learn. TypeError: an option of tables with something else.

    Example:
        >>> from onepass.data import load
        >>> load("wine")  # doctest: +SKIP
        Dataset('wine', X (178, 13), target 'class', 3 classes)
    """
    if task is not None:
        numbers.one_of("load", "task", task, TASKS)
    path = expanded(name_or_path, "load: 'name_or_path'")
    ending = path.suffix.lower()
    if ending in (*TABLES, ".npz") and not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    if is_table(name_or_path):
        return _from_table(name_or_path, target, task, reading)
    if reading:
        raise TypeError(
            f"load: {next(iter(reading))!r} is an option of tables, {str(name_or_path)!r} is none"
        )
    if ending == ".npz":
        return _from_npz(path, target, task)
    if str(name_or_path) not in BUNDLED:
        raise ValueError(_unknown(str(name_or_path)))
    for option, value in (("target", target), ("task", task)):
        if value is not None:
            raise ValueError(
                f"load: {option!r} is {value!r}, expected None: the data set "
                f"{str(name_or_path)!r} has its own"
            )
    return _from_sklearn(str(name_or_path))


def is_table(name_or_path: str | os.PathLike[str]) -> bool:
    """Whether it names a table, and not a data set or a file of arrays."""
    if os.fspath(name_or_path) == "-":
        return True
    path = expanded(name_or_path)
    ending = path.suffix.lower()
    return ending != ".npz" and (path.is_file() or ending in TABLES)


def _from_sklearn(name: str) -> Dataset:
    try:
        from sklearn import datasets  # type: ignore[import-untyped, unused-ignore]
    except ImportError as error:
        raise ImportError(f"{name!r} needs scikit-learn: pip install scikit-learn") from error
    bunch = getattr(datasets, f"load_{name}")()
    columns = tuple(str(n) for n in bunch.feature_names)
    features = np.ascontiguousarray(bunch.data, dtype=np.float64)
    if name == "diabetes":
        progression = bunch.target.astype(np.float64)
        return Dataset(name, features, progression, columns, None, "progression")
    classes = tuple(str(n) for n in bunch.target_names)
    return Dataset(name, features, bunch.target.astype(np.int64), columns, classes, "class")


def _from_table(
    source: str | Path, target: str | None, task: str | None, reading: dict[str, Any]
) -> Dataset:
    table = read_table(source, target=target, task=task, **reading)
    assert table.y is not None
    assert table.target is not None
    names = table.feature_names
    return Dataset(table.name, table.x, table.y, names, table.classes, table.target)


def load_arrays(path: Path, *names: str, optional: str = "") -> list[Any]:
    """Arrays of an NPZ file, the ``optional`` one last, None if it is not there.

    Raises:
        ValueError: it is damaged, or another array is missing. FileNotFoundError: no such file.
    """
    try:
        with open(path, "rb") as file, np.lib.npyio.NpzFile(file) as archive:
            missing = [name for name in names if name not in archive.files]
            if missing:
                has, needed = ", ".join(archive.files) or "nothing", " and ".join(map(repr, names))
                raise ValueError(f"no array {missing[0]!r}, expected {needed} among {has}")
            extra = [archive[optional] if optional in archive.files else None] * bool(optional)
            return [archive[name] for name in names] + extra
    except FileNotFoundError:
        raise FileNotFoundError(f"no such file: {path}") from None
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: {error}") from error


def _from_npz(path: Path, target: str | None, task: str | None) -> Dataset:
    key = target or "y"
    features, values = load_arrays(path, "X", key)
    if features.ndim < 2 or features.dtype.kind not in "biuf" or features.size == 0:
        raise ValueError(
            f"{path}: X is {features.dtype} of shape {features.shape}, expected real numbers (N, …)"
        )
    if values.ndim != 1 or len(values) != len(features):
        raise ValueError(
            f"{path}: {key} has shape {values.shape}, expected ({len(features)},), one per sample"
        )
    for name, array in (("X", features), (key, values)):
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            where = np.argwhere(~np.isfinite(array))[0].tolist()
            raise ValueError(f"{path}: {name} holds a missing or infinite value at {where}")
    task = task or TASKS[values.dtype.kind == "f"]
    y, classes = _interpret(values, task, path.name, key)
    names = tuple(f"x{i}" for i in range(features.shape[1])) if features.ndim == 2 else ()
    return Dataset(path.stem, features.astype(np.float64), y, names, classes, key)


def _interpret(
    values: NDArray[Any], task: str, file: str, name: str
) -> tuple[NDArray[Any], tuple[str, ...] | None]:
    """Targets as class indices with the classes' names, or as numbers with None."""
    text = values.dtype.kind in "US"
    if not text and values.dtype.kind not in "biuf":
        raise ValueError(f"{file}: {name} is {values.dtype}, expected numbers or text")
    if task != "regression":
        return classes_of(file, name, values)
    if text:
        raise ValueError(f"{file}: {name} holds text ({values[0]!s}, …), expected numbers")
    return values.astype(np.float64), None


def _unknown(name: str) -> str:
    known, hint = ", ".join(BUNDLED), suggestion(name, BUNDLED)
    return f"load: 'name_or_path' is {name!r}, expected {known}, or a file (.csv, .npz, …){hint}"
