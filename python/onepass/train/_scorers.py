"""Metrics of scikit-learn, called as it calls them: true values, then predicted ones."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onepass._array import is_floating, to_numpy
from onepass._quiet import ignored
from onepass.train._classes import Classes, UndefinedError, is_binary, margins, said

_OF_MARGINS = ("y_score", "y_scores", "pred_decision")
_OF_SHARES = ("y_proba", "y_prob")
# They give curves, tables and texts.
_NO_NUMBERS = (
    "class_likelihood_ratios",
    "classification_report",
    "confusion_matrix",
    "confusion_matrix_at_thresholds",
    "det_curve",
    "homogeneity_completeness_v_measure",
    "multilabel_confusion_matrix",
    "pair_confusion_matrix",
    "precision_recall_curve",
    "precision_recall_fscore_support",
    "roc_curve",
)
_SHARES_CALLED_PREDICTIONS = ("log_loss", "d2_log_loss_score")  # in earlier scikit-learns


def names() -> Iterable[str]:
    """The names of scikit-learn's scorers; none where it is not installed."""
    try:
        from sklearn.metrics import get_scorer_names
    except ImportError:
        return ()
    found: list[str] = get_scorer_names()
    return found


@dataclass(frozen=True)
class Scorer:
    """A function of (outputs, targets), from a scorer or a function of ``sklearn.metrics``.

    It is NaN where an output is NaN. A function of classes is NaN too where no label counts, and
    where scikit-learn refuses an epoch that lacks samples of some class; one of numbers where it
    refuses the outputs, such as negative ones of a deviance.

    Attributes:
        name: of it in scikit-learn, if nobody has given it options: it is then tried with outputs
            of the epoch's shape before any batch is trained on.
        tried: the shapes of outputs that were.
    """

    function: Any
    classes: Classes
    name: str | None = None
    tried: set[tuple[int, ...]] = field(default_factory=set, compare=False)

    def __call__(self, output: Any, target: Any) -> float:
        function = self.function
        if not self._of_classes(output, target):
            if np.isnan(to_numpy(output)).any():
                raise UndefinedError("an output is NaN")
            try:
                return self._of_numbers(output, target)
            except ValueError as error:
                if not self._takes_numbers(output, target):
                    raise
                raise UndefinedError(str(error)) from error
        scores, true = self.classes.labels(output, target)
        if not true.size:
            raise UndefinedError("no label counts")
        if np.isnan(scores).any():  # scikit-learn refuses them, or would take them for a class
            raise UndefinedError("an output is NaN")
        try:
            return self._score(scores, true) if _is_scorer(function) else self._value(scores, true)
        except ValueError as error:
            count = 2 if scores.ndim == 1 else scores.shape[1]
            lacking = np.setdiff1d(np.arange(count), true)
            if not len(lacking):
                raise
            raise UndefinedError(f"class {lacking[0]} has no sample ({error})") from error

    def settle(self, output: Any, target: Any) -> None:
        """Raise at an epoch's first batch what would make the metric fail at its end."""
        of_classes = self._of_classes(output, target)
        told = said(self.classes.loss)
        if not of_classes and told not in (None, "numbers"):
            raise ValueError(
                f"it is of numbers, and the loss says that outputs are {told}, expected a metric "
                "of classes, such as brier_score_loss, or a function of (outputs, targets)"
            )
        if of_classes and not self._of_margins():
            self.classes.settle(output, target)
        shape = tuple(np.shape(output)[1:])
        if self.name is None or shape in self.tried:
            return
        with ignored():  # of numbers that nobody sees
            if of_classes:
                self._try_classes(output, target)
            else:
                self._try_numbers(output, target)
        self.tried.add(shape)

    def _try_classes(self, output: Any, target: Any) -> None:
        """Refuse a metric that cannot be of so many classes, whatever their scores."""
        scores, _ = self.classes.labels(output, target)
        if np.isnan(scores).all():
            return  # they do not say what they are
        count = 2 if scores.ndim == 1 else scores.shape[1]
        true = np.tile(np.arange(count), 3)
        predicted = np.r_[true[: 2 * count], np.roll(true[:count], 1)]  # some are wrong
        trial = 0.2 + 0.6 * (np.arange(count) == predicted[:, None])
        try:
            if _is_scorer(self.function):
                self._score(trial[:, 1] if scores.ndim == 1 else trial, true)
            else:
                self._value(trial[:, 1] if scores.ndim == 1 else trial, true)
        except ValueError as error:
            others = [name for name in names() if name.startswith(f"{self.name}_")]
            hint = f"; of several classes there are {', '.join(others)}" if others else ""
            raise ValueError(f"it cannot be of {count} classes: {error}{hint}") from error

    def _try_numbers(self, output: Any, target: Any) -> None:
        """Raise what outputs that no metric of these targets refuses would raise."""
        y = to_numpy(target).astype(np.float64)
        if y.size != np.size(output):
            raise ValueError(
                f"the outputs have shape {np.shape(output)}, expected {y.shape} as the targets"
            )
        y = y.reshape(np.shape(output))
        self._of_numbers(np.abs(y) + 1, y)

    def _takes_numbers(self, output: Any, target: Any) -> bool:
        """Whether other outputs could have this metric."""
        try:
            self._try_numbers(output, target)
        except ValueError:
            return False
        return True

    def _of_margins(self) -> bool:
        """Whether it needs no border between two classes."""
        if _is_scorer(self.function):
            asked = self.function._response_method
            return "decision_function" in ([asked] if isinstance(asked, str) else list(asked)[:1])
        return _second_argument(self.function) in _OF_MARGINS

    def _of_classes(self, output: Any, target: Any) -> bool:
        """Whether the function is of classes: as scikit-learn or the loss says, else the targets.

        Raises:
            ValueError: nothing says so, and they may be numbers as well as classes.
        """
        function = self.function._score_func if _is_scorer(self.function) else self.function
        module = str(getattr(getattr(function, "func", function), "__module__", ""))
        if module.startswith("sklearn.metrics."):
            kind = module.rpartition(".")[2]
            if kind in ("_regression", "_classification", "_ranking"):
                return kind != "_regression"
        if getattr(self.function, "_response_method", "predict") != "predict":
            return True
        if (told := said(self.classes.loss)) is not None:
            return told != "numbers"
        y, t = to_numpy(output), to_numpy(target)
        if y.ndim > 1 and y.shape[1] > 1:
            shares = t.shape == y.shape and (t >= 0).all() and np.allclose(t.sum(axis=1), 1)
            return bool(shares) or not is_floating(t)
        if t.size and not ((t == 0) | (t == 1)).all():
            return False
        raise ValueError(
            "all targets are 0 or 1, so they may be classes or numbers, expected a loss that says "
            "which: give it the attribute outputs = 'logits', 'probabilities' or, for a "
            "regression, 'numbers'"
        )

    def _of_numbers(self, output: Any, target: Any) -> float:
        if not _is_scorer(self.function):
            return float(self.function(_numbers(target), _numbers(output)))
        from sklearn.base import BaseEstimator, RegressorMixin

        class Regressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
            def fit(self, X: Any, y: Any) -> Any:
                return self

            def predict(self, X: Any) -> Any:
                return _numbers(output)

            def __sklearn_is_fitted__(self) -> bool:
                return True

        return float(self.function(Regressor(), np.zeros((len(output), 1)), _numbers(target)))

    def _value(self, scores: Any, true: Any) -> float:
        """Of a function, with what its second argument is called for."""
        function = self.function
        name, second, two = _name(function), _second_argument(function), is_binary(scores)
        if second == "pred_decision" or (second in _OF_MARGINS and two):
            return float(function(true, margins(scores)))
        if second in _OF_MARGINS + _OF_SHARES or name in _SHARES_CALLED_PREDICTIONS:
            shares = self.classes.shares(scores)
            if name in _SHARES_CALLED_PREDICTIONS:
                return _log_loss(function, true, shares)
            return float(function(true, shares[:, 1] if two else shares))
        return float(function(true, self.classes.predicted(scores)))

    def _score(self, scores: Any, true: Any) -> float:
        """The score of an estimator that gives these outputs for any X."""
        from sklearn.base import BaseEstimator, ClassifierMixin

        classes, function = self.classes, self.function._score_func
        if _name(function) in _SHARES_CALLED_PREDICTIONS:
            options = self.function._kwargs
            shares = classes.shares(scores)
            return float(self.function._sign * _log_loss(function, true, shares, **options))

        class Classifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
            classes_ = np.arange(2 if scores.ndim == 1 else scores.shape[1])

            def fit(self, X: Any, y: Any) -> Any:
                return self

            def predict(self, X: Any) -> Any:
                return classes.predicted(scores)

            def predict_proba(self, X: Any) -> Any:
                return classes.shares(scores)

            def decision_function(self, X: Any) -> Any:
                return margins(scores)

            def __sklearn_is_fitted__(self) -> bool:
                return True

        return float(self.function(Classifier(), np.zeros((len(true), 1)), true))


def find(name: str, classes: Classes) -> Scorer | None:
    """The scorer or function of that name; None if there is none, or no scikit-learn."""
    try:
        from sklearn import metrics
    except ImportError:
        return None
    if name in metrics.get_scorer_names():
        return Scorer(metrics.get_scorer(name), classes, name)
    function = None if name.startswith("_") else getattr(metrics, name, None)
    if not callable(function):
        return None
    return of_function(function, classes)


def of_function(function: Any, classes: Classes) -> Scorer | None:
    """The metric for a scorer, or a function of ``sklearn.metrics``; None for any other function.

    A ``functools.partial`` of such a function is one too.

    Raises:
        ValueError: it gives no number.
    """
    inner = getattr(function, "func", function)
    theirs = str(getattr(inner, "__module__", "")).startswith("sklearn.metrics")
    if theirs and _name(function) in _NO_NUMBERS:
        raise ValueError(
            f"Trainer: 'metrics' has {_name(function)!r}, which gives no number, expected a "
            "function of (outputs, targets) that takes one out of it"
        )
    if _is_scorer(function):
        return Scorer(function, classes)
    if theirs and _second_argument(function) is not None:
        return Scorer(function, classes, None if inner is not function else _name(function))
    return None


def _is_scorer(function: Any) -> bool:
    return hasattr(function, "_score_func")


def _name(function: Any) -> str:
    return str(getattr(getattr(function, "func", function), "__name__", ""))


def _second_argument(function: Any) -> str | None:
    """The name of the argument behind the true values; None for another kind of function."""
    parameters = [*inspect.signature(function).parameters]
    return parameters[1] if parameters[:1] in (["y_true"], ["labels_true"], ["y1"]) else None


def _log_loss(function: Any, true: Any, shares: Any, **options: Any) -> float:
    """With the classes named: an epoch need not have a sample of each."""
    given = {**getattr(function, "keywords", {}), **options}
    labels = {} if "labels" in given else {"labels": np.arange(shares.shape[1])}
    return float(function(true, shares, **labels, **options))


def _numbers(values: Any) -> Any:
    """In double; a column as a vector."""
    array = to_numpy(values).astype(np.float64)
    return array.reshape(-1) if array.ndim == 2 and array.shape[1] == 1 else array
