"""Metrics of scikit-learn, called as it calls them: true values, then predicted ones."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from onepass._array import is_floating, to_numpy

Classes = Callable[[Any, Any], tuple[Any, Any, Any]]
_OF_MARGINS = ("y_score", "y_scores", "pred_decision")
_OF_SHARES = ("y_proba", "y_prob")
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
    """A function of (outputs, targets), from a scorer or a function of ``sklearn.metrics``."""

    function: Any
    classes: Classes
    probabilities: bool  # one output is that of a sigmoid

    def __call__(self, output: Any, target: Any) -> float:
        function = self.function
        if _is_scorer(function):
            return self._score(output, target)
        if not _of_classes(function, output, target):
            return float(function(_numbers(target), _numbers(output)))
        scores, predicted, true = self.classes(output, target)
        name, second, two = _name(function), _second_argument(function), _is_binary(scores)
        if second == "pred_decision" or (second in _OF_MARGINS and two):
            return float(function(true, _margins(scores)))
        if second in _OF_MARGINS + _OF_SHARES or name in _SHARES_CALLED_PREDICTIONS:
            shares = _shares(scores, self.probabilities)
            if name in _SHARES_CALLED_PREDICTIONS:
                return _log_loss(function, true, shares)
            return float(function(true, shares[:, 1] if two else shares))
        return float(function(true, predicted))

    def _score(self, output: Any, target: Any) -> float:
        """What a scorer says of an estimator that gives these outputs for any X."""
        from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

        if not _of_classes(self.function._score_func, output, target):

            class Regressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
                def fit(self, X: Any, y: Any) -> Any:
                    return self

                def predict(self, X: Any) -> Any:
                    return _numbers(output)

                def __sklearn_is_fitted__(self) -> bool:
                    return True

            return float(self.function(Regressor(), np.zeros((len(output), 1)), _numbers(target)))
        scores, predicted, true = self.classes(output, target)
        shares = _shares(scores, self.probabilities)
        function = self.function._score_func
        if _name(function) in _SHARES_CALLED_PREDICTIONS:
            options = self.function._kwargs
            return float(self.function._sign * _log_loss(function, true, shares, **options))

        class Classifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
            classes_ = np.arange(shares.shape[1])

            def fit(self, X: Any, y: Any) -> Any:
                return self

            def predict(self, X: Any) -> Any:
                return predicted

            def predict_proba(self, X: Any) -> Any:
                return shares

            def decision_function(self, X: Any) -> Any:
                return _margins(scores)

            def __sklearn_is_fitted__(self) -> bool:
                return True

        return float(self.function(Classifier(), np.zeros((len(true), 1)), true))


def find(name: str, classes: Classes, probabilities: bool = False) -> Scorer | None:
    """The scorer or function of that name; None if there is none, or no scikit-learn."""
    try:
        from sklearn import metrics
    except ImportError:
        return None
    if name in metrics.get_scorer_names():
        return Scorer(metrics.get_scorer(name), classes, probabilities)
    function = None if name.startswith("_") else getattr(metrics, name, None)
    known = callable(function) and _second_argument(function) is not None
    return Scorer(function, classes, probabilities) if known else None


def of_function(function: Any, classes: Classes, probabilities: bool = False) -> Scorer | None:
    """The metric for a scorer, or a function of ``sklearn.metrics``; None for any other function.

    A ``functools.partial`` of such a function is one too.
    """
    inner = getattr(function, "func", function)
    theirs = str(getattr(inner, "__module__", "")).startswith("sklearn.metrics")
    if _is_scorer(function) or (theirs and _second_argument(function) is not None):
        return Scorer(function, classes, probabilities)
    return None


def _is_scorer(function: Any) -> bool:
    return hasattr(function, "_score_func")


def _name(function: Any) -> str:
    return str(getattr(getattr(function, "func", function), "__name__", ""))


def _second_argument(function: Any) -> str | None:
    """The name of the argument behind the true values; None for another kind of function."""
    parameters = [*inspect.signature(function).parameters]
    return parameters[1] if parameters[:1] in (["y_true"], ["labels_true"], ["y1"]) else None


def _of_classes(function: Any, output: Any, target: Any) -> bool:
    """Whether a function is of classes. Where scikit-learn does not say so, its targets decide:
    whole numbers, or probabilities beside several outputs."""
    module = str(getattr(getattr(function, "func", function), "__module__", ""))
    if module.startswith("sklearn.metrics."):
        kind = module.rpartition(".")[2]
        if kind in ("_regression", "_classification", "_ranking"):
            return kind != "_regression"
    y, t = to_numpy(output), to_numpy(target)
    if not is_floating(t):
        return True
    several = y.ndim > 1 and y.shape[1] > 1 and t.shape == y.shape
    return bool(several and (t >= 0).all() and np.allclose(t.sum(axis=1), 1))


def _is_binary(scores: Any) -> bool:
    return bool(scores.ndim == 1 or scores.shape[1] == 2)


def _margins(scores: Any) -> Any:
    """Logits in double; of two classes the second over the first. Unlike shares they never tie."""
    z = np.asarray(scores, np.float64)
    return z[:, 1] - z[:, 0] if z.ndim == 2 and z.shape[1] == 2 else z


def _shares(scores: Any, probabilities: bool) -> Any:
    """Softmax in double; of one output, the shares of classes 0 and 1."""
    z = np.asarray(scores, np.float64)
    if z.ndim == 1 and probabilities:
        return np.stack([1 - z, z], axis=1)
    if z.ndim == 1:
        z = np.stack([np.zeros_like(z), z], axis=1)
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def _log_loss(function: Any, true: Any, shares: Any, **options: Any) -> float:
    """With the classes named: an epoch need not have a sample of each."""
    given = {**getattr(function, "keywords", {}), **options}
    labels = {} if "labels" in given else {"labels": np.arange(shares.shape[1])}
    return float(function(true, shares, **labels, **options))


def _numbers(values: Any) -> Any:
    """In double; a column as a vector."""
    array = to_numpy(values).astype(np.float64)
    return array.reshape(-1) if array.ndim == 2 and array.shape[1] == 1 else array
