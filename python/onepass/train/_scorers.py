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

    def __call__(self, output: Any, target: Any) -> float:
        function = self.function
        if _is_scorer(function):
            return _score(function, output, target, self.classes)
        if not _of_classes(output, target):
            return float(function(_flat(target), _flat(output)))
        scores, predicted, true = self.classes(output, target)
        name, second, two = _name(function), _second_argument(function), _is_binary(scores)
        if second == "pred_decision" or (second in _OF_MARGINS and two):
            return float(function(true, _margins(scores)))
        if second in _OF_MARGINS + _OF_SHARES or name in _SHARES_CALLED_PREDICTIONS:
            shares = _shares(scores)
            return float(function(true, shares[:, 1] if two else shares))
        return float(function(true, predicted))


def find(name: str, classes: Classes) -> Scorer | None:
    """The scorer or function of that name; None if there is none, or no scikit-learn."""
    try:
        from sklearn import metrics
    except ImportError:
        return None
    if name in metrics.get_scorer_names():
        return Scorer(metrics.get_scorer(name), classes)
    function = None if name.startswith("_") else getattr(metrics, name, None)
    known = callable(function) and _second_argument(function) is not None
    return Scorer(function, classes) if known else None


def of_function(function: Any, classes: Classes) -> Scorer | None:
    """The metric for a scorer, or a function of ``sklearn.metrics``; None for any other function.

    A ``functools.partial`` of such a function is one too.
    """
    inner = getattr(function, "func", function)
    ours = str(getattr(inner, "__module__", "")).startswith("sklearn.metrics")
    if _is_scorer(function) or (ours and _second_argument(function) is not None):
        return Scorer(function, classes)
    return None


def _is_scorer(function: Any) -> bool:
    return hasattr(function, "_score_func")


def _name(function: Any) -> str:
    return str(getattr(getattr(function, "func", function), "__name__", ""))


def _second_argument(function: Any) -> str | None:
    """The name of the argument behind the true values; None for another kind of function."""
    parameters = [*inspect.signature(function).parameters]
    return parameters[1] if parameters[:1] in (["y_true"], ["labels_true"], ["y1"]) else None


def _score(scorer: Any, output: Any, target: Any, classes: Classes) -> float:
    """What a scorer says of an estimator that gives these outputs for any X."""
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

    if not _of_classes(output, target):

        class Regressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
            def fit(self, X: Any, y: Any) -> Any:
                return self

            def predict(self, X: Any) -> Any:
                return _flat(output)

            def __sklearn_is_fitted__(self) -> bool:
                return True

        return float(scorer(Regressor(), np.zeros((len(output), 1)), _flat(target)))
    scores, predicted, true = classes(output, target)
    shares = _shares(scores)

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

    return float(scorer(Classifier(), np.zeros((len(true), 1)), true))


def _of_classes(output: Any, target: Any) -> bool:
    """Whether the targets are classes: whole numbers, or probabilities beside several outputs."""
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


def _shares(scores: Any) -> Any:
    """Softmax in double; of one logit, the shares of classes 0 and 1."""
    z = np.asarray(scores, np.float64)
    if z.ndim == 1:
        z = np.stack([np.zeros_like(z), z], axis=1)
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def _flat(values: Any) -> Any:
    array = to_numpy(values)
    return array.reshape(-1) if array.ndim == 2 and array.shape[1] == 1 else array
