"""What a classification got right, class by class, and what it took for what."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass import _numbers as numbers
from onepass._text import amount
from onepass.train import _report_text
from onepass.train._class_indices import indexed, named

Floats = NDArray[np.float64]
NORMALIZE = ("true", "pred", "all")
AVERAGES = ("accuracy", "micro avg", "macro avg", "weighted avg")  # lines beside the classes
MOST_CELLS = 1 << 28  # of a matrix as an array: 2 GiB


class ClassificationReport:
    """Precision, recall and F1 of each class, their averages, and the confusion matrix.

    ``str()`` is a table of the classes, ``text()`` that and the matrix, ``plot()`` a picture of the
    matrix. `classification_report` makes one.

    Where ``labels`` leave classes out that are there, samples of these count as mistakes of the
    labels that they were taken for, and what was taken for these as missed; they have no line, and
    no row and column in the matrix.

    Precision of a class that was never predicted, recall of one without a sample, and F1 of one
    that has neither are 0/0, for which ``zero_division`` stands, in ``macro`` and ``weighted`` too.

    Args:
        true, predicted: (N,) indices into ``labels``; -1 for a class that is not among them.
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
        left_out: samples, or their weight, that are not in the matrix: of a class that is not among
            ``labels``, or taken for one. whole: whether there is none, whatever its weight.
        accuracy: right ones among all; NaN unless ``whole``.
        micro, macro, weighted: ``precision``, ``recall``, ``f1``: of the classes together, the mean
            over them, and the mean by their support. ``micro`` is the accuracy three times if the
            report is ``whole``.

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
        inside = (true >= 0) & (predicted >= 0)
        self.whole = bool(inside.all())
        self.left_out = _total(~inside, weight)
        within = None if weight is None else weight[inside]
        self._pairs = _pairs(true[inside], predicted[inside], count, within)
        rows, columns, values = self._pairs
        hits = rows == columns
        right = np.bincount(rows[hits], values[hits], count)
        self.support = _counts(true, count, weight)
        self.predicted = _counts(predicted, count, weight)
        self.used = (self.support > 0) | (self.predicted > 0)
        self.precision = self._share(right, self.predicted)
        self.recall = self._share(right, self.support)
        self.f1 = self._share(2 * right, self.support + self.predicted)
        shares = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        self.micro = self._together(float(right.sum()))
        self.macro = {k: _mean(v) for k, v in shares.items()}
        self.weighted = {k: _mean(v, self.support) for k, v in shares.items()}
        total = float(self.support.sum())
        known = self.whole and total > 0
        self.accuracy = float(right.sum()) / total if known else float("nan")

    def _together(self, right: float) -> dict[str, float]:
        """Precision, recall and F1 of the counts of all classes together."""
        true, taken = float(self.support.sum()), float(self.predicted.sum())
        parts = {"precision": (right, taken), "recall": (right, true)}
        parts["f1"] = (2 * right, true + taken)
        return {k: a / b if b else self.zero_division for k, (a, b) in parts.items()}

    @property
    def averages(self) -> dict[str, dict[str, float]]:
        """The lines below those of the classes: name → ``precision``, ``recall``, ``f1``.

        The first is ``accuracy``, of which there is one number, or ``micro avg``.
        """
        first = {"micro avg": self.micro}
        if self.whole:
            first = {"accuracy": {"accuracy": self.accuracy}}
        return {**first, "macro avg": self.macro, "weighted avg": self.weighted}

    def _share(self, part: NDArray[Any], whole: NDArray[Any]) -> Floats:
        share = np.full(len(whole), self.zero_division)
        np.divide(part, whole, out=share, where=whole > 0)
        return share

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
        """As `part`, with a last row and column of all other ``labels`` together."""
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

        With ``accuracy``, or ``micro avg`` unless the report is ``whole``, ``macro avg`` and
        ``weighted avg``.

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
        total = self.support.sum().item()
        for name, means in self.averages.items():
            values = {"f1-score" if k == "f1" else k: v for k, v in means.items()}
            found[name] = values.get("accuracy", {**values, "support": total})
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

    @property
    def headline(self) -> str:
        """The one number, in words."""
        if self.whole:
            return f"accuracy {self.accuracy:.4f}"
        return f"micro F1 {self.micro['f1']:.4f}"

    def __repr__(self) -> str:
        samples = amount(self.support.sum().item())
        return (
            f"ClassificationReport({len(self.labels)} classes, {samples} samples, {self.headline})"
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
        labels: the classes to report, in this order, also some of those that are there alone, or
            ones without a sample; None: those that are there, sorted, or 0, 1, … where
            ``target_names`` are given and the classes are whole numbers. Where they leave out a
            class that is there, the micro average takes the place of the accuracy.
        target_names: how they are called, one a class, each once.
        sample_weight: (N,), for counts; None: each counts 1.
        zero_division: 0 or 1, which stands for 0/0, or NaN, which has no part in the means.

    Raises:
        TypeError: an argument of another type. ValueError: of another length, numbers instead of
            classes, no label or one twice, a class that ``target_names`` do not name.

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
    names = None if target_names is None else named(owner, target_names)
    found = indexed(owner, y_true, y_pred, labels, names, sample_weight)
    return ClassificationReport(*found, zero_division=_zero_division(owner, zero_division))


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
        y_true, y_pred, sample_weight: as for `classification_report`.
        labels: the classes of the matrix, in this order; None: those that are there. Samples of
            other classes, or taken for others, are left out.
        normalize: divide by the samples of each class ("true"), by those predicted ("pred") or by
            all of them ("all"), of those in the matrix; 0 where that is 0.

    Returns:
        int64, or float64 with weights or ``normalize``.

    Raises:
        TypeError, ValueError: as `classification_report`; no class of ``y_true`` is among
            ``labels``. MemoryError: larger than 2 GiB.

    Source: names and values as ``sklearn.metrics.confusion_matrix``.

    Example:
        >>> from onepass.train import confusion_matrix
        >>> confusion_matrix(["b", "a", "b"], ["b", "b", "b"])
        array([[0, 1],
               [0, 2]])
    """
    if normalize is not None:
        numbers.one_of("confusion_matrix", "normalize", normalize, NORMALIZE)
    found = indexed("confusion_matrix", y_true, y_pred, labels, None, sample_weight)
    true = found[0]
    if len(true) and (true < 0).all():
        raise ValueError(
            f"confusion_matrix: 'labels' is {labels!r}, expected one or more classes of 'y_true'"
        )
    counts = ClassificationReport(*found).matrix
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


def _counts(of: NDArray[np.int64], count: int, weight: Floats | None) -> NDArray[Any]:
    """How many samples each class has, or their weight."""
    there = of >= 0
    return np.bincount(of[there], None if weight is None else weight[there], count)


def _total(which: NDArray[np.bool_], weight: Floats | None) -> float:
    return int(which.sum()) if weight is None else float(weight[which].sum())


def _mean(values: Floats, weight: NDArray[Any] | None = None) -> float:
    """Of those that are numbers; alike where no weight is above 0, as in scikit-learn."""
    there = ~np.isnan(values)
    values = values[there]
    if weight is None:
        return float(values.mean()) if len(values) else float("nan")
    weight = weight[there]
    total = weight.sum()
    return float(np.dot(values, weight) / total) if total else _mean(values)


def _zero_division(owner: str, value: Any) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not (value in (0, 1) or value != value):
        raise ValueError(f"{owner}: 'zero_division' is {value!r}, expected 0, 1 or NaN")
    return float(value)
