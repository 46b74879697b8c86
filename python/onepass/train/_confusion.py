"""What a classification got right, class by class, and what it took for what."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass import _numbers as numbers
from onepass._array import to_numpy
from onepass._text import amount
from onepass.train import _report_text

Floats = NDArray[np.float64]
NORMALIZE = ("true", "pred", "all")
AVERAGES = ("accuracy", "macro avg", "weighted avg")  # lines of the table beside the classes
MOST_CELLS = 1 << 28  # of a matrix as an array: 2 GiB


class ClassificationReport:
    """Precision, recall and F1 of each class, their averages, and the confusion matrix.

    ``str()`` is a table of the classes, ``text()`` that and the matrix, ``plot()`` a picture of the
    matrix. `classification_report` makes one.

    Precision of a class that was never predicted, recall of one without a sample, and F1 of one
    that has neither are 0/0, for which ``zero_division`` stands, in ``macro`` and ``weighted`` too.

    Args:
        true, predicted: (N,) indices into ``labels``.
        labels: the classes.
        names: what they are called.
        weight: (N,), for counts; None: each counts 1.
        zero_division: for 0/0; NaN has no part in the means.

    Attributes:
        labels: (C,) classes, in the order of everything below. names: their names.
        precision: (C,), right ones among those predicted, TP / (TP + FP).
        recall: (C,), right ones among those there are, TP / (TP + FN).
        f1: (C,), 2 TP / (2 TP + FP + FN).
        support: (C,), samples of each class, or their weight. predicted: (C,), the same of what was
            predicted. used: (C,), whether a class has either.
        zero_division: what stands for 0/0.
        accuracy: right ones among all.
        macro, weighted: ``precision``, ``recall``, ``f1``: the mean over the classes, each
            counting alike or by its support.

    Example:
        >>> from onepass.train import classification_report
        >>> report = classification_report(["cat", "dog", "dog"], ["cat", "dog", "cat"])
        >>> report.recall.tolist(), report.matrix.tolist()
        ([1.0, 0.5], [[1, 0], [1, 1]])
    """

    def __init__(
        self,
        true: NDArray[np.int64],
        predicted: NDArray[np.int64],
        labels: Sequence[Any],
        names: Sequence[str],
        weight: Floats | None = None,
        zero_division: float = 0.0,
    ) -> None:
        """Of class indices."""
        count = len(labels)
        self.zero_division = zero_division
        self.labels, self.names = list(labels), [str(name) for name in names]
        self._pairs = _pairs(true, predicted, count, weight)
        rows, columns, values = self._pairs
        hits = rows == columns
        right = np.bincount(rows[hits], values[hits], count)
        self.support = np.bincount(rows, values, count)
        self.predicted = np.bincount(columns, values, count)
        self.used = (self.support > 0) | (self.predicted > 0)
        self.precision = self._share(right, self.predicted)
        self.recall = self._share(right, self.support)
        self.f1 = self._share(2 * right, self.support + self.predicted)
        total = float(self.support.sum())
        self.accuracy = float(right.sum()) / total if total else float("nan")
        shares = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        self.macro = {k: _mean(v) for k, v in shares.items()}
        self.weighted = {k: _mean(v, self.support) for k, v in shares.items()}
        if weight is None:
            self.support = self.support.astype(np.int64)
            self.predicted = self.predicted.astype(np.int64)

    def _share(self, part: NDArray[Any], whole: NDArray[Any]) -> Floats:
        share = np.full(len(whole), self.zero_division)
        return np.divide(part, whole, out=share, where=whole > 0)

    def measures(self, i: int) -> dict[str, tuple[float, bool]]:
        """``precision``, ``recall`` and ``f1`` of a class: (value, whether it is a number and not
        what stands for 0/0)."""
        there, taken = bool(self.support[i] > 0), bool(self.predicted[i] > 0)
        return {
            "precision": (float(self.precision[i]), taken),
            "recall": (float(self.recall[i]), there),
            "f1": (float(self.f1[i]), there or taken),
        }

    @property
    def matrix(self) -> NDArray[Any]:
        """(C, C): samples of the class of the row that were taken for that of the column.

        Raises:
            MemoryError: there are so many classes that the array would be larger than 2 GiB.
        """
        return self.part(range(len(self.labels)))

    def part(self, classes: Sequence[int]) -> NDArray[Any]:
        """The rows and columns of the matrix of these indices, in their order."""
        if len(classes) ** 2 > MOST_CELLS:
            raise MemoryError(
                f"the confusion matrix of {len(classes)} classes would have "
                f"{len(classes) ** 2:.2g} cells; mistakes() has those that are not empty"
            )
        rows, columns, values = self._pairs
        place = np.full(len(self.labels), -1)
        place[list(classes)] = np.arange(len(classes))
        inside = (place[rows] >= 0) & (place[columns] >= 0)
        found = np.zeros((len(classes), len(classes)), values.dtype)
        found[place[rows[inside]], place[columns[inside]]] = values[inside]
        return found

    def folded(self, classes: Sequence[int]) -> NDArray[Any]:
        """As `part`, with a last row and column of all other classes together."""
        rows, columns, values = self._pairs
        size = len(classes) + 1
        place = np.full(len(self.labels), len(classes))
        place[list(classes)] = np.arange(len(classes))
        cells = np.bincount(place[rows] * size + place[columns], values, size * size)
        return cells.astype(values.dtype).reshape(size, size)

    def mistakes(self, most: int | None = None) -> list[tuple[Any, Any, Any]]:
        """(class, what it was taken for, samples), the most frequent first.

        Example:
            >>> from onepass.train import classification_report
            >>> classification_report([0, 1, 1, 1], [0, 1, 0, 0]).mistakes()
            [(1, 0, 2)]
        """
        rows, columns, values = self._pairs
        wrong = np.flatnonzero(rows != columns)
        order = wrong[np.argsort(-values[wrong], kind="stable")][:most]
        return [(self.labels[rows[i]], self.labels[columns[i]], values[i].item()) for i in order]

    def muddled(self, most: int) -> list[int]:
        """The indices, in order, of the classes with the most mistakes of either kind."""
        rows, columns, values = self._pairs
        wrong, count = rows != columns, len(self.labels)
        errors = np.bincount(rows[wrong], values[wrong], count)
        errors += np.bincount(columns[wrong], values[wrong], count)
        order = np.lexsort((np.arange(count), -self.support, -errors))[:most]
        return sorted(order.tolist())

    def to_dict(self) -> dict[str, Any]:
        """As scikit-learn's ``classification_report(…, output_dict=True)``: by name of class.

        With ``accuracy``, ``macro avg`` and ``weighted avg``.

        Raises:
            ValueError: a class has the name of one of these.
        """
        found: dict[str, Any] = {}
        for i, name in enumerate(self.names):
            if name in AVERAGES:
                raise ValueError(
                    f"to_dict: a class is called {name!r}, as one of the means, expected another "
                    "name (target_names)"
                )
            found[name] = {
                "precision": float(self.precision[i]),
                "recall": float(self.recall[i]),
                "f1-score": float(self.f1[i]),
                "support": self.support[i].item(),
            }
        found["accuracy"] = self.accuracy
        total = self.support.sum().item()
        for name, means in (("macro avg", self.macro), ("weighted avg", self.weighted)):
            values = {"f1-score" if k == "f1" else k: v for k, v in means.items()}
            found[name] = {**values, "support": total}
        return found

    def text(self, width: int = 80) -> str:
        """The table of the classes, the matrix and the most frequent mistakes, for a terminal.

        Args:
            width: columns that no line exceeds. Classes that do not fit are folded into one.
        """
        return _report_text.of_classes(self, numbers.integer("text", "width", width, 20))

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw the matrix into an image file; the colour is the share of the row's class.

        Raises:
            ImportError: Matplotlib is not installed. OSError: the file cannot be written.
        """
        from onepass.train._report_plot import matrix

        matrix(self, path)

    def __str__(self) -> str:
        return _report_text.table_of_classes(self, 80)

    def __repr__(self) -> str:
        return (
            f"ClassificationReport({len(self.labels)} classes, {amount(self.support.sum().item())} "
            f"samples, "
            f"accuracy {self.accuracy:.4g})"
        )


def classification_report(
    y_true: Any,
    y_pred: Any,
    *,
    labels: Any = None,
    target_names: Sequence[str] | None = None,
    sample_weight: Any = None,
    zero_division: float = 0.0,
) -> ClassificationReport:
    """Precision, recall, F1 and support of each class, and what was taken for what.

    precision = TP / (TP + FP), recall = TP / (TP + FN), F1 = 2 TP / (2 TP + FP + FN).

    Args:
        y_true: (N,) classes: whole numbers, text or truth values.
        y_pred: (N,) predicted classes; of a network's outputs pass ``outputs.argmax(axis=1)``.
        labels: all classes, in the order in which they are shown; None: those that are there, in
            order, or 0, 1, … where ``target_names`` are given and the classes are whole numbers.
        target_names: how they are called, one a class, each once.
        sample_weight: (N,), for counts; None: each counts 1.
        zero_division: 0 or 1, which stands for 0/0, or NaN, which has no part in the means.

    Raises:
        TypeError: an argument of another type. ValueError: of another length, a class that is not
            among ``labels``, numbers instead of classes.

    Source: names and values as ``sklearn.metrics.classification_report``.

    Example:
        >>> from onepass.train import classification_report
        >>> print(classification_report([0, 0, 1, 2], [0, 1, 1, 2], target_names=["a", "b", "c"]))
        class         precision  recall      f1  support
        a                1.0000  0.5000  0.6667        2
        b                0.5000  1.0000  0.6667        1
        c                1.0000  1.0000  1.0000        1
        accuracy                         0.7500        4
        macro avg        0.8333  0.8333  0.7778        4
        weighted avg     0.8750  0.7500  0.7500        4
    """
    owner = "classification_report"
    true, predicted = _column(owner, "y_true", y_true), _column(owner, "y_pred", y_pred)
    if len(true) != len(predicted):
        raise ValueError(
            f"{owner}: 'y_pred' has {len(predicted)} values, expected {len(true)}, as 'y_true'"
        )
    weight = None if sample_weight is None else _weights(owner, sample_weight, len(true))
    names = None if target_names is None else _names(owner, target_names)
    known = _labels(owner, labels, names, true, predicted)
    if names is not None and len(names) != len(known):
        raise ValueError(
            f"{owner}: 'target_names' has {len(names)} names, expected {len(known)}, one a class"
        )
    values = known.tolist()
    return ClassificationReport(
        _indices(owner, "y_true", true, known),
        _indices(owner, "y_pred", predicted, known),
        values,
        names or [str(value) for value in values],
        weight,
        _zero_division(owner, zero_division),
    )


def confusion_matrix(
    y_true: Any,
    y_pred: Any,
    *,
    labels: Any = None,
    sample_weight: Any = None,
    normalize: str | None = None,
) -> NDArray[Any]:
    """(C, C): samples of the class of the row that were taken for that of the column.

    Args:
        y_true, y_pred, labels, sample_weight: as for `classification_report`.
        normalize: divide by the samples of each class ("true"), by those predicted ("pred") or by
            all of them ("all"); 0 where that is 0.

    Returns:
        int64, or float64 with weights or ``normalize``.

    Raises:
        TypeError, ValueError: as `classification_report`. MemoryError: larger than 2 GiB.

    Source: names and values as ``sklearn.metrics.confusion_matrix``.

    Example:
        >>> from onepass.train import confusion_matrix
        >>> confusion_matrix(["b", "a", "b"], ["b", "b", "b"])
        array([[0, 1],
               [0, 2]])
    """
    if normalize is not None:
        numbers.one_of("confusion_matrix", "normalize", normalize, NORMALIZE)
    report = classification_report(y_true, y_pred, labels=labels, sample_weight=sample_weight)
    counts = report.matrix
    if normalize is None:
        return counts
    axis = {"true": 1, "pred": 0, "all": None}[normalize]
    total = np.broadcast_to(counts.sum(axis=axis, keepdims=True), counts.shape)
    shares = np.zeros(counts.shape)
    np.divide(counts, total, out=shares, where=total > 0)
    return shares


def _pairs(
    true: NDArray[np.int64], predicted: NDArray[np.int64], count: int, weight: Floats | None
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]:
    """Row, column and value of each cell that is not empty, in order."""
    cells, place = np.unique(true * count + predicted, return_inverse=True)
    values = np.bincount(place.reshape(-1), weight, len(cells))
    cells, values = cells[values > 0], values[values > 0]  # a weight may be 0
    return cells // max(count, 1), cells % max(count, 1), values


def _mean(values: Floats, weight: NDArray[Any] | None = None) -> float:
    """Of those that are numbers."""
    there = ~np.isnan(values)
    values = values[there]
    if weight is None:
        return float(values.mean()) if len(values) else float("nan")
    weight = weight[there]
    total = weight.sum()
    return float(np.dot(values, weight) / total) if total else float("nan")


def _zero_division(owner: str, value: Any) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not (value in (0, 1) or value != value):
        raise ValueError(f"{owner}: 'zero_division' is {value!r}, expected 0, 1 or NaN")
    return float(value)


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


def _names(owner: str, names: Any) -> list[str]:
    if isinstance(names, str):
        raise TypeError(f"{owner}: 'target_names' is {names!r}, expected a name for each class")
    found = [str(name) for name in names]
    if len(set(found)) < len(found):
        twice = Counter(found).most_common(1)[0][0]
        raise ValueError(f"{owner}: 'target_names' has {twice!r} twice, expected each once")
    return found


def _labels(
    owner: str, labels: Any, names: list[str] | None, true: NDArray[Any], predicted: NDArray[Any]
) -> NDArray[Any]:
    """The classes: those given, those that are there, or as many as there are names."""
    if labels is not None:
        known = _column(owner, "labels", labels)
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


def _indices(owner: str, name: str, values: NDArray[Any], known: NDArray[Any]) -> NDArray[Any]:
    """Where each value is among the classes."""
    if len(values) and len(known) and (values.dtype.kind == "U") != (known.dtype.kind == "U"):
        raise TypeError(f"{owner}: {name!r} and the classes are text and numbers, expected one "
                        "type")  # fmt: skip
    order = np.argsort(known, kind="stable")
    place = np.searchsorted(known[order], values)
    place = np.minimum(place, len(known) - 1)
    if len(values):
        wrong = known[order][place] != values if len(known) else np.ones(len(values), bool)
        if wrong.any():
            raise ValueError(
                f"{owner}: {name!r} holds {values[wrong][0].item()!r}, expected one of the "
                f"{len(known)} classes: {', '.join(map(repr, known[:5].tolist()))}"
                f"{', …' if len(known) > 5 else ''}"
            )
    found: NDArray[Any] = order[place].astype(np.int64)
    return found
