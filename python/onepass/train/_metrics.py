"""Metrics: functions of the outputs and targets of a whole epoch."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from onepass._array import to_numpy
from onepass._suggest import suggestion
from onepass.train import _scorers
from onepass.train._classes import Classes, UndefinedError, is_binary, margins, softmax
from onepass.train._history import OWN

FEWER_THAN_TWO = "R² of fewer than two samples is not defined"
Function = Callable[[Any, Any], float]


@dataclass(frozen=True)
class Metric:
    """A number for the outputs and targets of an epoch; either field has the function.

    Attributes:
        whole: of all outputs and all targets, which are kept until the epoch's end.
        parts: (sum, count) of a batch, where ``finish`` of the total of the sums over that of the
            counts is the number of the whole.
        settle: of the first outputs and targets; raises then what would else fail at the end.
    """

    whole: Function | None = None
    parts: Callable[[Any, Any], tuple[float, float]] | None = None
    finish: Callable[[float], float] = float
    settle: Callable[[Any, Any], None] | None = None

    def __call__(self, output: Any, target: Any) -> float:
        if self.whole is not None:
            return float(self.whole(output, target))
        assert self.parts is not None
        total, count = self.parts(output, target)
        return self.finish(total / count) if count else math.nan


def accuracy(output: Any, target: Any, *, classes: Classes) -> tuple[float, float]:
    """Right classes, and labels that count; an output with NaN is never right."""
    scores, true = classes.labels(output, target)
    return float(np.sum(classes.predicted(scores) == true)), float(true.size)


def top_k(output: Any, target: Any, *, k: int, classes: Classes) -> tuple[float, float]:
    """Labels among the ``k`` largest scores, and labels that count."""
    scores, true = classes.labels(output, target)
    if scores.ndim == 1 or scores.shape[1] <= k:
        raise ValueError(
            f"top_{k}_accuracy: the outputs have shape {np.shape(output)}, expected more than {k} "
            "classes along axis 1"
        )
    own = np.take_along_axis(scores, true[:, None], axis=1)
    rank = np.sum(~(scores < own), axis=1) - 1  # ties and NaN count against the label
    return float(np.sum(rank < k)), float(true.size)


def squares(output: Any, target: Any) -> tuple[float, float]:
    """Σ (output - target)², and the number of elements."""
    difference = _difference("mse", output, target)
    return float(np.sum(difference**2)), float(difference.size)


def distances(output: Any, target: Any) -> tuple[float, float]:
    """Σ |output - target|, and the number of elements."""
    difference = _difference("mae", output, target)
    return float(np.sum(np.abs(difference))), float(difference.size)


def r2(output: Any, target: Any) -> float:
    """`r2_of`, the mean over columns.

    Raises:
        UndefinedError: there are fewer than two samples.
    """
    difference = _difference("r2", output, target)
    if len(difference) < 2:
        raise UndefinedError(FEWER_THAN_TWO)
    t = to_numpy(target).astype(np.float64).reshape(len(difference), -1)
    return float(np.mean(r2_of(t, difference.reshape(t.shape))))


def r2_of(target: Any, difference: Any) -> Any:
    """1 - Σ difference² / Σ (target - mean)² of each column, the sums over samples.

    Of targets that are all equal, 1 where every difference is 0, else 0. NaN of fewer than two
    samples, and where a difference is NaN.

    Source: ``sklearn.metrics.r2_score`` with ``force_finite=True``.
    """
    if len(target) < 2:
        return np.full(target.shape[1:], np.nan)
    with np.errstate(all="ignore"):
        largest = np.maximum(np.abs(target).max(axis=0), np.abs(difference).max(axis=0))
        # By a power of two, which changes no digit: squares neither overflow nor vanish.
        power = -np.where(np.isfinite(largest), np.frexp(largest)[1], 0)
        scaled, left = np.ldexp(target, power), np.sum(np.ldexp(difference, power) ** 2, axis=0)
        around = np.sum((scaled - scaled.mean(axis=0)) ** 2, axis=0)
        constant = (target == target[:1]).all(axis=0) | (around == 0)
        met = np.where((difference == 0).all(axis=0), 1.0, 0.0)
        return np.where(constant & ~np.isnan(left), met, 1 - left / around)


def balanced_accuracy(output: Any, target: Any, *, classes: Classes) -> float:
    """The mean over classes of the share of right samples; NaN where no label counts."""
    scores, true = classes.labels(output, target)
    predicted = classes.predicted(scores)
    return float(np.mean([np.mean(predicted[true == c] == c) for c in np.unique(true)] or [np.nan]))


def f1(output: Any, target: Any, *, classes: Classes) -> float:
    """2 TP / (2 TP + FP + FN), of class 1 where the classes are 0 and 1, else the mean over all.

    NaN where no label counts.
    """
    scores, true = classes.labels(output, target)
    predicted = classes.predicted(scores)
    values = []
    for c in [1] if is_binary(scores) else np.union1d(predicted[predicted >= 0], true):
        hits = 2 * np.sum((predicted == c) & (true == c))
        total = np.sum(predicted == c) + np.sum(true == c)
        values.append(hits / total if total else 0.0)
    return float(np.mean(values)) if true.size else math.nan


def auc(output: Any, target: Any, *, classes: Classes) -> float:
    """Area under the ROC curve; of several classes the mean of each against the rest.

    NaN where a class, or all others, have no sample. Ties count half.
    """
    scores, true = classes.labels(output, target)
    if is_binary(scores):
        return _area(margins(scores), true == 1)
    shares = softmax(scores)
    return float(np.mean([_area(shares[:, c], true == c) for c in range(scores.shape[1])]))


def _area(score: Any, positive: Any) -> float:
    pos, neg = int(positive.sum()), int((~positive).sum())
    if not pos or not neg or np.isnan(score).any():
        return math.nan
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]  # of equal scores the mean
    return float((ranks[positive].sum() - pos * (pos + 1) / 2) / (pos * neg))


_OF_CLASSES = {"balanced_accuracy": balanced_accuracy, "f1": f1, "auc": auc}
_OF_NUMBERS = {
    "mse": Metric(parts=squares),
    "rmse": Metric(parts=squares, finish=math.sqrt),
    "mae": Metric(parts=distances),
    "r2": Metric(r2),
}
NAMES = ("accuracy", "top_5_accuracy", *_OF_CLASSES, *_OF_NUMBERS)
_ALIASES = {"acc": "accuracy"}


def named(name: str, classes: Classes) -> Metric | None:
    """The metric of that name, of ours or of scikit-learn's; None if there is none."""
    name = _ALIASES.get(name, name)
    if name in _OF_NUMBERS:
        return _OF_NUMBERS[name]
    if name == "accuracy":
        return Metric(parts=partial(accuracy, classes=classes))
    if ranked := re.fullmatch(r"top_([1-9]\d*)_accuracy", name):
        return Metric(parts=partial(top_k, classes=classes, k=int(ranked[1])))
    if name == "auc":  # needs no border between two classes
        return Metric(partial(auc, classes=classes))
    if name in _OF_CLASSES:
        return Metric(partial(_OF_CLASSES[name], classes=classes), settle=classes.settle)
    scorer = _scorers.find(name, classes)
    return None if scorer is None else Metric(scorer, settle=scorer.settle)


Chosen = str | Function


def resolve(
    metrics: Chosen | Sequence[Chosen] | Mapping[str, Chosen], classes: Classes | None = None
) -> dict[str, Metric]:
    """Name → metric, from names and functions (called by their ``__name__``), or a dict of them.

    ``classes`` say what the outputs of the loss and the model are.
    """
    if not callable(metrics) and not isinstance(metrics, Iterable):
        raise TypeError(f"Trainer: 'metrics' is {metrics!r}, expected names and callables")
    if isinstance(metrics, Mapping):
        pairs = list(metrics.items())
    else:
        listed = [metrics] if isinstance(metrics, str) or callable(metrics) else list(metrics)
        pairs = [(_name(metric), metric) for metric in listed]
    chosen: dict[str, Metric] = {}
    for name, metric in pairs:
        if not isinstance(name, str):
            raise TypeError(f"Trainer: 'metrics' has the name {name!r}, expected a text")
        if not name.strip():
            raise ValueError(f"Trainer: 'metrics' has the name {name!r}, expected one to read")
        if name in chosen or name in OWN or name.startswith("val_"):
            raise ValueError(
                f"Trainer: 'metrics' has the name {name!r}, expected one that is not taken; name "
                "functions yourself with a dict: metrics={'first': f, 'second': g}"
            )
        chosen[name] = _metric(metric, classes or Classes())
    return chosen


def _name(metric: Any) -> str:
    if isinstance(metric, str):
        return _ALIASES.get(metric, metric)
    return str(getattr(metric, "__name__", type(metric).__name__))


def _metric(metric: Any, classes: Classes) -> Metric:
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, str):
        found = named(metric, classes)
        if found is None:
            raise ValueError(
                f"Trainer: 'metrics' has {metric!r}, expected {', '.join(NAMES)}, a metric of "
                f"scikit-learn or a callable{suggestion(metric, (*NAMES, *_scorers.names()))}"
            )
        return found
    if not callable(metric):
        raise TypeError(f"Trainer: 'metrics' has {metric!r}, expected a name or a callable")
    scorer = _scorers.of_function(metric, classes)
    return Metric(metric) if scorer is None else Metric(scorer, settle=scorer.settle)


def _difference(owner: str, output: Any, target: Any) -> Any:
    y, t = to_numpy(output), to_numpy(target)
    if [n for n in y.shape if n != 1] != [n for n in t.shape if n != 1]:
        raise ValueError(
            f"{owner}: 'target' has shape {t.shape}, expected that of the output, {y.shape}"
        )
    return y.astype(np.float64) - t.reshape(y.shape).astype(np.float64)
