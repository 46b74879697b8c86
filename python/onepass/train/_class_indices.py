"""Classes as a user has them, of any type, as indices into a list of them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass._array import to_numpy

Floats = NDArray[np.float64]


def indexed(
    owner: str, y_true: Any, y_pred: Any, labels: Any, names: list[str] | None, sample_weight: Any
) -> tuple[NDArray[np.int64], NDArray[np.int64], list[Any], list[str], Floats | None]:
    """What a report is made of: true and predicted indices, classes, their names, weights."""
    true, predicted = _column(owner, "y_true", y_true), _column(owner, "y_pred", y_pred)
    if len(true) != len(predicted):
        raise ValueError(
            f"{owner}: 'y_pred' has {len(predicted)} values, expected {len(true)}, as 'y_true'"
        )
    weight = None if sample_weight is None else _weights(owner, sample_weight, len(true))
    known = _labels(owner, labels, names, true, predicted)
    if names is not None and len(names) != len(known):
        raise ValueError(
            f"{owner}: 'target_names' has {len(names)} names, expected {len(known)}, one a class"
        )
    values, some = known.tolist(), labels is not None
    at, taken_for = (
        _indices(owner, name, of, known, some)
        for name, of in (("y_true", true), ("y_pred", predicted))
    )
    return at, taken_for, values, names or [str(value) for value in values], weight


def named(owner: str, names: Any, of: str = "class") -> list[str]:
    """``target_names``, once each."""
    if isinstance(names, str):
        raise TypeError(f"{owner}: 'target_names' is {names!r}, expected a name for each {of}")
    found = [str(name) for name in names]
    if not found:
        raise ValueError(f"{owner}: 'target_names' is empty, expected a name for each {of}")
    if len(set(found)) < len(found):
        twice = Counter(found).most_common(1)[0][0]
        raise ValueError(f"{owner}: 'target_names' has {twice!r} twice, expected each once")
    return found


def _column(owner: str, name: str, values: Any) -> NDArray[Any]:
    """Classes, one a sample."""
    if isinstance(values, (list, tuple)):
        words = [isinstance(value, str) for value in values]
        array = np.asarray(values, object if any(words) and not all(words) else None)
    else:
        array = np.asarray(to_numpy(values))
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        cure = "; of outputs pass outputs.argmax(axis=1)" if array.ndim == 2 else ""
        raise ValueError(f"{owner}: {name!r} has shape {array.shape}, expected (N,) classes{cure}")
    if array.dtype.kind == "f":
        whole = np.isfinite(array)
        if not whole.all() or (array != np.round(array)).any():
            odd = array[~whole][0] if not whole.all() else array[array != np.round(array)][0]
            raise ValueError(f"{owner}: {name!r} holds {odd}, expected classes, not measurements")
        return array.astype(np.int64)
    if array.dtype.kind == "O":
        listed = [v.item() if isinstance(v, np.generic) else v for v in array.tolist()]
        kinds = {type(value) for value in listed}
        if len(kinds) > 1 or not all(issubclass(kind, (str, int, bool)) for kind in kinds):
            shown = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise TypeError(
                f"{owner}: {name!r} holds {shown}, expected classes of one type: text or whole "
                "numbers"
            )
        return np.asarray(listed) if listed else array.astype(np.int64)
    if array.dtype.kind not in "iubU" and len(array):
        raise TypeError(
            f"{owner}: {name!r} has dtype {array.dtype}, expected whole numbers, text or truth "
            "values"
        )
    return array if len(array) else array.astype(np.int64)


def _weights(owner: str, values: Any, count: int) -> Floats:
    weight = np.asarray(to_numpy(values) if hasattr(values, "dtype") else values, np.float64)
    if weight.shape != (count,):
        raise ValueError(f"{owner}: 'sample_weight' has shape {weight.shape}, expected ({count},)")
    if not np.isfinite(weight).all() or (weight < 0).any():
        raise ValueError(f"{owner}: 'sample_weight' holds a number below 0, inf or NaN, expected "
                         "finite numbers >= 0")  # fmt: skip
    return weight


def _labels(
    owner: str, labels: Any, names: list[str] | None, true: NDArray[Any], predicted: NDArray[Any]
) -> NDArray[Any]:
    """The classes: those given, those that are there, or as many as there are names."""
    if labels is not None:
        known = _column(owner, "labels", labels)
        if not len(known):
            raise ValueError(f"{owner}: 'labels' is empty, expected a class or more")
        if len(np.unique(known)) != len(known):
            raise ValueError(f"{owner}: 'labels' has a class twice, expected each once")
        return known
    kinds = {array.dtype.kind for array in (true, predicted) if len(array)}
    if "U" in kinds and len(kinds) > 1:
        raise TypeError(f"{owner}: 'y_true' and 'y_pred' are text and numbers, expected one type")
    if names is not None and kinds <= set("iu"):
        return np.arange(len(names))
    return _union(true, predicted) if kinds else true


def _union(true: NDArray[Any], predicted: NDArray[Any]) -> NDArray[Any]:
    """The classes that are there; of uint64 and int64 NumPy would make floats."""
    known = np.union1d(true, predicted)
    if known.dtype.kind != "f":
        return known
    classes = sorted({*true.tolist(), *predicted.tolist()})
    return np.array(classes, object if classes[-1] >= 1 << 63 else np.int64)


def _indices(
    owner: str, name: str, values: NDArray[Any], known: NDArray[Any], some: bool
) -> NDArray[np.int64]:
    """Where each value is among the classes; -1 for one that is not, if these are ``some``."""
    if not len(values):
        return np.zeros(0, np.int64)
    if len(known) and (values.dtype.kind == "U") != (known.dtype.kind == "U"):
        raise TypeError(f"{owner}: {name!r} and the classes are text and numbers, expected one "
                        "type")  # fmt: skip
    if np.result_type(values, known).kind == "f":  # of uint64 and int64, which it does not hold
        values, known = values.astype(object), known.astype(object)
    order = np.argsort(known, kind="stable")
    place = np.minimum(np.searchsorted(known[order], values), len(known) - 1)
    wrong = np.asarray(known[order][place] != values, bool)
    if wrong.any() and not some:
        raise ValueError(
            f"{owner}: {name!r} holds {values[wrong].tolist()[0]!r}, expected one of the "
            f"{len(known)} classes: {', '.join(map(repr, known[:5].tolist()))}"
            f"{', …' if len(known) > 5 else ''}"
        )
    return np.where(wrong, -1, order[place]).astype(np.int64)
