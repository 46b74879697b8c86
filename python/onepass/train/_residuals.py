"""How far the predictions of a regression are from the targets, output by output."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass import _numbers as numbers
from onepass._array import to_numpy
from onepass.train import _report_text
from onepass.train._class_indices import named
from onepass.train._metrics import FEWER_THAN_TWO, r2_of

Floats = NDArray[np.float64]
QUANTILES = {
    "min": 0.0, "10 %": 0.1, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "90 %": 0.9, "max": 1.0,
}  # fmt: skip


class RegressionReport:
    """Errors of a regression, and its residuals: target minus prediction.

    ``str()`` is a table of the outputs, ``text()`` that, the quantiles and a scatter plot for a
    terminal, ``plot()`` a picture. `regression_report` makes one.

    Attributes:
        names: (K,) of the outputs.
        true, predicted, residuals: (N, K).
        rmse, mae: (K,), √mean(residual²), mean(\\|residual\\|).
        r2: (K,), 1 - Σ residual² / Σ (true - mean)²; of targets that are all equal, 1 where every
            residual is 0, else 0; NaN of fewer than two samples.
        bias: (K,), the mean residual. deviation: (K,), around that mean.
        quantiles: name ("min", "10 %", …, "max") → (K,), of the residuals.

    Example:
        >>> from onepass.train import regression_report
        >>> report = regression_report([1.0, 2.0, 4.0], [1.5, 2.0, 3.0])
        >>> report.residuals[:, 0].tolist(), report.mae.tolist()
        ([-0.5, 0.0, 1.0], [0.5])
    """

    def __init__(self, true: Floats, predicted: Floats, names: Sequence[str]) -> None:
        self.names = [str(name) for name in names]
        self.true, self.predicted = true, predicted
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            self.residuals: Floats = true - predicted
            squares = np.mean(self.residuals**2, axis=0)
            self.rmse: Floats = np.sqrt(squares)
            self.mae: Floats = np.mean(np.abs(self.residuals), axis=0)
            self.r2: Floats = r2_of(true, self.residuals)
            self.bias: Floats = self.residuals.mean(axis=0)
            self.deviation: Floats = self.residuals.std(axis=0)
        found = np.quantile(self.residuals, list(QUANTILES.values()), axis=0)
        self.quantiles: dict[str, Floats] = dict(zip(QUANTILES, found, strict=True))

    def text(self, width: int = 80) -> str:
        """The errors, the quantiles of the residuals, and predictions over targets.

        Args:
            width: columns that no line exceeds.
        """
        return _report_text.of_numbers(self, numbers.integer("text", "width", width, 20))

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw predictions over targets, and residuals over predictions, into an image file.

        Of many outputs, those with the smallest R².

        Raises:
            ImportError: Matplotlib is not installed. OSError: the file cannot be written.
        """
        from onepass.train._report_plot import residuals

        residuals(self, path)

    def worst(self, most: int) -> list[int]:
        """The indices, in order, of the outputs with the smallest R²."""
        order = np.argsort(np.where(np.isnan(self.r2), np.inf, self.r2), kind="stable")
        return sorted(order[:most].tolist())

    def to_dict(self) -> dict[str, dict[str, float]]:
        """Output → ``rmse``, ``mae``, ``r2``, ``bias``, ``deviation``."""
        measures = ("rmse", "mae", "r2", "bias", "deviation")
        return {
            name: {measure: float(getattr(self, measure)[k]) for measure in measures}
            for k, name in enumerate(self.names)
        }

    def __str__(self) -> str:
        return _report_text.table_of_numbers(self, 80)

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.true.shape))
        worst = "smallest " * (len(self.names) > 1)  # of outputs of any unit
        return f"RegressionReport({shape}, {worst}r2 {self.r2.min():.4g})"


def regression_report(
    y_true: Any, y_pred: Any, *, target_names: Sequence[str] | None = None
) -> RegressionReport:
    """RMSE, MAE, R² and the residuals of each output of a regression.

    Args:
        y_true: (N,) or (N, K) targets.
        y_pred: predictions, of the same shape; a column (N, 1) is taken for (N,).
        target_names: (K,) names of the outputs, each once; None: y, or y0, y1, ….

    Raises:
        TypeError: an argument is something else than an array of numbers. ValueError: another
            shape, without a sample, NaN or inf.

    Warns of one sample alone (RuntimeWarning), whose R² is NaN.

    Source: residuals as ``sklearn.metrics.PredictionErrorDisplay``, R² as ``r2_score``.

    Example:
        >>> from onepass.train import regression_report
        >>> print(regression_report([[1, 5], [2, 3]], [[1, 4], [3, 3]], target_names=["a", "b"]))
        output    rmse     mae       r2     bias  deviation
        a       0.7071  0.5000  -1.0000  -0.5000     0.5000
        b       0.7071  0.5000   0.5000   0.5000     0.5000
    """
    report = reported(y_true, y_pred, target_names)
    if len(report.true) < 2:
        warnings.warn(f"regression_report: 'r2' is nan: {FEWER_THAN_TWO}", RuntimeWarning, 2)
    return report


def reported(
    y_true: Any, y_pred: Any, target_names: Sequence[str] | None = None
) -> RegressionReport:
    """`regression_report`, without a word on one sample."""
    true, predicted = _numbers_of("y_true", y_true), _numbers_of("y_pred", y_pred)
    if true.shape != predicted.shape:
        raise ValueError(
            f"regression_report: 'y_pred' has shape {predicted.shape}, expected {true.shape}, as "
            "'y_true'"
        )
    if not true.size:
        raise ValueError(f"regression_report: 'y_true' has shape {true.shape}, expected samples")
    outputs = true.shape[1]
    if target_names is None:
        names = ["y"] if outputs == 1 else [f"y{k}" for k in range(outputs)]
    else:
        names = named("regression_report", target_names, "output")
    if len(names) != outputs:
        raise ValueError(
            f"regression_report: 'target_names' has {len(names)} names, expected {outputs}, one an "
            "output"
        )
    return RegressionReport(true, predicted, names)


def _numbers_of(name: str, values: Any) -> Floats:
    """(N, K), in double."""
    try:
        array = np.asarray(values if isinstance(values, (list, tuple)) else to_numpy(values))
        if array.dtype.kind not in "iuf":
            raise TypeError(array.dtype)
        array = array.astype(np.float64)
    except (TypeError, ValueError):
        raise TypeError(
            f"regression_report: {name!r} is {type(values).__name__}, expected an array of numbers"
        ) from None
    if array.ndim not in (1, 2):
        raise ValueError(
            f"regression_report: {name!r} has shape {array.shape}, expected (N,) or (N, outputs)"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"regression_report: {name!r} holds inf or NaN, expected finite numbers")
    return array[:, None] if array.ndim == 1 else array
