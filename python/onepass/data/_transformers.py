"""The parts of an encoding that scikit-learn does: medians for gaps, one-hot columns for words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onepass.data._columns import Floats, Numbers, Words
from onepass.data._cures import leave_out


def median(source: str, name: str, column: Numbers) -> float:
    if column.missing().all():
        raise ValueError(
            f"{source}: column {name!r} has no number in the training part; {leave_out([name])}"
        )
    if not column.missing().any():
        return float(np.median(column.values))
    imputer = _sklearn("impute").SimpleImputer(strategy="median")
    return float(imputer.fit(column.values[:, None]).statistics_[0])


def imputed(values: Floats, fills: Sequence[float | None]) -> Floats:
    """The values with medians for NaN; the imputer is fitted on one row, the medians."""
    imputer = _sklearn("impute").SimpleImputer(strategy="median")
    filled: Floats = imputer.fit(np.array([fills], np.float64)).transform(values)
    return filled


def categories_of(column: Words) -> tuple[str, ...]:
    words = np.unique(column.text()).astype(object)[:, None]
    return tuple(encoder("auto").fit(words).categories_[0].tolist())


def encoder(categories: Any) -> Any:
    found = _sklearn("preprocessing").OneHotEncoder(
        categories=categories, handle_unknown="ignore", sparse_output=False
    )
    if categories != "auto":
        found.fit(np.array([[words[0] for words in categories]], object))
    return found


def _sklearn(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(f"sklearn.{module}")
    except ImportError as error:
        raise ImportError(
            "text columns and missing cells need scikit-learn: pip install 'onepass[demo]'"
        ) from error
