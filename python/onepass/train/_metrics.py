"""Metrics: functions of a batch's raw outputs and targets, averaged over samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from onepass._array import to_numpy
from onepass.train._keywords import suggestion

Metric = Callable[[Any, Any], float]


def accuracy(output: Any, target: Any) -> float:
    """Share of right classes.

    The class is the index of the largest value along axis 1, also in targets that are
    probabilities. An output with one logit a sample means class 1 if the logit is positive.
    """
    y, t = to_numpy(output), to_numpy(target)
    if y.ndim == 1 or y.shape[1] == 1:
        return float(np.mean((y.reshape(-1) > 0) == (t.reshape(-1) > 0.5)))
    if t.shape == y.shape:
        t = t.argmax(axis=1)
    return float(np.mean(y.argmax(axis=1) == t))


def mse(output: Any, target: Any) -> float:
    """Mean of (output - target)²."""
    return float(np.mean(_difference("mse", output, target) ** 2))


def mae(output: Any, target: Any) -> float:
    """Mean of |output - target|."""
    return float(np.mean(np.abs(_difference("mae", output, target))))


NAMED: dict[str, Metric] = {"accuracy": accuracy, "mse": mse, "mae": mae}


def resolve(metrics: str | Metric | Sequence[str | Metric]) -> dict[str, Metric]:
    """Name → function, from names and callables (called by their ``__name__``)."""
    chosen: dict[str, Metric] = {}
    if not callable(metrics) and not isinstance(metrics, Iterable):
        raise TypeError(f"Trainer: 'metrics' is {metrics!r}, expected names and callables")
    for metric in [metrics] if isinstance(metrics, str) or callable(metrics) else metrics:
        if isinstance(metric, str):
            if metric not in NAMED:
                raise ValueError(
                    f"Trainer: 'metrics' has {metric!r}, expected {', '.join(NAMED)} or a callable"
                    + suggestion(metric, NAMED)
                )
            name, function = metric, NAMED[metric]
        elif callable(metric):
            name, function = getattr(metric, "__name__", type(metric).__name__), metric
        else:
            raise TypeError(f"Trainer: 'metrics' has {metric!r}, expected a name or a callable")
        if name in chosen or name in ("loss", "lr"):
            raise ValueError(
                f"Trainer: 'metrics' has the name {name!r}, expected one that is not taken"
            )
        chosen[name] = function
    return chosen


def _difference(owner: str, output: Any, target: Any) -> Any:
    y, t = to_numpy(output), to_numpy(target)
    if y.size != t.size:
        raise ValueError(
            f"{owner}: 'target' has shape {t.shape}, expected the size of the output, {y.shape}"
        )
    return y.astype(np.float64) - t.reshape(y.shape)
